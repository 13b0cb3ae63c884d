"""Cross-attention against PyTorch's own, and which branch looks at which."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tscm_core.models.inter_transformer import CrossAttention, InterTransformer

WIDTH = 12


@pytest.fixture
def tokens():
    torch.manual_seed(0)
    return torch.randn(2, 5, WIDTH, dtype=torch.float64), torch.randn(2, 7, WIDTH, dtype=torch.float64)


def twin_of(attention):
    """PyTorch's attention with the weights of ours."""
    twin = nn.MultiheadAttention(WIDTH, attention.heads, batch_first=True).double()
    layers = (attention.q_linear, attention.k_linear, attention.v_linear)
    twin.in_proj_weight.data = torch.cat([layer.weight for layer in layers]).data
    twin.in_proj_bias.data = torch.cat([layer.bias for layer in layers]).data
    twin.out_proj.weight.data, twin.out_proj.bias.data = attention.out.weight.data, attention.out.bias.data
    return lambda queries, others: twin(queries, others, others)[0]


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_pytorchs(tokens, heads):
    attention = CrossAttention(WIDTH, heads).double()
    found = attention(*tokens)
    assert found.shape == tokens[0].shape
    assert torch.allclose(found, twin_of(attention)(*tokens), atol=1e-12)


def test_both_branches_look_at_the_other_ones_original_tokens(tokens):
    first, second = tokens
    encoder = InterTransformer(WIDTH, heads=4, hidden=9).double()
    found = encoder(first, second)
    for ours, x, y, attention, feed in (
        (found[0], first, second, encoder.attn1, encoder.ff1),
        (found[1], second, first, encoder.attn2, encoder.ff2),
    ):
        mixed = x + twin_of(attention)(x, y)
        hidden = (mixed @ feed.linear_1.weight.T + feed.linear_1.bias).clamp(min=0)
        assert torch.allclose(ours, mixed + hidden @ feed.linear_2.weight.T + feed.linear_2.bias, atol=1e-12)


def test_gradients_are_those_of_differences(tokens):
    encoder = InterTransformer(WIDTH, heads=2, hidden=4).double()
    first, second = (t[:1, :3].clone().requires_grad_() for t in tokens)
    assert torch.autograd.gradcheck(encoder, (first, second))
