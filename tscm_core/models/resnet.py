"""ResNet-50 without its last stage, the trunk of the paper's teacher and student.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385, equation 1: ``y = F(x, {W_i}) + x``.

The stride of a block is in its 3x3 convolution, as in torchvision, whose ``resnet50`` has the same parameter names:
its published weights load by name.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 4
"""A block of width w puts out 4 w channels."""
STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2))
"""Blocks, width and stride of ``layer1`` to ``layer3``; ``layer4`` (3, 512, 2) is left out."""


class Bottleneck(nn.Module):
    """1x1 convolution down, 3x3, 1x1 up, each with batch norm; the input is added."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, 4 * width, H / stride, W / stride]``."""
        hidden = functional.relu(self.bn1(self.conv1(x)))
        hidden = functional.relu(self.bn2(self.conv2(hidden)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.bn3(self.conv3(hidden)) + shortcut)


class ResNet50(nn.Module):
    """Stem and three of the four stages: 8.5 M parameters, 1024 channels at 1/16 scale."""

    out_channels = STAGES[-1][1] * EXPANSION
    level_channels = tuple(width * EXPANSION for _, width, _ in STAGES[1:])
    """Channels of each map that ``levels`` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(64, *STAGES[0])
        self.layer2 = _stage(STAGES[0][1] * EXPANSION, *STAGES[1])
        self.layer3 = _stage(STAGES[1][1] * EXPANSION, *STAGES[2])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def levels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Normalised images ``[B, 3, H, W]`` to the maps of ``layer2`` (1/8 scale) and ``layer3`` (1/16)."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        middle = self.layer2(self.layer1(x))
        return middle, self.layer3(middle)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images ``[B, 3, H, W]`` to features ``[B, 1024, ceil(H / 16), ceil(W / 16)]``."""
        return self.levels(x)[-1]


def _stage(inputs: int, blocks: int, width: int, stride: int) -> nn.Sequential:
    rest = [Bottleneck(width * EXPANSION, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(inputs, width, stride), *rest)


def from_torchvision_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of torchvision's ``resnet50`` that belong to the trunk: all but ``layer4.*`` and ``fc.*``."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(("layer4.", "fc."))}
