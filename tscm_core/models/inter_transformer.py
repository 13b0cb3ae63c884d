"""Inter-transformer encoder: two branches of tokens that look at each other.

Shen, Liu, Lu and Chen, "A Teacher-Student Model for Vision Place Recognition Using Cross-Metric Knowledge
Distillation", ICRA 2024, https://arxiv.org/abs/2404.01587, section III-A. For each branch x and the other one y:
``x' = x + MultiHead(Q = x, K = y, V = y)``, ``x'' = x' + W_2 relu(W_1 x')``.

Attention: Vaswani et al., "Attention Is All You Need", 2017, https://arxiv.org/abs/1706.03762, equation 1.
Parameter names are those of the released TSCM networks. There is no layer norm, as there.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class CrossAttention(nn.Module):
    """Multi-head attention of one set of tokens to another: ``softmax(q k^T / sqrt(d)) v``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.v_linear = nn.Linear(width, width)
        self.k_linear = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, others: Tensor) -> Tensor:
        """``[B, N, C]`` that look at ``[B, M, C]``, to ``[B, N, C]``."""
        query = self._split(self.q_linear(tokens))
        key, value = self._split(self.k_linear(others)), self._split(self.v_linear(others))
        attended = functional.scaled_dot_product_attention(query, key, value)  # [B, heads, N, C / heads]
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out

    def _split(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        return tokens.view(batch, count, self.heads, width // self.heads).transpose(1, 2)  # [B, heads, N, C / heads]


class FeedForward(nn.Module):
    """Two layers with a ReLU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, hidden)
        self.linear_2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, C]`` to ``[B, N, C]``."""
        out: Tensor = self.linear_2(functional.relu(self.linear_1(tokens)))
        return out


class InterTransformer(nn.Module):
    """Both branches attend to each other at once, from their original tokens.

    Args:
        width: channels of a token, equal in both branches.
        heads: attention heads.
        hidden: width of the feed-forward layer.
    """

    def __init__(self, width: int = 512, heads: int = 4, hidden: int = 1024) -> None:
        super().__init__()
        self.attn1 = CrossAttention(width, heads)
        self.attn2 = CrossAttention(width, heads)
        self.ff1 = FeedForward(width, hidden)
        self.ff2 = FeedForward(width, hidden)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, N, C]`` and ``[B, M, C]`` to tokens of the same shapes, each informed by the other branch."""
        fused_first = first + self.attn1(first, second)
        fused_second = second + self.attn2(second, first)
        return fused_first + self.ff1(fused_first), fused_second + self.ff2(fused_second)
