"""NetVLAD with a hidden projection and context gating.

Arandjelović, Gronát, Torii, Pajdla and Sivic, "NetVLAD: CNN Architecture for Weakly Supervised Place Recognition",
CVPR 2016, https://arxiv.org/abs/1511.07247, equation 4:
``V(:, k) = sum_i a_k(x_i) (x_i - c_k)``, ``a(x_i) = softmax(x_i W + b)``; each V(:, k) is normalised, then all of V.
Miech, Laptev and Sivic, "Learnable pooling with Context Gating for video classification", 2017,
https://arxiv.org/abs/1706.06905, equation 1: the projected V becomes ``y * sigmoid(y W + b)``.

Parameter names are those of the released TSCM networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ContextGating(nn.Module):
    """Each number of a vector weighted by what all the others say."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gating_weights = nn.Parameter(torch.randn(dim, dim) / math.sqrt(dim))
        self.gating_biases = nn.Parameter(torch.zeros(dim))

    def forward(self, vectors: Tensor) -> Tensor:
        """``[B, D]`` to ``[B, D]``."""
        return vectors * torch.sigmoid(vectors @ self.gating_weights + self.gating_biases)


class NetVLADPooling(nn.Module):
    """Tokens, however many, to their residuals from visual words.

    Args:
        channels: numbers in a token.
        clusters: visual words that tokens are assigned to.
    """

    def __init__(self, channels: int, clusters: int = 64) -> None:
        super().__init__()
        self.cluster_weights = nn.Parameter(torch.randn(channels, clusters) / math.sqrt(channels))
        self.cluster_weights2 = nn.Parameter(torch.randn(1, channels, clusters) / math.sqrt(channels))
        self.cluster_biases = nn.Parameter(torch.zeros(clusters))

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, channels]`` to ``[B, channels * clusters]`` of unit length."""
        return self.pool(tokens)

    def pool(self, tokens: Tensor) -> Tensor:
        """``[B, N, channels]`` to ``[B, channels * clusters]`` of unit length."""
        assignment = (tokens @ self.cluster_weights + self.cluster_biases).softmax(dim=2)  # [B, N, K]
        weighted = tokens.transpose(1, 2) @ assignment  # [B, C, K]
        residuals = weighted - assignment.sum(dim=1, keepdim=True) * self.cluster_weights2  # [B, C, K]
        return functional.normalize(functional.normalize(residuals, dim=1).flatten(1), dim=1)

    @torch.no_grad()
    def init_clusters(self, tokens: Tensor, sharpness: float = 10.0, rounds: int = 10) -> None:
        """Put the visual words where the tokens are, as in section 3.1 of the paper: k-means, then soft assignment.

        Args:
            tokens: sample ``[N, channels]`` as they will reach ``forward``; at least as many as there are clusters.
            sharpness: alpha of equation 2, ``a_k ~ exp(-alpha |x - c_k|^2)``.
            rounds: iterations of k-means, which starts from tokens spread evenly over the sample.
        """
        clusters = self.cluster_biases.numel()
        centres = tokens[torch.linspace(0, len(tokens) - 1, clusters, device=tokens.device).long()].clone()
        for _ in range(rounds):
            nearest = torch.cdist(tokens, centres).argmin(dim=1)
            for cluster in torch.unique(nearest):
                centres[cluster] = tokens[nearest == cluster].mean(dim=0)
        self.cluster_weights2.copy_(centres.T[None])
        self.cluster_weights.copy_(2 * sharpness * centres.T)
        self.cluster_biases.copy_(-sharpness * centres.square().sum(dim=1))


class NetVLAD(NetVLADPooling):
    """Tokens, however many, to one vector: pooled, projected and gated.

    Args:
        channels: numbers in a token.
        dim: numbers in the vector.
        clusters: visual words that tokens are assigned to.
    """

    def __init__(self, channels: int, dim: int, clusters: int = 64) -> None:
        super().__init__(channels, clusters)
        self.hidden1_weights = nn.Parameter(torch.randn(channels * clusters, dim) / math.sqrt(channels))
        self.context_gating = ContextGating(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, channels]`` to ``[B, dim]``, not normalised."""
        gated: Tensor = self.context_gating(self.pool(tokens) @ self.hidden1_weights)
        return gated
