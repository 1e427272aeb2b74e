"""How the language model sees an image: the visual memory and the term it adds to each layer.

Shapes: N distinct images, P patches, M = sum(scales) memory slots, C CLIP width, D language
width, B rows, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class VisualMemory:
    """What fusion reads: one entry per distinct image, or a single one without image."""

    keys: Tensor
    """(N, M, D)."""
    values: Tensor
    """(N, M, D)."""
    class_token: Tensor | None
    """(N, D) input embedding of the image, where the method has one."""

    def select(self, rows: Tensor) -> VisualMemory:
        """Return the memory with entry `rows[b]` (B,) for row b; a single entry serves all rows."""
        if len(self.keys) == 1:
            return self
        token = None if self.class_token is None else self.class_token[rows]
        return VisualMemory(self.keys[rows], self.values[rows], token)

    @property
    def nbytes(self) -> int:
        """Bytes held by the entries."""
        tensors = (self.keys, self.values, self.class_token)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


class Fusion(Protocol):
    """The plug-in that lets the language model see."""

    def prepare(self, features: Tensor | None, dtype: torch.dtype) -> VisualMemory:
        """Return the memory of images, once per distinct image; None means no image."""
        ...

    def fuse(self, layer: int, hidden_states: Tensor, memory: VisualMemory) -> Tensor:
        """Return what decoder layer `layer` adds beside its feed-forward part."""
        ...


class Projector(nn.Module):
    """`fc2(SiLU(fc1(x)))` from CLIP's width to the language model's; (…, C) -> (…, D)."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Project in the precision of `x`; the weights stay float32 masters."""
        return linear_as(self.fc2, F.silu(linear_as(self.fc1, x)))


class AdemFusion(nn.Module):
    """Parameter-free attention over a shared visual memory with an adaptive drop rule.

    Every layer adds `alpha * drop(SiLU(q) K^T) U` to its output, with `K = SiLU(V + E1)`,
    `U = V + E2` and `V = beta * projector(pooled patches)`; without an image V is 0 and the
    learned E1, E2 act alone. There is no scale, softmax or per-layer parameter.

    Source: arXiv 2410.17779 section 3; ADEM-VL cec09b8 `adem/model.py:268-283`,
    `adem/adapter.py:28-44`. Attribute names are the published checkpoint's.
    """

    def __init__(
        self,
        widths: tuple[int, int],
        scales: Sequence[int] = (256, 64),
        hidden_proj: int = 128,
        cls_token: bool = True,
        strengths: tuple[float, float, float] = (0.1, 0.01, 0.1),
    ) -> None:
        """Make untrained parameters (docs/method.md, section 7.1).

        Args:
            widths: CLIP width C and language width D.
            scales: Patch counts after pooling, each a square number.
            hidden_proj: Hidden width of the projectors.
            cls_token: Whether the class token enters the input.
            strengths: alpha, beta and the drop ratio.
        """
        super().__init__()
        vision_width, language_width = widths
        slots = sum(scales)
        self.scales = tuple(scales)
        self.alpha, self.beta, self.drop_ratio = strengths
        self.adapter_emb1 = nn.Parameter(torch.randn(1, slots, language_width) * 0.02)
        self.adapter_emb2 = nn.Parameter(torch.zeros(1, slots, language_width))
        self.adapter_proj = Projector(vision_width, hidden_proj, language_width)
        self.adapter_proj_cls = (
            Projector(vision_width, hidden_proj, language_width) if cls_token else None
        )

    def prepare(self, features: Tensor | None, dtype: torch.dtype) -> VisualMemory:
        """Return the memory of N images.

        Args:
            features: (N, 1 + P, C) from the vision tower; None for the memory without image.
            dtype: Precision of the language model.
        """
        if features is None:
            keys, values = F.silu(self.adapter_emb1).to(dtype), self.adapter_emb2.to(dtype)
            return VisualMemory(keys, values, None)
        patches = pool_patches(features[:, 1:], self.scales)
        # The factor takes the features' precision, as published: in half precision the paper's
        # beta 0.01 becomes 0.0100021 (Q19).
        visual = self.adapter_proj(patches) * features.new_tensor(self.beta)
        token = None if self.adapter_proj_cls is None else self.adapter_proj_cls(features[:, 0])
        return VisualMemory(
            keys=F.silu(visual + self.adapter_emb1).to(dtype),
            values=(visual + self.adapter_emb2).to(dtype),
            class_token=None if token is None else token.to(dtype),
        )

    def fuse(self, layer: int, hidden_states: Tensor, memory: VisualMemory) -> Tensor:
        """Return the term that a layer adds to its output.

        Args:
            layer: Unused: all layers read the same memory in the same way.
            hidden_states: (B, T, D) after the layer's second norm.
            memory: One entry per row, or a single one for all.

        Returns:
            (B, T, D), already multiplied by alpha.
        """
        query = F.silu(hidden_states)
        if len(memory.keys) == 1:
            similarity = query @ memory.keys[0].T
            return self.alpha * (adaptive_drop(similarity, self.drop_ratio) @ memory.values[0])
        similarity = query @ memory.keys.transpose(1, 2)
        return self.alpha * (adaptive_drop(similarity, self.drop_ratio) @ memory.values)


