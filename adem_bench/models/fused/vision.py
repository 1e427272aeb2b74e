"""The frozen CLIP image tower with its small tuned adapters.

Shapes: N images, P patches, C width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.models.fused.methods.adem import linear_as
from adem_bench.models.fused.onednn import PackedAttention

ADAPTER_SCALE = 0.1
"""Constant in the published code (`adem/build.py`), independent of alpha (Q20)."""


class VisionAdapter(nn.Module):
    """`fc2(Dropout(GELU(fc1(x))))` without biases, beside a block's MLP; (…, C) -> (…, C)."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.fc2.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapter's term before its scale, in the precision of `x`."""
        return linear_as(self.fc2, self.dropout(F.gelu(linear_as(self.fc1, x))))


class VisionTower(nn.Module):
    """An open_clip VisionTransformer read before its last block, with an adapter in each block.

    The last block's adapter exists, is saved and counted, but is never run: the published
    code skips that block (Q21).
    """

    def __init__(self, visual: Any, adapter_dim: int) -> None:
        """Wrap `visual` (frozen here) and make untrained adapters of `adapter_dim`."""
        super().__init__()
        self.visual: Any = visual.requires_grad_(False)
        width = visual.conv1.weight.shape[0]
        blocks = len(visual.transformer.resblocks)
        self.adapters = nn.ModuleList(VisionAdapter(width, adapter_dim) for _ in range(blocks))

    @property
    def width(self) -> int:
        """C, the width of the features."""
        return int(self.visual.conv1.weight.shape[0])

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        patch = int(self.visual.conv1.weight.shape[-1])
        return patch * math.isqrt(self.patches)

    @property
    def patches(self) -> int:
        """P, the number of patches of an image."""
        return int(self.visual.positional_embedding.shape[0]) - 1

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, 1 + P, C) features after `ln_post`, the class token first.

        Args:
            images: (N, 3, S, S), normalized.

        Source: ADEM-VL cec09b8 `clip/model.py` (all blocks but the last, `ln_post` on every
        token, no projection) and `adem/adapter.py:67-70`.
        """
        visual = self.visual
        x = self._embed(images.to(visual.conv1.weight.dtype))
        blocks = list(visual.transformer.resblocks)
        for block, adapter in zip(blocks[:-1], self.adapters, strict=False):
            x = x + _self_attention(block.attn, block.ln_1(x))
            z = block.ln_2(x)
            x = x + block.mlp(z) + ADAPTER_SCALE * adapter(z)
        features: Tensor = visual.ln_post(x)
        return features

    def _embed(self, images: Tensor) -> Tensor:
        visual = self.visual
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1)
        embedded: Tensor = visual.ln_pre(x + visual.positional_embedding.to(x.dtype))
        return embedded


def _self_attention(attention: nn.MultiheadAttention | PackedAttention, x: Tensor) -> Tensor:
    """Run a MultiheadAttention's weights through SDPA: (N, L, C) -> (N, L, C)."""
    rows, length, width = x.shape
    if isinstance(attention, PackedAttention):
        packed = attention.in_proj(x)
    else:
        packed = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = packed.view(rows, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    context = F.scaled_dot_product_attention(query, key, value)
    out: Tensor = attention.out_proj(context.transpose(1, 2).reshape(rows, length, width))
    return out
