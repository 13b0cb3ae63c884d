"""Vision Transformer ViT-B/16, the second branch of the teacher.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021,
https://arxiv.org/abs/2010.11929, equations 1 to 4: ``z_0 = [x_class; x_p E] + E_pos``,
``z' = MSA(LN(z)) + z``, ``z = MLP(LN(z')) + z'``, ``y = LN(z)``.

Parameter names are those of timm's ``vit_base_patch16_224``: its published weights load by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 768
PATCH = 16
GRID = 14
"""Patches to a side of the 224 x 224 images of pre-training, which the position embedding is made for."""
_EPS = 1e-6


class PatchEmbed(nn.Module):
    """Cuts an image into patches of 16 x 16 and projects each to a token."""

    def __init__(self, width: int = WIDTH, patch: int = PATCH) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, width, H // 16, W // 16]``; what is left of a patch at the border is cut off."""
        patches: Tensor = self.proj(images)
        return patches


class Attention(nn.Module):
    """Multi-head self-attention: ``softmax(q k^T / sqrt(d)) v`` for each head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, width * 3)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, C]`` to ``[B, N, C]``."""
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, N, C / heads]
        attended = functional.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.proj(attended.transpose(1, 2).reshape(batch, count, width))
        return mixed


class Mlp(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, C]`` to ``[B, N, C]``."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return out


class Block(nn.Module):
    """Self-attention and MLP, each behind a layer norm and beside a skip connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = Mlp(width, width * 4)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, C]`` to ``[B, N, C]``."""
        attended: Tensor = tokens + self.attn(self.norm1(tokens))
        out: Tensor = attended + self.mlp(self.norm2(attended))
        return out


class VisionTransformer(nn.Module):
    """ViT-B/16 without classifier: 86 M parameters, one token of 768 numbers for each patch of 16 x 16 pixels.

    Args:
        embed_positions: add the position embedding and let a class token take part in attention, as published; false:
            neither exists, as in the released teacher.
        width: channels of a token.
        depth: blocks.
        heads: attention heads in each block.
    """

    def __init__(self, *, embed_positions: bool = True, width: int = WIDTH, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.embed_positions = embed_positions
        self.out_channels = width
        if embed_positions:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID * GRID, width))
            nn.init.normal_(self.cls_token, std=_EPS)
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.patch_embed = PatchEmbed(width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=_EPS)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``[B, 3, H, W]``, of any size from 16 x 16 on, to patch tokens ``[B, N, 768]``.

        N is ``(H // 16) * (W // 16)``, row by row; the class token is left out.
        """
        patches = self.patch_embed(images)  # [B, C, H / 16, W / 16]
        tokens = patches.flatten(2).transpose(1, 2)  # [B, N, C]
        if not self.embed_positions:
            out: Tensor = self.norm(self.blocks(tokens))
            return out
        class_token = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat((class_token, tokens + self._positions(patches.shape[2], patches.shape[3])), dim=1)
        out = self.norm(self.blocks(tokens))
        return out[:, 1:]

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The position embedding ``[1, rows * columns, C]`` of another grid, interpolated bicubically."""
        grid = self.pos_embed[:, 1:]
        if (rows, columns) == (GRID, GRID):
            return grid
        square = grid.reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)  # [1, C, 14, 14]
        return functional.interpolate(square, (rows, columns), mode="bicubic").flatten(2).transpose(1, 2)


def from_timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of timm's ``vit_base_patch16_224`` that make tokens: all but the classifier.

    ``head.*`` and, in older files, ``pre_logits.*`` are dropped.
    """
    return {name: tensor for name, tensor in state.items() if not name.startswith(("head.", "pre_logits."))}
