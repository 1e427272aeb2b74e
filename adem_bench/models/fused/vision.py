"""Frozen image towers, whose blocks a method runs as it needs them.

Shapes: N images, P patches, L tokens, C width, S image side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer as Trunk
from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.models.fused.onednn import PackedAttention

Term = Callable[[Tensor], Tensor]
"""What a method makes of (N, L, C) states within a block."""


@dataclass(frozen=True, slots=True)
class TowerSizes:
    """The sizes of a vision tower."""

    width: int
    """C."""
    blocks: int
    patches: int
    """P."""
    class_token: bool = True
    """Whether a class token stands before the patches."""

    @property
    def described(self) -> str:
        """The sizes in words, as adapters name the tower that they were tuned with."""
        without = "" if self.class_token else ", no class token"
        return f"{self.blocks} blocks of width {self.width}, {self.patches} patches{without}"


@dataclass(frozen=True, slots=True)
class _Block:
    """The parts of a pre-norm transformer block."""

    norm_1: nn.Module
    attention: Term
    scale_1: nn.Module
    """Of the layer; the identity in towers that have none."""
    norm_2: nn.Module
    mlp: nn.Module
    scale_2: nn.Module


class VisionTower(nn.Module, ABC):
    """A frozen vision transformer; its states are the class token, if it has one, and patches."""

    class_token: bool
    """Whether a class token stands before the patches."""

    def __init__(self, visual: Any) -> None:
        """Wrap `visual` (frozen here)."""
        super().__init__()
        self.visual: Any = visual.requires_grad_(False)

    @property
    @abstractmethod
    def width(self) -> int:
        """C, the width of the features."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Side of the square input in pixels."""

    @property
    @abstractmethod
    def patches(self) -> int:
        """P, the number of patches of an image."""

    @property
    @abstractmethod
    def blocks(self) -> int:
        """Number of transformer blocks."""

    @property
    def sizes(self) -> TowerSizes:
        """All that methods' tensors follow."""
        return TowerSizes(self.width, self.blocks, self.patches, self.class_token)

    @property
    @abstractmethod
    def first_and_last_weights(self) -> tuple[Tensor, Tensor]:
        """Weights of the patch embedding and of the last block's second linear layer."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Return (N, L, C) states before the first block; a class token comes first.

        Args:
            images: (N, 3, S, S), normalized.
        """

    @abstractmethod
    def _block(self, index: int) -> _Block:
        """Return the parts of a block."""

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
        block = self._block(index)
        y = _normed(block.norm_1, x)
        y = y if before_attention is None else before_attention(y)
        x = x + block.scale_1(block.attention(y))
        z = _normed(block.norm_2, x)
        out: Tensor = x + block.scale_2(block.mlp(z))
        return out if beside_mlp is None else out + beside_mlp(z)

    @abstractmethod
    def final_norm(self, x: Tensor) -> Tensor:
        """Return (N, L, C) states after the tower's last norm."""

    def patch_states(self, x: Tensor) -> Tensor:
        """Return the (N, P, C) patches of (N, L, C) states."""
        return x[:, 1:] if self.class_token else x

    def summary(self, x: Tensor) -> Tensor:
        """Return one state per image, (N, C): the class token, or the mean of patches without one.

        Args:
            x: (N, L, C) states.
        """
        return x[:, 0] if self.class_token else x.mean(dim=1)


class ClipTower(VisionTower):
    """An open_clip VisionTransformer, which has a class token."""

    class_token = True

    @property
    def width(self) -> int:
        """C, the width of the features."""
        return int(self.visual.conv1.weight.shape[0])

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return int(self.visual.image_size[0])

    @property
    def patches(self) -> int:
        """P, the number of patches of an image."""
        return int(self.visual.positional_embedding.shape[0]) - 1

    @property
    def blocks(self) -> int:
        """Number of transformer blocks."""
        return len(self.visual.transformer.resblocks)

    @property
    def first_and_last_weights(self) -> tuple[Tensor, Tensor]:
        """Weights of the patch embedding and of the last block's second linear layer."""
        return self.visual.conv1.weight, self.visual.transformer.resblocks[-1].mlp.c_proj.weight

    def embed(self, images: Tensor) -> Tensor:
        """Return (N, 1 + P, C) states before the first block, the class token first.

        Args:
            images: (N, 3, S, S), normalized.
        """
        visual = self.visual
        x = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1)
        return _normed(visual.ln_pre, x + visual.positional_embedding.to(x.dtype))

    def _block(self, index: int) -> _Block:
        block = self.visual.transformer.resblocks[index]
        return _Block(
            block.ln_1,
            lambda y: _self_attention(block.attn, y),
            block.ls_1,
            block.ln_2,
            block.mlp,
            block.ls_2,
        )

    def final_norm(self, x: Tensor) -> Tensor:
        """Return `ln_post` of (N, L, C) states."""
        return _normed(self.visual.ln_post, x)


class TrunkTower(VisionTower):
    """A VisionTransformer of timm without class token: the trunk of SigLIP and SigLIP2.

    Its attention pool, which is trained to sum an image up after the last block, is not used.
    """

    class_token = False

    @property
    def width(self) -> int:
        """C, the width of the features."""
        return int(self.visual.embed_dim)

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels; its rest behind the last patch is not read."""
        return int(self.visual.patch_embed.img_size[0])

    @property
    def patches(self) -> int:
        """P, the number of patches of an image."""
        return int(self.visual.patch_embed.num_patches)

    @property
    def blocks(self) -> int:
        """Number of transformer blocks."""
        return len(self.visual.blocks)

    @property
    def first_and_last_weights(self) -> tuple[Tensor, Tensor]:
        """Weights of the patch embedding and of the last block's second linear layer."""
        return self.visual.patch_embed.proj.weight, self.visual.blocks[-1].mlp.fc2.weight

    def embed(self, images: Tensor) -> Tensor:
        """Return (N, P, C) states before the first block.

        Args:
            images: (N, 3, S, S), normalized.
        """
        visual = self.visual
        x = visual.patch_embed(images.to(visual.patch_embed.proj.weight.dtype))
        return _normed(visual.norm_pre, x + visual.pos_embed.to(x.dtype))

    def _block(self, index: int) -> _Block:
        block = self.visual.blocks[index]
        return _Block(block.norm1, block.attn, block.ls1, block.norm2, block.mlp, block.ls2)

    def final_norm(self, x: Tensor) -> Tensor:
        """Return `norm` of (N, L, C) states."""
        return _normed(self.visual.norm, x)


def vision_tower(visual: Any) -> VisionTower:
    """Return the tower of what `load_visual` loads (frozen here)."""
    return TrunkTower(visual) if isinstance(visual, Trunk) else ClipTower(visual)


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a norm in the precision of its own parameters; `x` keeps its precision."""
    if not isinstance(norm, nn.LayerNorm):  # towers may have none at a place
        out: Tensor = norm(x)
        return out
    y = x.to(norm.weight.dtype)
    return F.layer_norm(y, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(x.dtype)


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