class NoFusion:
    """The language model as it is: nothing is remembered, nothing added."""

    def __init__(self, llama: Any) -> None:
        """Take width and device from the language model."""
        weight: Tensor = llama.model.embed_tokens.weight
        self._width, self._device = weight.shape[1], weight.device

    def prepare(self, features: Tensor | None, dtype: torch.dtype) -> VisualMemory:
        """Return an entry without slots."""
        empty = torch.empty(1, 0, self._width, dtype=dtype, device=self._device)
        return VisualMemory(empty, empty, None)

    def fuse(self, layer: int, hidden_states: Tensor, memory: VisualMemory) -> Tensor:
        """Return zero, of no dimension."""
        return hidden_states.new_zeros(())


def adaptive_drop(similarity: Tensor, ratio: float) -> Tensor:
    """Set the lowest similarities of every token to zero.

    Args:
        similarity: (…, M), signed.
        ratio: Share of the M slots to drop, below 1; 0 or less returns the input.

    Returns:
        (…, M). Entries strictly below the value at ascending position `int(ratio * M)`
        (from 0) are 0; ties with it and NaN survive.

    Source: ADEM-VL cec09b8 `adem/adapter.py:33-38`. The rule is on signed values: the most
    negative slots go, not those of least magnitude.
    """
    if ratio <= 0:
        return similarity
    threshold = _order_statistic(similarity.detach(), int(ratio * similarity.shape[-1]))
    return torch.where(similarity < threshold, 0.0, similarity)


def _order_statistic(x: Tensor, rank: int) -> Tensor:
    """Return the (…, 1) value at ascending position `rank`, NaN counted as largest."""
    if x.device.type == "cpu" and x.dtype != torch.float64:
        # 0.5 ms against kthvalue's 1.9 ms and sort's 5.7 ms for (4, 150, 320) on two cores;
        # half precision passes through float32 unchanged.
        ordered = np.partition(x.float().numpy(), rank, axis=-1)
        return torch.from_numpy(ordered[..., rank : rank + 1]).to(x.dtype)
    return x.kthvalue(rank + 1, dim=-1, keepdim=True).values


def pool_patches(patches: Tensor, scales: Sequence[int]) -> Tensor:
    """Average a square grid of patches to each scale and join them: (N, P, C) -> (N, M, C).

    Pooling comes before projection, as in the published code and unlike the paper's
    Algorithm 1; the two differ because the projector is not linear.

    Raises:
        ValueError: P or a scale is not a square number.
    """
    count, width = patches.shape[1:]
    side = _side(count)
    grid = patches.transpose(1, 2).reshape(-1, width, side, side)
    pooled = [
        patches
        if scale == count
        else F.adaptive_avg_pool2d(grid, _side(scale)).flatten(2).transpose(1, 2)
        for scale in scales
    ]
    return torch.cat(pooled, dim=1)


def linear_as(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a float32 layer in the precision of `x`, as CUDA autocast would."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


def _side(count: int) -> int:
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(f"expected a square number of patches, got {count}")
    return side
