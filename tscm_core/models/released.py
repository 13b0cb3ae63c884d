"""The networks that the authors of TSCM released, with all their peculiarities, for their weights.

Shen, Liu, Lu and Chen, "A Teacher-Student Model for Vision Place Recognition Using Cross-Metric Knowledge
Distillation", ICRA 2024, https://arxiv.org/abs/2404.01587; descriptor: ``[VLAD(...); ...; GeM(f)]``, normalised.
``tscm import-checkpoint`` makes files for these from the authors' checkpoints.

Kept exactly, because the weights fit nothing else:

- the student's NetVLAD takes 768 samples of 196 numbers: the matrix of 196 tokens by 768 channels is re-cut in memory
  order, so that a sample crosses token borders;
- the teacher's ViT has neither class token nor position embedding;
- the teacher cuts each token in two before NetVLAD;
- all of this ties them to images of 224 x 224.

The authors normalise an image first (ToTensor, Normalize with ImageNet's mean and std) and then resize it, bilinearly,
to 224 x 224. Both steps are linear and commute: resizing first gives the same, but for the rounding to whole values of
an 8-bit image. ``mean``, ``std`` and ``input_size`` say all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tscm_core.errors import ImageError
from tscm_core.models.inter_transformer import InterTransformer
from tscm_core.models.netvlad import NetVLAD
from tscm_core.models.network import Network
from tscm_core.models.pooling import GeM
from tscm_core.models.resnet import ResNet50
from tscm_core.models.spec import Spec, read_spec
from tscm_core.models.vit import WIDTH, PatchEmbed, VisionTransformer

SIDE = 224
TOKENS = 14 * 14
FUSED = 512
"""Channels of the tokens that the teacher's two branches exchange."""
_STUDENT_VLAD = 256


class ReleasedStudent(Network):
    """ResNet-50 with GeM, and a patch embedding with NetVLAD: 12.7 M parameters, 2048 numbers."""

    trunk_parts: ClassVar[tuple[str, ...]] = ("trunk", "patch_embed")
    dim = 2048
    input_size = (SIDE, SIDE)

    def __init__(self) -> None:
        super().__init__()
        self.spec: Spec = {"name": "released_student"}
        self.trunk = ResNet50()
        self.patch_embed = PatchEmbed()
        self.pool = GeM()
        self.net_vlad = NetVLAD(TOKENS, _STUDENT_VLAD)
        self.project = nn.Linear(_STUDENT_VLAD, 1024)

    @classmethod
    def from_spec(cls, spec: Mapping[str, object]) -> ReleasedStudent:
        """See ``Network.from_spec``; there is nothing to set."""
        read_spec(spec, {"name": "released_student"})
        return cls()

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """``[B, 3, 224, 224]`` to the trunk's ``[B, 1024, 14, 14]`` and patch tokens ``[B, 196, 768]``.

        Raises:
            ImageError: the images are of another size.
        """
        _check_size(images)
        return self.trunk(images), self.patch_embed(images).flatten(2).transpose(1, 2)

    def head(self, *features: Tensor) -> Tensor:
        """What ``features`` returned to ``[B, 2048]``: NetVLAD 1024, GeM 1024."""
        feature_map, tokens = features
        samples = tokens.reshape(-1, WIDTH, TOKENS)  # [B, 196, 768] re-cut in memory order
        local = self.project(self.net_vlad(samples))
        return functional.normalize(torch.cat((local, self.pool(feature_map)), dim=1), dim=1)


class ReleasedTeacher(Network):
    """ResNet-50 and ViT-B/16 that exchange tokens, three NetVLADs and GeM: 125 M parameters, 2048 numbers."""

    trunk_parts: ClassVar[tuple[str, ...]] = ("trunk", "vit")
    dim = 2048
    input_size = (SIDE, SIDE)

    def __init__(self) -> None:
        super().__init__()
        self.spec: Spec = {"name": "released_teacher"}
        self.trunk = ResNet50()
        self.vit = VisionTransformer(embed_positions=False)
        self.project_trunk = nn.Linear(ResNet50.out_channels, FUSED)
        self.project_vit = nn.Linear(WIDTH, FUSED)
        self.inter_transformer = InterTransformer(FUSED)
        self.net_vlad = NetVLAD(512, 512)
        self.net_vlad_trunk = NetVLAD(256, 256)
        self.net_vlad_vit = NetVLAD(256, 256)
        self.pool = GeM()

    @classmethod
    def from_spec(cls, spec: Mapping[str, object]) -> ReleasedTeacher:
        """See ``Network.from_spec``; there is nothing to set."""
        read_spec(spec, {"name": "released_teacher"})
        return cls()

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """``[B, 3, 224, 224]`` to the trunk's ``[B, 1024, 14, 14]`` and the ViT's ``[B, 196, 768]``.

        Raises:
            ImageError: the images are of another size.
        """
        _check_size(images)
        return self.trunk(images), self.vit(images)

    def head(self, *features: Tensor) -> Tensor:
        """What ``features`` returned to ``[B, 2048]``: NetVLAD (trunk 256, fused 512, ViT 256), GeM 1024."""
        feature_map, vit_tokens = features
        trunk = self.project_trunk(feature_map.flatten(2).transpose(1, 2))  # [B, 196, 512]
        vit = self.project_vit(vit_tokens)  # [B, 196, 512]
        fused_vit, fused_trunk = self.inter_transformer(vit, trunk)
        beside = (torch.cat((fused_vit, vit), dim=2), torch.cat((fused_trunk, trunk), dim=2))  # each [B, 196, 1024]
        fused = torch.cat(beside, dim=1)  # [B, 392, 1024]
        parts = (
            self.net_vlad_trunk(trunk.reshape(-1, 2 * TOKENS, 256)),
            self.net_vlad(fused.reshape(-1, 4 * TOKENS, 512)),
            self.net_vlad_vit(vit.reshape(-1, 2 * TOKENS, 256)),
            self.pool(feature_map),
        )
        return functional.normalize(torch.cat(parts, dim=1), dim=1)


def _check_size(images: Tensor) -> None:
    height, width = images.shape[-2:]
    if (height, width) != (SIDE, SIDE):
        raise ImageError(
            f"the released networks take images of {SIDE}x{SIDE} only, not {width}x{height}: resize them, or train a "
            f"network of your own"
        )
