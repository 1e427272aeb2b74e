"""How often 95% intervals of few units hold the true figure: the tables in docs/statistics.md.

Populations of units are drawn whose figure is known; of each, many samples of n units, and the
interval of each sample as `adem_bench.metrics.intervals` makes it; of differences, of pairs of runs
that differ on few units, or on all alike, as `adem_bench.metrics.paired` makes it.

    python tools/interval_coverage.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adem_bench.metrics.intervals import Statistics, percentiles, ratio, resampled_sums, wilson
from adem_bench.metrics.paired import paired_differences

SIZES = (2, 3, 5, 10, 15, 20, 30, 50, 100)
LOST, PAIRED_SIZES = (0.005, 0.03, 0.1, 0.97), (20, 50, 100, 300)
"""Shares of images that lose a question; images that are paired."""
SAMPLES, RESAMPLES, POPULATION = 1000, 1000, 200_000
Generator = np.random.Generator
Array = Any


def two_questions(generator: Generator, count: int) -> Array:
    """Images with two questions each, whose answers agree more often than not: right, asked."""
    ability = generator.beta(2, 1, count)
    return np.stack([generator.binomial(2, ability), np.full(count, 2)], axis=1).astype(float)


def skewed_scores(generator: Generator, count: int) -> Array:
    """Scores of captions, of which many are low and a few are high, as CIDEr's: score, one."""
    return np.stack([generator.gamma(0.8, 1.0, count), np.ones(count)], axis=1)


def yes_no(generator: Generator, count: int) -> Array:
    """Yes-or-no questions, 85% of which are answered rightly: said yes rightly, said, are yes."""
    truth = generator.random(count) < 0.5
    said = np.where(generator.random(count) < 0.85, truth, ~truth)
    return np.stack([truth & said, said, truth], axis=1).astype(float)


def mean(sums: Array) -> Array:
    """Return the first column over the second."""
    return ratio(sums[..., 0], sums[..., 1])


def f1(sums: Array) -> Array:
    """Return F1 of the columns of `yes_no`."""
    return ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def covered_by_bootstrap(
    draw: Callable[[Generator, int], Array], formula: Callable[[Array], Array], size: int
) -> float:
    """Return the share of samples whose interval holds the population's figure.

    Args:
        draw: Makes units, `(units, columns)`.
        formula: The figure, of sums over units.
        size: Units of a sample.
    """
    generator = np.random.default_rng(size)
    true = float(formula(draw(generator, POPULATION).sum(axis=0)))
    hits = 0
    for seed in range(SAMPLES):
        sums = resampled_sums(draw(generator, size), resamples=RESAMPLES, seed=seed)
        low, high = percentiles(formula(sums))
        hits += low <= true <= high
    return hits / SAMPLES


def covered_by_wilson(share: float, size: int) -> float:
    """Return the probability that Wilson's interval holds a share; `size` answers are counted."""
    from math import comb

    return sum(
        comb(size, hits) * share**hits * (1 - share) ** (size - hits)
        for hits in range(size + 1)
        if wilson(hits, size)[0] <= share <= wilson(hits, size)[1]
    )


def covered_difference(lost: float, size: int) -> tuple[float, float]:
    """Return how often a difference's interval holds the true one, and redrawn units' alone does.

    Both runs have images with two questions; the second loses one question of some of them.

    Args:
        lost: The share of images that lose a question.
        size: Images of a sample.
    """
    generator = np.random.default_rng(size)
    hits = plain = 0
    for seed in range(SAMPLES):
        right = generator.integers(1, 3, size)
        less = right - (generator.random(size) < lost)
        first, second = (
            Statistics(
                "images",
                tuple(map(str, range(size))),
                ("",) * size,
                np.stack([one, np.full(size, 2)], axis=1).astype(float),
                {"acc": mean},
            )
            for one in (right, less)
        )
        (found,) = paired_differences(first, second, ["acc"])
        hits += found.low <= -lost / 2 <= found.high
        drawn = resampled_sums(second.rows - first.rows, resamples=RESAMPLES, seed=seed)
        low, high = percentiles(drawn[:, 0] / (2 * size))
        plain += low <= -lost / 2 <= high
    return hits / SAMPLES, plain / SAMPLES


def main() -> None:
    """Print the tables."""
    print("| images | " + " | ".join(f"{100 * lost:g}% lose a question" for lost in LOST) + " |")
    print("|---" * (len(LOST) + 1) + "|")
    for size in PAIRED_SIZES:
        found = (covered_difference(lost, size) for lost in LOST)
        cells = (f"{covered:.1%} ({plain:.1%})" for covered, plain in found)
        print(f"| {size} |", " | ".join(cells), "|", flush=True)
    print()
    columns: dict[str, Callable[[int], float]] = {
        "share of 60%, Wilson": lambda size: covered_by_wilson(0.6, size),
        "share of 85%, Wilson": lambda size: covered_by_wilson(0.85, size),
        "two questions an image": lambda size: covered_by_bootstrap(two_questions, mean, size),
        "F1 of yes and no": lambda size: covered_by_bootstrap(yes_no, f1, size),
        "skewed scores": lambda size: covered_by_bootstrap(skewed_scores, mean, size),
    }
    print("| units |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for size in SIZES:
        cells = (f"{covered(size):.1%}" for covered in columns.values())
        print(f"| {size} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
