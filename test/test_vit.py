"""The vision transformer against PyTorch's own encoder layer, and its position embedding against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tscm_core.models.vit import Block, VisionTransformer, from_timm_names


def twin_of(block, width, heads):
    """PyTorch's pre-norm encoder layer with the weights of a block."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, functional.gelu, 1e-6, batch_first=True, norm_first=True
    )
    pairs = (
        (layer.self_attn.in_proj_weight, block.attn.qkv.weight), (layer.self_attn.in_proj_bias, block.attn.qkv.bias),
        *zip(layer.self_attn.out_proj.parameters(), block.attn.proj.parameters(), strict=True),
        *zip(layer.linear1.parameters(), block.mlp.fc1.parameters(), strict=True),
        *zip(layer.linear2.parameters(), block.mlp.fc2.parameters(), strict=True),
        *zip(layer.norm1.parameters(), block.norm1.parameters(), strict=True),
        *zip(layer.norm2.parameters(), block.norm2.parameters(), strict=True),
    )  # fmt: skip
    for theirs, ours in pairs:
        theirs.data = ours.data
    return layer.eval()


@pytest.fixture
def small():
    torch.manual_seed(0)
    network = VisionTransformer(width=24, depth=2, heads=3).eval()
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    return network


def test_a_block_is_pytorchs_encoder_layer():
    torch.manual_seed(1)
    block, tokens = Block(24, 3).double(), torch.randn(2, 7, 24, dtype=torch.float64)
    for weight in block.parameters():
        nn.init.normal_(weight, std=0.3)
    assert torch.allclose(block(tokens), twin_of(block, 24, 3)(tokens), atol=1e-12)


@pytest.mark.parametrize("embed_positions", [True, False])
def test_tokens_are_those_of_the_formula(small, embed_positions):
    """Patches cut and projected by hand, class token, position embedding, blocks, norm."""
    small.embed_positions = embed_positions
    images = torch.randn(2, 3, 224, 224)
    patches = images.view(2, 3, 14, 16, 14, 16).permute(0, 2, 4, 1, 3, 5).reshape(2, 196, 3 * 16 * 16)
    tokens = patches @ small.patch_embed.proj.weight.reshape(24, -1).T + small.patch_embed.proj.bias
    if embed_positions:
        tokens = torch.cat((small.cls_token.expand(2, 1, 24), tokens), dim=1) + small.pos_embed
    for block in small.blocks:
        tokens = twin_of(block, 24, 3)(tokens)
    expected = functional.layer_norm(tokens, (24,), small.norm.weight, small.norm.bias, 1e-6)[:, -196:]
    assert torch.allclose(small(images), expected, atol=1e-4)


@pytest.mark.parametrize(("size", "count"), [((240, 320), 300), ((16, 16), 1), ((33, 95), 10), ((448, 224), 392)])
def test_any_size_gives_a_token_a_patch(small, size, count):
    assert small(torch.zeros(1, 3, *size)).shape == (1, count, 24)


@pytest.mark.parametrize("grid", [(15, 20), (28, 28), (3, 31)])
def test_positions_are_interpolated_bicubically(small, grid):
    square = small.pos_embed[0, 1:].detach().numpy().reshape(14, 14, 24)
    expected = np.dstack(
        [cv2.resize(channel, grid[::-1], interpolation=cv2.INTER_CUBIC) for channel in np.moveaxis(square, 2, 0)]
    )
    found = small._positions(*grid)[0].detach().numpy()
    assert found == pytest.approx(expected.reshape(-1, 24), abs=1e-4)


def test_the_published_names_and_size():
    """timm's vit_base_patch16_224: 152 tensors, 86,567,656 parameters with its classifier of 768 x 1000 + 1000."""
    with torch.device("meta"):
        state = VisionTransformer().state_dict()
    assert len(state) == 152 - 2
    assert sum(tensor.numel() for tensor in state.values()) == 86_567_656 - 769_000
    with torch.device("meta"):
        assert set(state) - set(VisionTransformer(embed_positions=False).state_dict()) == {"cls_token", "pos_embed"}


def test_the_classifier_is_left_out():
    zero = torch.zeros(1)
    names = ["cls_token", "blocks.0.norm1.weight", "head.weight", "head.bias", "pre_logits.fc.weight"]
    assert list(from_timm_names(dict.fromkeys(names, zero))) == names[:2]
