"""Whether two models that answered the same samples differ: tests and intervals of differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

from adem_bench.metrics.intervals import (
    BLOCK,
    LEVEL,
    RESAMPLES,
    SEED,
    Statistics,
    independent_units,
    percentiles,
    resampled_sums,
    wilson,
)
from adem_bench.records import MIN_UNITS

if TYPE_CHECKING:
    from adem_bench.metrics.intervals import Array, Formula

SIGNIFICANT = 0.05
"""The level of every test."""
NOISE = 1e-12
"""Of a metric, what sums in another order may move it."""
MCNEMAR, SWAPS = "McNemar, exact", "paired randomisation"


@dataclass(frozen=True, slots=True)
class Difference:
    """How much one metric of two runs differs, in the metric's unit."""

    metric: str
    first: float
    second: float
    low: float
    """Bounds of the 95% interval of `second - first`, from redrawing the shared units, or from
    `wide_enough` where these show no spread; not a number of fewer than `MIN_UNITS` of them."""
    high: float
    p_value: float
    """Of no difference, two-sided."""
    adjusted_p_value: float
    """By Holm's method over all differences that are looked at together."""
    test: str
    units: int
    """Questions or images that the metric rests on."""
    won: int | None = None
    """For shares: units that only the second run has right."""
    lost: int | None = None
    """For shares: units that only the first run has right."""
    standard_error: float = math.nan
    """Of `second - first`: its standard deviation over redrawn units."""
    fell: int = 0
    """Units with which the second run lowers the metric."""
    rose: int = 0
    """Units with which it raises it."""
    swing: float = 0.0
    """What one unit can change of the metric: one as good as any, were it as bad as any."""
    lower_is_better: bool = False
    """Whether less of the metric is better."""

    @property
    def value(self) -> float:
        """Return `second - first`."""
        return self.second - self.first

    @property
    def gain(self) -> float:
        """Return how much better the second run is; negative if it is worse."""
        return -self.value if self.lower_is_better else self.value


def paired_differences(
    first: Statistics, second: Statistics, names: Iterable[str]
) -> list[Difference]:
    """Return the differences of metrics, p-values not yet adjusted.

    Intervals are those of redrawn units. Shares of right units are tested by McNemar's exact
    test, all else by randomisation: were there no difference, each unit could as well have its two
    results swapped (Fisher; Noreen 1989). A metric that is not defined for both is left out.

    Args:
        first: Of one run.
        second: Of another, with the same units in the same order.
        names: Metrics of both.

    Raises:
        ValueError: the units differ.
    """
    import numpy as np

    if first.units != second.units:
        raise ValueError("the two runs are not paired: their units differ")
    if not first.units:
        return []
    width = first.rows.shape[1]
    swapped: Array | None = None
    total = first.rows.sum(axis=0) + second.rows.sum(axis=0)
    sums = resampled_sums(np.concatenate([first.rows, second.rows], axis=1), first.strata)
    found = []
    for name in names:
        values = first.value(name), second.value(name)
        if not all(map(math.isfinite, values)):
            continue
        of_first, of_second = first.formulas[name], second.formulas[name]
        drawn = of_second(sums[:, width:]) - of_first(sums[:, :width])
        low, high = percentiles(drawn)
        if independent_units(first, of_first) < MIN_UNITS:
            low = high = math.nan
        units = of_first(first.rows), of_second(second.rows)
        count = int(np.isfinite(units[0]).sum())
        if name in first.shares & second.shares:
            won, lost = int((units[1] > units[0]).sum()), int((units[1] < units[0]).sum())
            p = mcnemar(won, lost)
            found.append(Difference(name, *values, low, high, p, p, MCNEMAR, count, won, lost))
        else:
            if swapped is None:
                swapped = _swapped_gaps(second.rows - first.rows)
            gaps = of_second((total + swapped) / 2) - of_first((total - swapped) / 2)
            p = _randomisation_p_value(values[1] - values[0], gaps)
            found.append(Difference(name, *values, low, high, p, p, SWAPS, count))
        effects = values[1] - of_second(second.rows.sum(axis=0) - second.rows + first.rows)
        found[-1] = replace(
            found[-1],
            standard_error=_deviation(drawn),
            fell=int((effects < -NOISE * abs(values[1])).sum()),
            rose=int((effects > NOISE * abs(values[1])).sum()),
            swing=1 / count if found[-1].won is not None else _swing(first, second, of_second),
        )
        if _without_spread(found[-1]):
            low, high = wide_enough(found[-1])
            found[-1] = replace(found[-1], low=low, high=high)
    return found


