"""Where a head starts from, computed in closed form from features of a frozen trunk.

Visual words by k-means (Arandjelović et al., CVPR 2016, section 3.1), then for each part of the descriptor the
discriminative projection of Radenović, Tolias and Chum, TPAMI 2019, https://arxiv.org/abs/1711.02512, section 3.3,
after Mikolajczyk and Matas, ICCV 2007: directions in which images of one place differ (light, weather, viewpoint) are
shrunk to equal size, and of the directions that are left, those in which places differ most are kept.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import ConfigError
from tscm_core.models.network import Network
from tscm_core.models.student import LiteStudent
from tscm_core.training.feature_cache import FeatureCache
from tscm_core.training.images import Progress

REGULARISATION = 0.1
"""Added to each variance within places, as a part of their mean: rare directions are not blown up."""
_TOKENS = 60_000
_BATCH = 64


@torch.no_grad()
def whiten(network: Network, features: FeatureCache, places: PlaceSet, seed: int, progress: Progress) -> None:
    """Set visual words and last layers of a student's head.

    Args:
        network: a student on an EfficientNet-Lite trunk, in eval mode.
        features: of its trunk, for all images of ``places`` in several variants.
        places: what shows the same place.
        seed: of the sample of tokens.
        progress: told how far it is.

    Raises:
        ConfigError: the network has no such head, or too few visual words for it.
    """
    if not isinstance(network, LiteStudent):
        raise ConfigError(f"init.whiten is for a student on an EfficientNet-Lite trunk, not for {network.architecture}")
    for layer in network.projections():
        if layer.in_features < layer.out_features:
            raise ConfigError(
                f"init.whiten keeps {layer.out_features} directions, but {network.spec['clusters']} clusters have only "
                f"{layer.in_features}: raise network.clusters"
            )
    variants = np.arange(features.variants)
    network.net_vlad.init_clusters(_sample_tokens(network, features, seed))
    vectors = _vectors(network, features, progress)  # for each part [N, V, D]
    pairs = _pairs(places)
    for projection, part in zip(network.projections(), vectors, strict=True):
        _set_projection(projection, part.reshape(-1, part.shape[2]), _differences(part, variants, pairs))


def discriminative_projection(
    vectors: NDArray[np.float32], differences: NDArray[np.float32], dim: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The projection and its origin: ``(x - origin) @ projection`` is the whitened ``x``.

    Args:
        vectors: ``[M, D]``, all of them.
        differences: ``[P, D]``, between vectors of the same place.
        dim: directions to keep, at most D.

    Returns:
        ``projection`` ``float64 [D, dim]`` and ``origin`` ``float64 [D]``.
    """
    origin = vectors.mean(axis=0, dtype=np.float64)
    within = (differences.T @ differences).astype(np.float64) / (2 * len(differences))  # [D, D]
    within += np.eye(len(within)) * REGULARISATION * np.trace(within) / len(within)
    variances, axes = np.linalg.eigh(within)
    whitening = axes / np.sqrt(variances)  # [D, D]
    white = (vectors - origin.astype(np.float32)) @ whitening.astype(np.float32)
    _, kept = np.linalg.eigh((white.T @ white).astype(np.float64) / len(white))
    return whitening @ kept[:, ::-1][:, :dim], origin


def _set_projection(layer: nn.Linear, vectors: NDArray[np.float32], differences: NDArray[np.float32]) -> None:
    projection, origin = discriminative_projection(vectors, differences, layer.out_features)
    spread = float(np.sqrt(np.mean(np.square((vectors[:2000] - origin) @ projection)) * layer.out_features))
    layer.weight.copy_(torch.from_numpy(projection.T / spread))
    assert layer.bias is not None, "all last layers have one"
    layer.bias.copy_(torch.from_numpy(-origin @ projection / spread))


def _sample_tokens(network: LiteStudent, features: FeatureCache, seed: int) -> Tensor:
    rng = np.random.default_rng([seed, len(features)])
    images = rng.permutation(len(features))[: _TOKENS // 20]
    tokens = [
        network.local_tokens(features.take([int(i)], [int(rng.integers(features.variants))])[0].float())[0]
        for i in images
    ]
    drawn = [part[rng.permutation(len(part))[: max(1, _TOKENS // len(images))]] for part in tokens]
    return torch.cat(drawn)


def _vectors(network: LiteStudent, features: FeatureCache, progress: Progress) -> list[NDArray[np.float32]]:
    count, variants = len(features), features.variants
    found: list[NDArray[np.float32]] = []
    jobs = [(i, v) for i in range(count) for v in range(variants)]
    for start in range(0, len(jobs), _BATCH):
        images, chosen = zip(*jobs[start : start + _BATCH], strict=True)
        parts = network.before_projection(*(level.float() for level in features.take(images, chosen)))
        found = found or [np.empty((len(jobs), part.shape[1]), np.float32) for part in parts]
        for whole, part in zip(found, parts, strict=True):
            whole[start : start + len(part)] = part.numpy()
        progress("Whitening", start + len(images), len(jobs))
    return [whole.reshape(count, variants, -1) for whole in found]


def _pairs(places: PlaceSet) -> NDArray[np.int64]:
    """Up to four pairs of images for each query, ``[P, 2]``: spread over its positives."""
    found: list[tuple[int, int]] = []
    for query in np.flatnonzero(places.is_query):
        positives = places.positives(int(query))
        found += [(int(query), int(other)) for other in positives[:: max(1, len(positives) // 4)][:4]]
    return np.array(found, np.int64).reshape(-1, 2)


def _differences(part: NDArray[np.float32], variants: Iterable[int], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Between the clean image and each variant of itself, and between a clean image and a variant of its positives."""
    count = part.shape[1]
    own = [part[:, v] - part[:, 0] for v in variants if v]
    other = part[pairs[:, 0], 0] - part[pairs[:, 1], np.arange(len(pairs)) % count]
    return np.concatenate([*own, other])
