"""VizWiz's second task: telling which questions cannot be answered from their photograph.

An answer says so by being the word; there is no confidence, as in vlm-evaluation's VizWiz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adem_bench.metrics.grouped import widened
from adem_bench.metrics.intervals import Formula, Statistics, ratio, with_intervals
from adem_bench.records import Metric

UNANSWERABLE = "unanswerable"
FOUND, SAID, TRUE, ALL = range(4)
"""Columns: both said and true, said, true, and all answers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer."""

    unit: str
    """Its image."""
    said: bool
    """Whether the answer is that there is none."""
    true: bool


def _f1(sums: Any) -> Any:
    return ratio(2 * sums[..., FOUND], sums[..., SAID] + sums[..., TRUE])


def _average_precision(sums: Any) -> Any:
    """The precision of the answers that say so, then that of always saying so."""
    import numpy as np

    recall = ratio(sums[..., FOUND], sums[..., TRUE])
    precision = np.nan_to_num(ratio(sums[..., FOUND], sums[..., SAID]))
    return recall * precision + (1 - recall) * ratio(sums[..., TRUE], sums[..., ALL])


FORMULAS: Mapping[str, Formula] = {
    f"{UNANSWERABLE}.F1": _f1,
    f"{UNANSWERABLE}.AP": _average_precision,
}


def answerability_metrics(verdicts: Sequence[Verdict]) -> tuple[Metric, ...]:
    """Return F1 and average precision of unanswerable questions, with intervals."""
    if not any(verdict.true for verdict in verdicts):
        note = "no unanswerable question was answered"
        return tuple(Metric(name, None, "fraction", len(verdicts), note) for name in FORMULAS)
    statistics = answerability_statistics(verdicts)
    metrics = tuple(
        Metric(name, statistics.value(name), "fraction", len(verdicts)) for name in FORMULAS
    )
    units = len(statistics.units)
    return tuple(widened(metric, units) for metric in with_intervals(metrics, statistics))


def answerability_statistics(verdicts: Sequence[Verdict]) -> Statistics:
    """Return what the two figures rest on, by image."""
    import numpy as np

    units = {name: place for place, name in enumerate(dict.fromkeys(v.unit for v in verdicts))}
    rows = np.zeros((len(units), 4))
    for verdict in verdicts:
        both = verdict.said and verdict.true
        rows[units[verdict.unit]] += (both, verdict.said, verdict.true, 1)
    return Statistics("images", tuple(units), ("",) * len(units), rows, FORMULAS)
