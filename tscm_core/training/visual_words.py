"""NetVLAD's visual words put where the tokens of real images are, before the first step.

Arandjelović et al., "NetVLAD", CVPR 2016, https://arxiv.org/abs/1511.07247, section 3.1 and appendix A.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tscm_core.models.netvlad import NetVLADPooling
from tscm_core.models.network import Network
from tscm_core.training.images import Images, Progress, normalise

_BATCH = 8
_TOKENS_AN_IMAGE = 100
_DRAW = 3


def place_visual_words(network: Network, images: Images, count: int, seed: int, progress: Progress) -> None:
    """Run ``count`` images through the network and start each NetVLAD in it from the tokens that it was given.

    Args:
        network: changed in place; in eval mode afterwards.
        images: to draw from.
        count: images to draw, at most all.
        seed: of the run.
        progress: told how far it is.

    Raises:
        DatasetError: an image cannot be read.
    """
    layers = [module for module in network.modules() if isinstance(module, NetVLADPooling)]
    if not layers or not count:
        return
    rng = np.random.default_rng([seed, _DRAW])
    chosen = sorted(int(i) for i in rng.choice(len(images), min(count, len(images)), replace=False))
    tokens: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}

    def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        part = given[0].float()  # [B, N, C]
        every = max(1, part.shape[1] // _TOKENS_AN_IMAGE)
        tokens[layer].append(part[:, ::every].flatten(0, 1))

    handles = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        with torch.no_grad():
            for done, pixels in enumerate(images.batches(chosen, _BATCH)):
                network.eval()(normalise(pixels, network))
                progress("Looking for visual words", min(len(chosen), (done + 1) * _BATCH), len(chosen))
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        layer.init_clusters(torch.cat(tokens[layer]))
