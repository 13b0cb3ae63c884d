"""The light network that runs on the robot.

Shen, Liu, Lu and Chen, "A Teacher-Student Model for Vision Place Recognition Using Cross-Metric Knowledge
Distillation", ICRA 2024, https://arxiv.org/abs/2404.01587, section III-B: one branch sums up local tokens with NetVLAD,
the other pools the maps of a convolutional trunk with GeM; both are concatenated and normalised.

Two trunks:

- ``resnet50`` is the paper's: tokens are 16 x 16 patches of the image, embedded; NetVLAD sums them up to 256 numbers, a
  linear layer makes 1024 of these; GeM over the trunk gives the other 1024. Unlike the released network
  (``released.py``) it takes tokens as samples and channels as features, so that images may have any size.
- ``efficientnet_lite0`` is made for processors without a GPU: tokens are the trunk's own at 1/16 scale, GeM pools two
  maps, one at 1/16 and one at 1/32 scale, and a third, small part is the mean token in each quarter of the image, which
  says where in the image things stand. Before all that the light is taken out of the image (``exposure.py``).
  ``efficientnet_lite2`` is the same on a larger trunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tscm_core.models.exposure import ExposureNormalisation
from tscm_core.models.mobile import Lite0Levels, Lite2Levels
from tscm_core.models.netvlad import NetVLAD, NetVLADPooling
from tscm_core.models.network import Network
from tscm_core.models.pooling import GeM
from tscm_core.models.resnet import ResNet50
from tscm_core.models.spec import Spec, read_spec
from tscm_core.models.trunks import TRUNKS

PATCH, PATCH_CHANNELS, PATCH_VLAD = 16, 768, 256
BRANCH = 1024
"""Numbers in the descriptor from tokens, and as many from pooled maps."""
LAYOUT = (2, 2)
"""Rows and columns of the image whose mean tokens are kept apart."""
PART_WEIGHTS = (1.0, 0.9, 0.6)
"""Of tokens, pooled maps and layout. Not learnt: pairs that were seen from the same spot would have layout grow."""
TRUNK_CLASSES = {"efficientnet_lite0": Lite0Levels, "efficientnet_lite2": Lite2Levels}
DEFAULTS: Spec = {"name": "student", "trunk": "efficientnet_lite0", "clusters": 16, "input_size": [320, 240]}
PAPER_DEFAULTS: Spec = {**DEFAULTS, "trunk": "resnet50", "clusters": 64, "input_size": [224, 224]}
CHOICES = {"trunk": ("resnet50", *TRUNK_CLASSES)}


class Student(Network):
    """What both students share: 2048 numbers. ``Student.from_spec`` makes the one that is asked for.

    Settings: ``trunk``; ``clusters`` of NetVLAD; ``input_size``.
    """

    dim = 2 * BRANCH

    def __init__(self, trunk: str, clusters: int, input_size: Sequence[int]) -> None:
        super().__init__()
        width, height = input_size
        self.spec = {"name": "student", "trunk": trunk, "clusters": clusters, "input_size": [width, height]}
        self.mean, self.std, self.input_size = TRUNKS[trunk].mean, TRUNKS[trunk].std, (width, height)

    @classmethod
    def from_spec(cls, spec: Mapping[str, object]) -> Student:
        """See ``Network.from_spec``."""
        full = read_spec(spec, PAPER_DEFAULTS if spec.get("trunk") == "resnet50" else DEFAULTS, CHOICES)
        del full["name"]
        kind = PaperStudent if full["trunk"] == "resnet50" else LiteStudent
        return kind(**full)  # type: ignore[arg-type]


class PaperStudent(Student):
    """The paper's: ResNet-50 and a patch embedding; 22 M parameters, 13 M of them the projection after NetVLAD."""

    trunk_parts: ClassVar[tuple[str, ...]] = ("trunk",)

    def __init__(self, trunk: str, clusters: int, input_size: Sequence[int]) -> None:
        super().__init__(trunk, clusters, input_size)
        self.trunk = ResNet50()
        self.patch_embedding = nn.Conv2d(3, PATCH_CHANNELS, PATCH, PATCH)
        self.net_vlad = NetVLAD(PATCH_CHANNELS, PATCH_VLAD, clusters)
        self.project_tokens = nn.Linear(PATCH_VLAD, BRANCH)
        self.pool = GeM()

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images ``[B, 3, H, W]``, at least 16 x 16, as they are, and the trunk's map ``[B, 1024, H / 16, W / 16]``."""
        return images, self.trunk(images)

    def head(self, *features: Tensor) -> Tensor:
        """What ``features`` returned to ``[B, 2048]``."""
        images, maps = features
        tokens = functional.normalize(_tokens(self.patch_embedding(images)), dim=2)
        parts = self.project_tokens(self.net_vlad(tokens)), self.pool(maps)
        return _joined(parts, parts[0].new_ones(2))


