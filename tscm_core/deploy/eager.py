"""The backend that runs everywhere PyTorch runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tscm_core.checkpoints import load_student, model_id
from tscm_core.config import ModelConfig
from tscm_core.deploy.threads import limit_threads
from tscm_core.memory import keep_memory
from tscm_core.models.network import Network
from tscm_core.recognition.image import resize
from tscm_core.recognition.records import Rgb

_WARM_UP = 3
"""The first runs of a network take ten times as long as the others: better now than on the first image."""


class EagerDescriber:
    """A network in eager PyTorch on the CPU. Keeps the ``Describer`` protocol.

    Args:
        network: what makes the descriptors.
        input_size: (width, height) that images are resized to; ``None``: the network's own.
    """

    def __init__(self, network: Network, input_size: tuple[int, int] | None = None) -> None:
        input_size = input_size or network.input_size
        self._network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(network.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(network.std).view(1, 3, 1, 1)
        self.dim = network.dim
        self.input_size = input_size
        self.model_id = model_id(network, f"{input_size[0]}x{input_size[1]}")

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """Images of any size, RGB ``uint8 [H, W, 3]``, to unit-length descriptors ``float32 [B, dim]``.

        Raises:
            ImageError: one of them is not such an image.
        """
        if not images:
            return np.empty((0, self.dim), np.float32)
        batch = np.stack([resize(image, self.input_size) for image in images])
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float()  # [B, 3, H, W], channels last in memory
            return np.ascontiguousarray(self._network((pixels - self._mean) / self._std).numpy())


def load_describer(config: ModelConfig) -> EagerDescriber:
    """The describer that ``config`` asks for; also limits the threads of this process to ``config.threads``.

    Raises:
        ModelFileError: the weights cannot be loaded.
        MissingDependencyError: ``config.weights`` is ``imagenet`` and its package is not installed.
    """
    limit_threads(config.threads)
    keep_memory()
    describer = EagerDescriber(load_student(config.weights))
    for _ in range(_WARM_UP):
        describer.describe([np.zeros((*describer.input_size[::-1], 3), np.uint8)])
    return describer
