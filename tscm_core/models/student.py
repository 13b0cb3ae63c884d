"""The light network that runs on the robot: a convolutional trunk, pooled and normalised.

Shen, Liu, Lu and Chen, "A Teacher-Student Model for Vision Place Recognition Using Cross-Metric Knowledge
Distillation", ICRA 2024, https://arxiv.org/abs/2404.01587. This is the trunk with its GeM branch.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from tscm_core.models.mobile import EfficientNetLite0
from tscm_core.models.pooling import GeM


class Student(nn.Module):
    """EfficientNet-Lite0 and GeM: 3.4 M parameters, descriptors of 1280 numbers, any input size."""

    architecture = "efficientnet_lite0-gem"
    mean = (127.0, 127.0, 127.0)
    """Subtracted from RGB values 0 to 255; what the published weights were trained with."""
    std = (128.0, 128.0, 128.0)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0()
        self.pool = GeM()
        self.dim = self.trunk.out_channels

    def forward(self, images: Tensor) -> Tensor:
        """Normalised RGB images ``[B, 3, H, W]`` to unit-length descriptors ``[B, 1280]``."""
        return functional.normalize(self.pool(self.trunk(images)), dim=1)
