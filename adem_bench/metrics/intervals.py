"""95% intervals of figures: Wilson's for shares, resampled units for everything else.

A metric that is a function of sums over independent units (questions, images) is resampled by
redrawing units: no answer is scored twice. docs/statistics.md says what each task does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from adem_bench.records import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LEVEL, RESAMPLES, SEED = 0.95, 10_000, 0
WILSON = "Wilson"
FEW_KINDS = 16
"""Units per distinct row from which rows are drawn by kind instead of one by one."""
BLOCK = 2**20
"""Draws at a time: as many as stay in the processor's cache."""
Formula = Callable[[Any], Any]
"""An array of sums `(…, columns)` to values `(…)`; not a number where undefined."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a task's metrics rest on: a row of numbers for each independent unit."""

    noun: str
    """What a unit is, in the plural: `images`, `questions`."""
    units: tuple[str, ...]
    strata: tuple[str, ...]
    """Of each unit: units are redrawn among those of their own stratum."""
    rows: Array
    """`(units, columns)`"""
    formulas: Mapping[str, Formula]
    """A metric's name to its value as a function of the rows' sums, in the metric's unit."""
    shares: frozenset[str] = frozenset()
    """Metrics that are shares of right units: of one unit they are 1, 0 or undefined."""

    def value(self, name: str) -> float:
        """Return a metric; not a number where undefined."""
        return float(self.formulas[name](self.rows.sum(axis=0)))

    def select(self, places: list[int]) -> Statistics:
        """Return the statistics of some units only, in the order of their places."""
        return replace(
            self,
            units=tuple(self.units[place] for place in places),
            strata=tuple(self.strata[place] for place in places),
            rows=self.rows[places],
        )


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return Wilson's score interval of the share `hits / count` (Wilson 1927).

    Raises:
        ValueError: nothing was counted.
    """
    if not 0 <= hits <= count or not count:
        raise ValueError(f"no share: {hits} of {count}")
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, spread = hits / count, z * z / count
    centre = share + spread / 2
    half = math.sqrt(spread * share * (1 - share) + spread * spread / 4)
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return (0.0 if hits == 0 else low), (1.0 if hits == count else high)


def share_metric(name: str, hits: int, count: int, note: str = "") -> Metric:
    """Return the share `hits / count` with Wilson's interval, or no value of nothing.

    Args:
        name: The metric's.
        hits: How many are right.
        count: Of how many.
        note: The metric's.
    """
    if not count:
        return Metric(name, None, "fraction", 0, "nothing was answered")
    low, high = wilson(hits, count)
    return Metric(name, hits / count, "fraction", count, note, low, high, WILSON)


def with_intervals(metrics: tuple[Metric, ...], statistics: Statistics) -> tuple[Metric, ...]:
    """Return the metrics, those without an interval with one by resampling, where known."""
    if not any(metric.name in statistics.formulas for metric in metrics):
        return metrics
    sums = resampled_sums(statistics.rows, statistics.strata)
    found = []
    for metric in metrics:
        formula = statistics.formulas.get(metric.name)
        if formula is not None and metric.value is not None and metric.low is None:
            low, high = percentiles(formula(sums))
            if math.isfinite(low) and math.isfinite(high):
                how = f"bootstrap of {statistics.noun}"
                units = independent_units(statistics, formula)
                metric = replace(metric, low=low, high=high, interval=how, units=units)
        found.append(metric)
    return tuple(found)


def independent_units(statistics: Statistics, formula: Formula) -> int:
    """Return how many units a figure rests on, as far as redrawing them shows its spread.

    Each stratum beyond the first costs one: its units are redrawn around their own mean.

    Args:
        statistics: All units.
        formula: Of the figure; not a number for a unit that has no part in it.
    """
    import numpy as np

    defined = np.isfinite(formula(statistics.rows))
    strata = {name for name, has_part in zip(statistics.strata, defined, strict=True) if has_part}
    return int(defined.sum()) - max(0, len(strata) - 1)


def without_points(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """Return the metrics, with no interval where all redraws agree: they say nothing then."""
    return tuple(
        replace(metric, low=None, high=None, interval="")
        if metric.low is not None and metric.low == metric.high
        else metric
        for metric in metrics
    )


def resampled_sums(
    rows: Array,
    strata: tuple[str, ...] = (),
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Array:
    """Return the sums of rows over redrawn units, `(resamples, columns)`.

    Each resample draws as many units as there are, with replacement, stratum by stratum.

    Args:
        rows: `(units, columns)`.
        strata: The stratum of each unit; nothing means that there is one.
        resamples: How many.
        seed: Of the draws: the same rows give the same sums.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    names = np.asarray(strata or ("",) * len(rows))
    sums = np.zeros((resamples, rows.shape[1]))
    for stratum in dict.fromkeys(names.tolist()):
        sums += _redrawn(rows[names == stratum], resamples, generator)
    return sums


def _redrawn(rows: Array, resamples: int, generator: np.random.Generator) -> Array:
    import numpy as np

    count = len(rows)
    kinds, sizes = np.unique(rows, axis=0, return_counts=True)
    if len(kinds) * FEW_KINDS <= count:
        # Units with equal rows are interchangeable: how often each kind is drawn is multinomial.
        step = BLOCK // len(kinds) + 1
        parts = [min(step, resamples - start) for start in range(0, resamples, step)]
        shares = sizes / count
        return np.concatenate([generator.multinomial(count, shares, n) @ kinds for n in parts])
    sums = []
    for start in range(0, resamples, BLOCK // count + 1):
        size = min(BLOCK // count + 1, resamples - start)
        drawn = generator.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        sums.append(times @ rows)
    return np.concatenate(sums)


def percentiles(values: Array) -> tuple[float, float]:
    """Return the bounds that hold the middle 95% of the resampled values that are defined."""
    import numpy as np

    defined = values[np.isfinite(values)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def ratio(part: Any, whole: Any) -> Any:
    """Return `part / whole` of arrays, not a number where the whole is 0."""
    import numpy as np

    return np.divide(
        part, whole, out=np.full(np.shape(whole), np.nan), where=np.not_equal(whole, 0)
    )
