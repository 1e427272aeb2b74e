"""What a decoder layer computes element by element, one kernel each; for GPUs, without gradient.

PyTorch starts a kernel for each operation and writes every intermediate value to memory. These
round as PyTorch's operations do, one after the other, so that half precision gives the published
numbers; only sums over a row are added up in another order.

Shapes: N rows of D or M numbers, all contiguous in their last dimension.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MANY_TOKENS, HEADS_AT_ONCE = 1024, 8
ROWS_AT_ONCE = 4
"""Rows of similarities that a program of `adaptive_drop` takes."""


@triton.jit
def _rms_norm(x, weight, out, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    given = tl.load(x + row * width + columns, inside, other=0.0)
    exact = given.to(tl.float32)
    scale = tl.rsqrt(tl.sum(exact * exact, 0) / width + eps)
    normed = (exact * scale).to(given.dtype)
    factor = tl.load(weight + columns, inside, other=0.0)
    tl.store(out + row * width + columns, normed * factor, inside)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return LLaMA's norm of (…, D) states, as `LlamaRMSNorm` of transformers computes it.

    Args:
        x: (…, D).
        weight: (D,).
        eps: Added to the mean square.
    """
    x = x.contiguous()
    out = torch.empty_like(x)
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    warps = 8 if block >= 4096 else 4
    _rms_norm[(x.numel() // width,)](x, weight, out, width, eps, BLOCK=block, num_warps=warps)
    return out


@triton.jit
def _silu_times(gate, up, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    given = tl.load(gate + place, inside, other=0.0)
    exact = given.to(tl.float32)
    activated = (exact / (1.0 + tl.exp(-exact))).to(given.dtype)
    tl.store(out + place, activated * tl.load(up + place, inside, other=0.0), inside)


def silu_times(gate: Tensor, up: Tensor) -> Tensor:
    """Return `SiLU(gate) * up` of tensors of one shape."""
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    _silu_times[(triton.cdiv(gate.numel(), 1024),)](gate, up, out, gate.numel(), BLOCK=1024)
    return out


@triton.jit
def _add_terms(residual, fed, term, out, alpha, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    first = tl.load(residual + place, inside, other=0.0)
    added = first + tl.load(fed + place, inside, other=0.0)
    last = tl.load(term + place, inside, other=0.0)
    scaled = (last.to(tl.float32) * alpha).to(last.dtype)
    tl.store(out + place, added + scaled, inside)


def add_terms(residual: Tensor, fed: Tensor, term: Tensor, alpha: float) -> Tensor:
    """Return `residual + fed + alpha * term`, added in this order.

    Args:
        residual: (…, D).
        fed: Like `residual`.
        term: Like `residual`.
        alpha: Factor of the last.
    """
    residual, fed, term = residual.contiguous(), fed.contiguous(), term.contiguous()
    out = torch.empty_like(residual)
    grid = (triton.cdiv(out.numel(), 1024),)
    _add_terms[grid](residual, fed, term, out, alpha, out.numel(), BLOCK=1024)
    return out


@triton.jit(do_not_specialize=["length", "turned"])
def _rotate(x, cos, sin, out, heads, length, turned, row, head, column, HALF: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    batch, place = token // length, token % length
    which = tl.arange(0, HALF)
    angle = (batch * turned + place) * 2 * HALF
    cos1 = tl.load(cos + angle + which).to(tl.float32)
    cos2 = tl.load(cos + angle + HALF + which).to(tl.float32)
    sin1 = tl.load(sin + angle + which).to(tl.float32)
    sin2 = tl.load(sin + angle + HALF + which).to(tl.float32)
    kind = out.dtype.element_ty
    for index in range(tl.program_id(1), heads, tl.num_programs(1)):
        at = x + batch * row + index * head + place * column
        first = tl.load(at + which).to(tl.float32)
        second = tl.load(at + HALF + which).to(tl.float32)
        to = out + ((batch * heads + index) * length + place) * 2 * HALF
        # Each product is rounded before it is added; a sum in float32 would leave that out.
        tl.store(to + which, (first * cos1).to(kind) - (second * sin1).to(kind))
        tl.store(to + HALF + which, (second * cos2).to(kind) + (first * sin2).to(kind))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return heads turned by their positions, as `apply_rotary_pos_emb` of transformers does.

    Args:
        x: (B, H, T, S), its last dimension contiguous, S / 2 a power of two.
        cos: (B, T, S), or (1, T, S) for all rows.
        sin: Like `cos`.
    """
    rows, heads, length, size = x.shape
    out = torch.empty((rows, heads, length, size), dtype=x.dtype, device=x.device)
    cos, sin = cos.contiguous(), sin.contiguous()
    turned = length if len(cos) > 1 else 0
    # Few tokens keep a GPU busy only if their heads are apart; many read angles less often.
    apart = heads if rows * length < MANY_TOKENS else triton.cdiv(heads, HEADS_AT_ONCE)
    _rotate[(rows * length, apart)](
        x, cos, sin, out, heads, length, turned, *x.stride()[:3], HALF=size // 2, num_warps=1
    )
    return out


@triton.jit(do_not_specialize=["count", "rank"])
def _drop(x, out, count, width, rank, BITS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)[None, :]
    inside = (rows < count) & (columns < width)
    given = tl.load(x + rows * width + columns, inside, other=0.0)
    # Bits in the order of the numbers: those of negative ones are turned over, NaN comes last.
    if BITS == 16:
        bits = given.to(tl.uint16, bitcast=True).to(tl.int32)
    else:
        bits = given.to(tl.uint32, bitcast=True).to(tl.int64)
    half: tl.constexpr = 1 << (BITS - 1)
    last: tl.constexpr = 2 * half - 1
    ordered = tl.where(bits >= half, last - bits, bits + half)
    ordered = tl.where((given != given) | (columns >= width), last, ordered)
    # The largest number that has at most `rank` below it, bit by bit.
    least = tl.zeros((ROWS, 1), ordered.dtype)
    for step in tl.static_range(BITS):
        tried = least + (1 << (BITS - 1 - step))
        below = tl.sum((ordered < tried).to(tl.int32), 1)[:, None]
        least = tl.where(below <= rank, tried, least)
    # Nothing is below NaN, and zeros of either sign are equal.
    is_lower = (ordered < least) & (least != last) & ~((given == 0) & (least == half))
    tl.store(out + rows * width + columns, tl.where(is_lower, 0.0, given), inside)


def adaptive_drop(similarity: Tensor, rank: int) -> Tensor:
    """Return (…, M) similarities, those below the value at ascending position `rank` set to 0.

    Ties with it and NaN survive, as in `methods.adem.adaptive_drop`.

    Args:
        similarity: (…, M).
        rank: Position from 0, NaN counted as largest.
    """
    similarity = similarity.contiguous()
    out = torch.empty_like(similarity)
    width = similarity.shape[-1]
    count = similarity.numel() // width
    grid = (triton.cdiv(count, ROWS_AT_ONCE),)
    _drop[grid](
        similarity, out, count, width, rank, BITS=8 * similarity.itemsize, ROWS=ROWS_AT_ONCE,
        BLOCK=triton.next_power_of_2(width),
    )  # fmt: skip
    return out
