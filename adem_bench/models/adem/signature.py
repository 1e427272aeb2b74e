"""A few numbers by which a language model is known again, however its files are laid out."""

from __future__ import annotations

import math
from typing import Any

import torch

ROWS = 8
TOLERANCE = 4e-3
"""Root mean square over the numbers. Rounding to bfloat16 moves them by some 1e-3; weights that
were tuned by a hundredth of their size, by 1e-2."""


@torch.no_grad()
def language_model_signature(llama: Any) -> tuple[float, ...]:
    """Return 16 numbers, each a row of weights summed up with fixed signs, over its norm.

    The rows are of the input embedding and of the last layer's `down_proj`: neither tensor is
    permuted between the published and the Hugging Face layout.
    """
    numbers: list[float] = []
    for weight in (llama.model.embed_tokens.weight, llama.model.layers[-1].mlp.down_proj.weight):
        places = torch.linspace(0, len(weight) - 1, ROWS, device="cpu").long()
        rows = weight[places.to(weight.device)].float().cpu()
        fractions = torch.arange(rows.shape[1], device="cpu", dtype=torch.float64) * 0.6180339887
        signs = (fractions.frac() < 0.5).float() * 2 - 1
        numbers += (rows @ signs / rows.norm(dim=1).clamp_min(1e-9)).tolist()
    return tuple(round(number, 5) for number in numbers)


def is_same_language_model(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Return whether two signatures are of the same weights, rounding aside."""
    if len(first) != len(second):
        return False
    squares = [(a - b) ** 2 for a, b in zip(first, second, strict=True)]
    return math.sqrt(sum(squares) / len(squares)) <= TOLERANCE
