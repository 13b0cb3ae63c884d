"""The heavy network that a student learns from.

Shen, Liu, Lu and Chen, "A Teacher-Student Model for Vision Place Recognition Using Cross-Metric Knowledge
Distillation", ICRA 2024, https://arxiv.org/abs/2404.01587, section III-A. With tokens x of a convolutional trunk and y
of a second branch, both projected to 512 channels, and ``x', y' = InterTransformer(x, y)``, the descriptor is
``[NetVLAD(x); NetVLAD(x', x, y', y); NetVLAD(y); GeM(trunk)]``, 256 + 512 + 256 + 1024 numbers.

Unlike the released networks (see ``released.py``) this takes images of any size: tokens are NetVLAD's samples and
channels their features. Each part has unit length before a learnt weight for each part and the last normalisation, so
that none drowns the others at the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tscm_core.models.inter_transformer import InterTransformer
from tscm_core.models.netvlad import NetVLAD
from tscm_core.models.network import Network
from tscm_core.models.pooling import GeM
from tscm_core.models.spec import Spec, read_spec
from tscm_core.models.trunks import TRUNKS
from tscm_core.models.vit import VisionTransformer

WIDTH = 512
"""Channels of the tokens that the branches exchange."""
BRANCH, FUSED, GLOBAL = 256, 512, 1024
"""Numbers in the descriptor: of each branch's NetVLAD, of the fused one, of GeM."""
_VIT_MEAN = _VIT_STD = 127.5
"""What the published ViT-B/16 was trained with, on RGB values 0 to 255."""
DEFAULTS: Spec = {
    "name": "teacher",
    "trunk": "resnet50",
    "second": "vit",
    "gem": "last",
    "clusters": 64,
    "input_size": [320, 240],
}
CHOICES = {"trunk": ("resnet50", "efficientnet_lite2"), "second": ("vit", "trunk"), "gem": ("last", "levels")}


class Teacher(Network):
    """Trunk, second branch, inter-transformer, three NetVLADs and GeM: 2048 numbers.

    Settings: ``trunk``; ``second``: tokens of a ``vit`` (ViT-B/16), or of the ``trunk`` itself one level below its
    last; ``gem``: over the ``last`` map or all ``levels`` of the trunk; ``clusters`` of NetVLAD; ``input_size``.
    """

    trunk_parts: ClassVar[tuple[str, ...]] = ("trunk", "vit")
    dim = 2 * BRANCH + FUSED + GLOBAL

    def __init__(self, trunk: str, second: str, gem: str, clusters: int, input_size: Sequence[int]) -> None:
        super().__init__()
        self.spec = {
            "name": "teacher", "trunk": trunk, "second": second, "gem": gem, "clusters": clusters,
            "input_size": list(input_size),
        }  # fmt: skip
        kind = TRUNKS[trunk]
        self.mean, self.std, self.input_size = kind.mean, kind.std, (input_size[0], input_size[1])
        self.trunk = kind.build()
        self.vit = VisionTransformer() if second == "vit" else None
        self._uses_all_levels = gem == "levels"
        levels = self.trunk.level_channels
        self._build_head(levels[-1], levels[-2] if self.vit is None else self.vit.out_channels, clusters)
        pooled = levels if self._uses_all_levels else levels[-1:]
        self.pools = nn.ModuleList(GeM() for _ in pooled)
        self.project_pooled = nn.Identity() if sum(pooled) == GLOBAL else nn.Linear(sum(pooled), GLOBAL)

    def _build_head(self, trunk_channels: int, second_channels: int, clusters: int) -> None:
        self.project_trunk = nn.Sequential(nn.LayerNorm(trunk_channels), nn.Linear(trunk_channels, WIDTH))
        self.project_second = nn.Sequential(nn.LayerNorm(second_channels), nn.Linear(second_channels, WIDTH))
        self.inter_transformer = InterTransformer(WIDTH)
        self.net_vlad_trunk = NetVLAD(WIDTH, BRANCH, clusters)
        self.net_vlad = NetVLAD(WIDTH, FUSED, clusters)
        self.net_vlad_second = NetVLAD(WIDTH, BRANCH, clusters)
        self.part_weights = nn.Parameter(torch.ones(4))

    @classmethod
    def from_spec(cls, spec: Mapping[str, object]) -> Teacher:
        """See ``Network.from_spec``."""
        full = read_spec(spec, DEFAULTS, CHOICES)
        del full["name"]
        return cls(**full)  # type: ignore[arg-type]

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images ``[B, 3, H, W]`` to those maps of the trunk that are used, coarsest last, then tokens of the ViT."""
        levels = self.trunk.levels(images)
        maps = levels if self._uses_all_levels else levels[-2:] if self.vit is None else levels[-1:]
        return maps if self.vit is None else (*maps, self.vit(self._as_vit_expects(images)))

    def _as_vit_expects(self, images: Tensor) -> Tensor:
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return images * (std / _VIT_STD) + (mean - _VIT_MEAN) / _VIT_STD

    def head(self, *features: Tensor) -> Tensor:
        """What ``features`` returned to ``[B, 2048]``."""
        maps = features if self.vit is None else features[:-1]
        trunk = self.project_trunk(_tokens(maps[-1]))  # [B, N, 512]
        second = self.project_second(_tokens(maps[-2]) if self.vit is None else features[-1])  # [B, M, 512]
        fused = torch.cat((*self.inter_transformer(trunk, second), trunk, second), dim=1)  # [B, 2 (N + M), 512]
        parts = (
            self.net_vlad_trunk(functional.normalize(trunk, dim=2)),
            self.net_vlad(functional.normalize(fused, dim=2)),
            self.net_vlad_second(functional.normalize(second, dim=2)),
            self._pooled(maps),
        )
        weighted = [
            weight * functional.normalize(part, dim=1) for weight, part in zip(self.part_weights, parts, strict=True)
        ]
        return functional.normalize(torch.cat(weighted, dim=1), dim=1)

    def _pooled(self, maps: tuple[Tensor, ...]) -> Tensor:
        used = maps[-len(self.pools) :]
        each = [functional.normalize(pool(level), dim=1) for pool, level in zip(self.pools, used, strict=True)]
        pooled: Tensor = self.project_pooled(torch.cat(each, dim=1))
        return pooled


def _tokens(feature_map: Tensor) -> Tensor:
    return feature_map.flatten(2).transpose(1, 2)  # [B, C, H, W] to [B, H * W, C]
