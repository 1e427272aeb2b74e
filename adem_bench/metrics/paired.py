"""Whether two models that answered the same samples differ: tests and intervals of differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from adem_bench.metrics.intervals import Statistics, percentiles, resampled_sums

MCNEMAR, BOOTSTRAP = "McNemar, exact", "paired bootstrap"


@dataclass(frozen=True, slots=True)
class Difference:
    """How much one metric of two runs differs, in the metric's unit."""

    metric: str
    first: float
    second: float
    low: float
    """Bounds of the 95% interval of `second - first`, from redrawing the shared units."""
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

    @property
    def value(self) -> float:
        """Return `second - first`."""
        return self.second - self.first


def paired_differences(
    first: Statistics, second: Statistics, names: Iterable[str]
) -> list[Difference]:
    """Return the differences of metrics, p-values not yet adjusted.

    Shares of right units are tested by McNemar's exact test, all else by the paired bootstrap.
    A metric that is not defined for both is left out.

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
    sums = resampled_sums(np.concatenate([first.rows, second.rows], axis=1), first.strata)
    found = []
    for name in names:
        values = first.value(name), second.value(name)
        if not all(map(math.isfinite, values)):
            continue
        of_first, of_second = first.formulas[name], second.formulas[name]
        drawn = of_second(sums[:, width:]) - of_first(sums[:, :width])
        low, high = percentiles(drawn)
        units = of_first(first.rows), of_second(second.rows)
        count = int(np.isfinite(units[0]).sum())
        if name in first.shares:
            won, lost = int((units[1] > units[0]).sum()), int((units[1] < units[0]).sum())
            p = mcnemar(won, lost)
            found.append(Difference(name, *values, low, high, p, p, MCNEMAR, count, won, lost))
        else:
            p = _bootstrap_p_value(drawn[np.isfinite(drawn)].tolist())
            found.append(Difference(name, *values, low, high, p, p, BOOTSTRAP, count))
    return found


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


def _bootstrap_p_value(drawn: Sequence[float]) -> float:
    """Return the smallest level at which the percentile interval leaves out 0.

    One more draw on either side, so that it is never 0 (Davison and Hinkley 1997, section 4.2).
    """
    below = sum(value <= 0 for value in drawn)
    above = sum(value >= 0 for value in drawn)
    return min(1.0, 2 * (min(below, above) + 1) / (len(drawn) + 1))


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