class LiteStudent(Student):
    """EfficientNet-Lite and three parts: tokens (1024), pooled maps (576) and layout (448 on Lite0)."""

    trunk_parts: ClassVar[tuple[str, ...]] = ("exposure", "trunk", "pools")

    part_weights: Tensor

    def __init__(self, trunk: str, clusters: int, input_size: Sequence[int]) -> None:
        super().__init__(trunk, clusters, input_size)
        self.exposure = ExposureNormalisation(self.mean, self.std)
        self.trunk = TRUNK_CLASSES[trunk]()
        channels, levels = self.trunk.token_channels, self.trunk.level_channels
        layout = LAYOUT[0] * LAYOUT[1] * channels
        self.pools = nn.ModuleList(GeM() for _ in levels)
        self.net_vlad = NetVLADPooling(channels, clusters)
        self.project_tokens = nn.Linear(channels * clusters, BRANCH)
        self.project_levels = nn.Linear(sum(levels), BRANCH - layout)
        self.project_layout = nn.Linear(layout, layout)
        self.register_buffer("part_weights", torch.tensor(PART_WEIGHTS))

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images ``[B, 3, H, W]`` to tokens ``[B, C, H / 16, W / 16]`` and pooled maps ``[B, C']`` of two levels."""
        tokens, *levels = self.trunk(self.exposure(images))
        return (tokens, *(pool(level) for pool, level in zip(self.pools, levels, strict=True)))

    def head(self, *features: Tensor) -> Tensor:
        """What ``features`` returned to ``[B, 2048]``."""
        before = self.before_projection(*features)
        parts = [projection(part) for projection, part in zip(self.projections(), before, strict=True)]
        return _joined(parts, self.part_weights)

    def projections(self) -> tuple[nn.Linear, ...]:
        """The last layer of each part."""
        return self.project_tokens, self.project_levels, self.project_layout

    def before_projection(self, *features: Tensor) -> tuple[Tensor, ...]:
        """What each of ``projections`` is given: ``[B, inputs]``."""
        tokens, *levels = features
        pooled = torch.cat([functional.normalize(level, dim=1) for level in levels], dim=1)
        layout = functional.normalize(_quarters(tokens), dim=1)
        return self.net_vlad(self.local_tokens(tokens)), pooled, layout

    def local_tokens(self, tokens: Tensor) -> Tensor:
        """The trunk's map ``[B, C, H, W]`` as NetVLAD takes it: ``[B, H * W, C]``, each of unit length."""
        return functional.normalize(_tokens(tokens), dim=2)


def _joined(parts: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Parts ``[B, D]`` of unit length each, weighted, side by side, of unit length."""
    weighted = [weight * functional.normalize(part, dim=1) for weight, part in zip(weights, parts, strict=True)]
    return functional.normalize(torch.cat(weighted, dim=1), dim=1)


def _tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)  # [B, C, H, W] to [B, H * W, C]


def _quarters(maps: Tensor) -> Tensor:
    """Mean of each quarter, ``[B, C, H, W]`` to ``[B, 4 * C]``; a middle row or column counts on both sides.

    As ``adaptive_avg_pool2d`` does, in operations that every exporter knows.
    """
    rows, columns = maps.shape[-2:]
    top, left = (rows + 1) // 2, (columns + 1) // 2
    parts = [
        part.mean(dim=(2, 3))
        for row in (maps[:, :, :top], maps[:, :, rows - top :])
        for part in (row[..., :left], row[..., columns - left :])
    ]
    return torch.stack(parts, dim=2).flatten(1)
