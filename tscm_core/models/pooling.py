"""Generalised-mean pooling.

Radenović, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019,
https://arxiv.org/abs/1711.02512, equation 3: ``f_k = (1 / |X_k| * sum_x x^p) ^ (1 / p)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GeM(nn.Module):
    """Generalised mean over all positions of each channel; ``p`` is learnt. p = 1 is the mean, p → ∞ the maximum."""

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C]``."""
        powers = features.clamp(min=self.eps).pow(self.p)
        return powers.mean(dim=(-2, -1)).pow(1.0 / self.p)
