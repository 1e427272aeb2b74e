"""The frozen CLIP image tower.

Shapes: N images, P patches, L tokens, C width, S image side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.models.fused.onednn import PackedAttention

Term = Callable[[Tensor], Tensor]
"""What a method makes of (N, L, C) states within a block."""


class VisionTower(nn.Module):
    """An open_clip VisionTransformer, frozen, whose blocks a method runs as it needs them."""

    def __init__(self, visual: Any) -> None:
        """Wrap `visual` (frozen here)."""
        super().__init__()
        self.visual: Any = visual.requires_grad_(False)

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

    @property
    def blocks(self) -> int:
        """Number of transformer blocks."""
        return len(self.visual.transformer.resblocks)

    def embed(self, images: Tensor) -> Tensor:
        """Return (N, 1 + P, C) states before the first block, the class token first.

        Args:
            images: (N, 3, S, S), normalized.
        """
        visual = self.visual
        x = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1)
        embedded: Tensor = visual.ln_pre(x + visual.positional_embedding.to(x.dtype))
        return embedded

    def block(
        self,
        index: int,
        x: Tensor,
        before_attention: Term | None = None,
        beside_mlp: Term | None = None,
    ) -> Tensor:
        """Run one block.

        Args:
            index: Of the block.
            x: (N, L, C) states.
            before_attention: Changes the normed states that attention reads.
            beside_mlp: Makes a term of the normed states that the MLP reads; it is added last.

        Returns:
            (N, L, C).
        """
        block = self.visual.transformer.resblocks[index]
        y = block.ln_1(x)
        y = y if before_attention is None else before_attention(y)
        # The scales of layers are the identity in towers that have none.
        x = x + block.ls_1(_self_attention(block.attn, y))
        z = block.ln_2(x)
        out: Tensor = x + block.ls_2(block.mlp(z))
        return out if beside_mlp is None else out + beside_mlp(z)

    def final_norm(self, x: Tensor) -> Tensor:
        """Return `ln_post` of (N, L, C) states."""
        normed: Tensor = self.visual.ln_post(x)
        return normed


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
