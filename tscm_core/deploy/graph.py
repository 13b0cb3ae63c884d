"""What is compiled: images as a camera gives them to descriptors, preprocessing and network in one graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tscm_core.models.network import Network


class DescribeImages(nn.Module):
    """RGB ``uint8`` images to descriptors: normalisation with the network's mean and std, then the network.

    Args:
        network: in eval mode; shared, not copied.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(network.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(network.std).view(1, 3, 1, 1), persistent=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """``uint8 [B, H, W, 3]`` to ``float32 [B, dim]`` of unit length."""
        pixels = images.float().permute(0, 3, 1, 2)  # [B, 3, H, W]; floats first: TensorRT moves no bytes around
        descriptors: Tensor = self.network((pixels - self.mean) / self.std)
        return descriptors
