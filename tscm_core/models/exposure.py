"""The light taken out of an image, as far as one curve for all its pixels can do that."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tscm_core.models.network import Rgb

MIDDLE = 0.45
"""What the mean of an image, 0 to 1, is brought towards."""
FLATTEST, STEEPEST = 0.35, 1.6
"""Limits of gamma: darkness is not made of noise alone, and snow stays bright."""
SPREAD = 0.47
"""Standard deviation of an ordinary photograph as EfficientNet-Lite, in its own normalisation, was trained on."""
_LEAST_SPREAD = 0.05


class ExposureNormalisation(nn.Module):
    """Each image by itself: gamma brings its mean to the middle, then mean 0 and an ordinary contrast.

    A camera that comes back at dusk or in snow sees other numbers of the same place. No weights.

    Args:
        mean: that images were normalised with, RGB values 0 to 255.
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Rgb, std: Rgb) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) / 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]``, normalised with mean and std, to ``[B, 3, H, W]`` of mean 0 and standard deviation 0.47.

        An image of nearly one colour gets less: its noise is not blown up without bound.
        """
        light = (images * self.std + self.mean).clamp(1e-3, 1.0)
        middle = light.mean(dim=(1, 2, 3), keepdim=True).clamp(0.02, 0.9)
        light = light.pow((math.log(MIDDLE) / middle.log()).clamp(FLATTEST, STEEPEST))
        light = light - light.mean(dim=(1, 2, 3), keepdim=True)
        spread = light.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return light * (SPREAD / spread.clamp(min=_LEAST_SPREAD))
