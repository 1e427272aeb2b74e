"""The learning rate: linear warm-up, then half a cosine (docs/method.md, section 8.2)."""

from __future__ import annotations

import math

from adem_bench.schemas import RecipeCard


def peak_learning_rate(recipe: RecipeCard) -> float:
    """Return the base rate scaled by the effective batch: 9e-3 * 32 / 256 = 1.125e-3."""
    return recipe.base_learning_rate * recipe.effective_batch / 256


def learning_rate(epoch: float, recipe: RecipeCard) -> float:
    """Return the learning rate at a fractional epoch.

    Source: ADEM-VL cec09b8 `util/lr_sched.py`.
    """
    peak, lowest = peak_learning_rate(recipe), recipe.min_learning_rate
    if epoch < recipe.warmup_epochs:
        return peak * epoch / recipe.warmup_epochs
    progress = (epoch - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return lowest + (peak - lowest) * 0.5 * (1 + math.cos(math.pi * progress))