def _swing(first: Statistics, second: Statistics, formula: Formula) -> float:
    """Return how much less a metric would be, were a unit as bad as any and not as good as any.

    Args:
        first: Of one run, whose units may be the best or the worst.
        second: Of the run whose metric it is.
        formula: Of the metric.
    """
    import numpy as np

    strata = np.asarray(second.strata)
    whole = second.rows.sum(axis=0)
    value = float(formula(whole))
    most = 0.0
    for stratum in dict.fromkeys(second.strata):
        seen = strata == stratum
        kinds = np.unique(np.concatenate([first.rows[seen], second.rows[seen]]), axis=0)
        # Sums without a unit that the second run does not have may be of no figure.
        with np.errstate(invalid="ignore", divide="ignore"):
            without, more = formula(whole - kinds), formula(whole + kinds)
            if np.isfinite(without).any() and np.isfinite(more).any():
                best, worst = kinds[np.nanargmin(without)], kinds[np.nanargmin(more)]
                less = value - float(formula(whole - best + worst))
                most = max(most, less) if math.isfinite(less) else most
    return most


def unseen(difference: Difference) -> float:
    """Return how far a change that no unit shows may still move the metric.

    If none of n units changed, up to n z² / (n + z²) of n like them may (Wilson 1927), which is 3.8
    at most; each may move the metric as far as one unit can.
    """
    return difference.units * wilson(0, difference.units)[1] * difference.swing


def wide_enough(difference: Difference) -> tuple[float, float]:
    """Return an interval that allows for changes that no unit shows; of shares, Tango's.

    That of redrawn units is too narrow where few differ, and of no width where none do. So where no
    unit went one way, or all went it alike, some that were not drawn are taken to have done so, or
    not (`unseen`). Not a number where the units are all alike, who say nothing of others.

    Args:
        difference: With bounds from redrawing.
    """
    if difference.won is not None and difference.lost is not None:
        return tango(difference.won, difference.lost, difference.units)
    reach = unseen(difference)
    if not reach:
        return math.nan, math.nan
    alike = _without_spread(difference)
    low, high, value = difference.low, difference.high, difference.value
    low = low if difference.fell and not alike else min(low, value - reach)
    high = high if difference.rose and not alike else max(high, value + reach)
    most = difference.units * difference.swing
    return min(max(low, -most), value), max(min(high, most), value)


def _without_spread(difference: Difference) -> bool:
    """Return whether the difference is the same of all redrawn units."""
    scale = max(abs(difference.first), abs(difference.second))
    return difference.high - difference.low <= NOISE * scale


def units_enough(difference: Difference, size: float) -> int:
    """Return of how many units, none of them changed, a change of some size could not be unseen.

    Args:
        difference: Of the runs, measured.
        size: In the metric's unit; positive.
    """
    z_squared = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
    return max(1, math.ceil(z_squared * (difference.units * difference.swing / size - 1)) + 1)


def _deviation(drawn: Array) -> float:
    """Return the standard deviation of the resampled values that are defined."""
    import numpy as np

    defined = drawn[np.isfinite(drawn)]
    return float(defined.std()) if len(defined) else math.nan


