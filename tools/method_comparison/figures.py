"""Headline figures of methods over several seeds, and tests of their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from adem_bench.metrics.intervals import Statistics, percentiles, resampled_sums
from adem_bench.metrics.paired import adjusted, paired_differences
from adem_bench.results.comparison import compare_runs, is_significant
from adem_bench.results.runs import OpenedRun, own_statistics

Runs = Mapping[str, Mapping[str, Sequence[OpenedRun]]]
"""Method to task to the runs of its seeds."""
Line = dict[str, Any]
DIGITS = 5


def scores(runs: Runs) -> list[Line]:
    """Return, for each method and task, the mean over seeds, its interval, and each seed's figure.

    The interval is that of redrawing samples, each with the mean of its results over the seeds.
    """
    lines: list[Line] = []
    for method, by_task in runs.items():
        for task, seeds in by_task.items():
            mean, headline = mean_over_seeds(seeds), seeds[0].result.headline
            drawn = mean.formulas[headline](resampled_sums(mean.rows, mean.strata))
            low, high = percentiles(drawn)
            single = [own_statistics(run, list(run.records.values())) for run in seeds]
            lines.append(
                {
                    "method": method, "task": task, "metric": headline,
                    "mean": _round(mean.value(headline)), "low": _round(low), "high": _round(high),
                    "seeds": [_round(one.value(headline)) for one in single],
                }
            )  # fmt: skip
    return lines


def differences(runs: Runs) -> list[Line]:
    """Return the paired test of every two methods on every task, adjusted over all of them."""
    found, places = [], []
    tasks = next(iter(runs.values()))
    for task in tasks:
        for first, second in combinations(runs, 2):
            headline = runs[first][task][0].result.headline
            means = [mean_over_seeds(runs[method][task]) for method in (first, second)]
            found += paired_differences(means[0], means[1], [headline])
            places.append((task, first, second))
    return [
        {
            "task": task, "metric": one.metric, "first": first, "second": second,
            "difference": _round(one.value), "low": _round(one.low), "high": _round(one.high),
            "p": _round(one.p_value), "p_holm": _round(one.adjusted_p_value), "test": one.test,
        }
        for (task, first, second), one in zip(places, adjusted(found), strict=True)
    ]  # fmt: skip


def between_runs(runs: Runs) -> list[Line]:
    """Return, for each task, how many pairs of single runs differ by `adem-bench compare`.

    Pairs of one method differ by their seed alone.
    """
    lines: list[Line] = []
    for task in next(iter(runs.values())):
        given = [(method, run) for method, by_task in runs.items() for run in by_task[task]]
        compared = compare_runs([run for _, run in given])
        counts = {"same method": [0, 0], "different methods": [0, 0]}
        for pair in compared.pairs:
            same = given[pair.first][0] == given[pair.second][0]
            count = counts["same method" if same else "different methods"]
            count[0] += is_significant(pair.headline)
            count[1] += 1
        lines.append({"task": task, "significant, all": counts})
    return lines


def mean_over_seeds(runs: Sequence[OpenedRun]) -> Statistics:
    """Return statistics whose rows are the means of the runs' rows.

    Raises:
        ValueError: the runs did not answer the same samples.
    """
    statistics = [own_statistics(run, list(run.records.values())) for run in runs]
    if any(one.units != statistics[0].units for one in statistics):
        raise ValueError("the runs did not answer the same samples")
    rows = np.mean([one.rows for one in statistics], axis=0)
    # A sample is no longer right or wrong, but right for a share of the seeds.
    return replace(statistics[0], rows=rows, shares=frozenset())


def _round(value: float) -> float:
    return round(float(value), DIGITS)
