"""A frozen linear layer with int8 weights, for the CPU.

Every output has a scale, the largest absolute weight of its row over 127. Inputs are not quantized:
LLaMA's have outliers, and steps that reach up to those would leave all others few.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

STEPS = 127
AT_ONCE = 1 << 18
"""Weights that are floating-point numbers at a time: so many stay in a processor's cache."""


class Int8Linear(nn.Module):
    """A frozen linear layer; (…, inputs) -> (…, outputs)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantize an (outputs, inputs) weight; the bias stays as it is."""
        super().__init__()
        weight = weight.detach()
        scale = weight.abs().amax(dim=1).float() / STEPS
        rounded = (weight / scale.clamp_min(1e-12)[:, None]).round_()
        self.weight = nn.Parameter(rounded.to(torch.int8), requires_grad=False)
        self.scale: Tensor
        self.register_buffer("scale", scale)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply in float32, and add the bias; the result has the precision of `x`."""
        out: Tensor = _Product.apply(x, self.weight, self.scale)
        return out if self.bias is None else out + self.bias


class _Product(torch.autograd.Function):
    """`x @ weight.T`, of whose operands only the int8 weight is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        rows = x.to(scale.dtype)
        out = torch.cat([F.linear(rows, part) for part in _parts(weight, scale.dtype)], dim=-1)
        return (out * scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weight, scale = ctx.saved_tensors
        rows = (gradient.to(scale.dtype) * scale).reshape(-1, len(scale))
        total = rows.new_zeros(len(rows), weight.shape[1])
        start = 0
        for part in _parts(weight, scale.dtype):
            total.addmm_(rows[:, start : start + len(part)], part)
            start += len(part)
        return total.view(*gradient.shape[:-1], -1).to(gradient.dtype), None, None


def _parts(weight: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield a weight's rows as floating-point numbers, some at a time."""
    step = max(1, AT_ONCE // weight.shape[1])
    for start in range(0, len(weight), step):
        yield weight[start : start + step].to(dtype)