def units_needed(
    difference: Difference, size: float, power: float = 0.8, level: float = SIGNIFICANT
) -> int | None:
    """Return how many units would show a difference of some size, if that is the true one.

    It is n ((z_(1 - level/2) + z_power) s / size)^2, with the standard error s of n paired
    differences (Connor 1987 has the same for McNemar's test). At the level 0.05, as many let the
    95% interval of two models that do not differ end above `-size`.

    Args:
        difference: Of the runs, measured.
        size: Of the true difference, in the metric's unit; positive.
        power: How often it shall be shown.
        level: The p-value below which it is.

    Returns:
        Units like those that were compared; None if these show no spread.
    """
    error = difference.standard_error
    if not error > 0:
        return None
    z = NormalDist()
    wanted = z.inv_cdf(1 - level / 2) + z.inv_cdf(power)
    return math.ceil(difference.units * (wanted * error / size) ** 2)


def mcnemar(won: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test.

    Under no difference, each unit that one run alone has right is a fair coin's throw.

    Args:
        won: Units that only one run has right.
        lost: Units that only the other has right.
    """
    count = won + lost
    term = tail = 1
    for k in range(min(won, lost)):
        term = term * (count - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << count))


def tango(won: int, lost: int, count: int) -> tuple[float, float]:
    """Return the 95% score interval of the difference of two paired shares (Tango 1998).

    Unlike one of redrawn units it is wide enough where few units differ, or none.

    Args:
        won: Units that only the second has right.
        lost: Units that only the first has right.
        count: All units.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    found = (won - lost) / count

    def deviations(gap: float) -> float:
        # The share lost only, if the difference were `gap`, is the root of a x^2 + b x + c.
        a, c = 2 * count, -lost * gap * (1 - gap)
        b = (2 * count - won + lost) * gap - won - lost
        lost_only = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = count * (2 * lost_only + gap * (1 - gap))
        return (won - lost - count * gap) / math.sqrt(variance) if variance > 0 else math.inf

    def bound(outside: float, inside: float) -> float:
        for _ in range(60):
            middle = (outside + inside) / 2
            if abs(deviations(middle)) > z:
                outside = middle
            else:
                inside = middle
        return inside

    return bound(-1.0, found), bound(1.0, found)


def _swapped_gaps(gaps: Array, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """Return the sums of units' gaps with random signs, `(resamples, columns)`.

    Args:
        gaps: `(units, columns)`, what the second run has more than the first.
        resamples: How many.
        seed: Of the signs.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    kinds, sizes = np.unique(gaps[(gaps != 0).any(axis=1)], axis=0, return_counts=True)
    sums = []
    step = BLOCK // max(1, len(kinds)) + 1
    for start in range(0, resamples, step):
        shape = (min(step, resamples - start), len(kinds))
        # Units with equal gaps are interchangeable: how many keep their sign is binomial.
        kept = generator.binomial(sizes, 0.5, shape) if (sizes > 1).any() else None
        coins = generator.integers(2, size=shape) if kept is None else kept
        sums.append((2 * coins - sizes) @ kinds)
    return np.concatenate(sums)


def _randomisation_p_value(gap: float, swapped: Array) -> float:
    """Return how often swapped results part as far as the real ones do, these included."""
    import numpy as np

    defined = np.abs(swapped[np.isfinite(swapped)])
    # Sums in another order differ in their last digits, which must not break ties.
    as_far = int((defined >= abs(gap) * (1 - 1e-9) - 1e-12).sum())
    return (as_far + 1) / (len(defined) + 1)


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences with p-values adjusted by Holm's method (Holm 1979), in order."""
    order = sorted(range(len(differences)), key=lambda place: differences[place].p_value)
    found = list(differences)
    largest = 0.0
    for rank, place in enumerate(order):
        p_value = differences[place].p_value * (len(differences) - rank)
        largest = max(largest, min(1.0, p_value))
        found[place] = replace(found[place], adjusted_p_value=largest)
    return found
