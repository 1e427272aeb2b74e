"""Mean scores of all answers and of groups of them, with what they rest on, unit by unit.

Questions about one image are not independent: an image with its questions is one unit. The share
of the most frequent right answer is the floor under such a figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from adem_bench.metrics.intervals import (
    Formula,
    Statistics,
    ratio,
    share_metric,
    wilson,
    with_intervals,
)
from adem_bench.records import Metric, Record

NOBODY = "no such question was answered"
MAJORITY = "majority"
UNREAD = "unread"
MEAN_SCORE = "mean score"


@dataclass(frozen=True, slots=True)
class Scored:
    """The score of one answered question."""

    unit: str
    """What is independent of the rest: the question itself, or its image."""
    score: float
    """From 0 to 1."""
    groups: tuple[str, ...] = ()


def scores_of(records: Iterable[Record]) -> list[Scored]:
    """Return the scores of records that have one, by cluster or else by sample."""
    return [
        Scored(record.cluster or record.sample_id, record.score, record.groups)
        for record in records
        if record.score is not None
    ]


def grouped_metrics(
    answers: Sequence[Scored],
    name: str,
    noun: str,
    groups: Sequence[str] | None = None,
    note: str = "",
) -> tuple[Metric, ...]:
    """Return the mean score of all answers and of each group, with intervals.

    Args:
        answers: Answers in any order.
        name: What the mean of all answers is called.
        noun: What a unit is, in the plural.
        groups: Those that get a figure, in order; by default all that answers have, sorted.
        note: Put with every figure.
    """
    members = {name: list(answers)}
    members |= {g: [a for a in answers if g in a.groups] for g in _groups(answers, groups)}
    plain = tuple(_mean(group, found, note) for group, found in members.items())
    metrics = with_intervals(plain, grouped_statistics(answers, name, noun, groups))
    units = {group: len({answer.unit for answer in found}) for group, found in members.items()}
    return tuple(widened(metric, units[metric.name], noun=noun) for metric in metrics)


def grouped_statistics(
    answers: Sequence[Scored], name: str, noun: str, groups: Sequence[str] | None = None
) -> Statistics:
    """Return what `grouped_metrics` rests on; arguments are the same."""
    import numpy as np

    names = (name, *_groups(answers, groups))
    place = {group: number for number, group in enumerate(names)}
    units = {unit: number for number, unit in enumerate(dict.fromkeys(a.unit for a in answers))}
    rows = np.zeros((len(units), 2 * len(names)))
    for answer in answers:
        row = rows[units[answer.unit]]
        for column in (0, *(place[group] for group in answer.groups if group in place)):
            row[column] += answer.score
            row[column + len(names)] += 1
    return Statistics(
        noun=noun,
        units=tuple(units),
        strata=("",) * len(units),
        rows=rows,
        formulas={group: _column(number, len(names)) for group, number in place.items()},
        shares=frozenset(names if _are_shares(answers) else ()),
    )


def score_statistics(records: Sequence[Record]) -> Statistics:
    """Return the mean score of all samples and of each group, by cluster (or by sample).

    It is for tasks that have no statistics of their own. Records without a score are left out.
    """
    answers = scores_of(records)
    groups = list(dict.fromkeys(group for answer in answers for group in answer.groups))
    units = {answer.unit for answer in answers}
    noun = "samples" if len(units) == len(answers) else "clusters"
    return grouped_statistics(answers, MEAN_SCORE, noun, groups)


def majority(references: Sequence[Hashable]) -> Metric:
    """Return the share of the most frequent reference."""
    if not references:
        return Metric(MAJORITY, None, "fraction", 0, "nothing was answered")
    _, most = Counter(references).most_common(1)[0]
    note = "what always giving the most frequent answer would score"
    return Metric(MAJORITY, most / len(references), "fraction", len(references), note)


def unread(count: int, answers: int, what: str) -> Metric:
    """Return the number of answers in which nothing was found.

    Args:
        count: That number.
        answers: How many there are.
        what: What was looked for.
    """
    return Metric(UNREAD, count, "count", answers, f"no {what} read; scored as wrong")


def widened(metric: Metric, units: int, top: float = 1.0, noun: str = "images") -> Metric:
    """Return a metric, where all units came out alike with an interval that is not a point.

    No redrawing shows a difference then. The interval allows for units that were not drawn:
    Wilson's bound on their share, each at best and at worst.

    Args:
        metric: With the interval that redrawing gave.
        units: How many independent units it rests on.
        top: The best that it can be.
        noun: What a unit is, in the plural.
    """
    if not units or metric.value is None or metric.low != metric.high:
        return metric
    share, _ = wilson(units, units)
    low = share * metric.value
    high = low + (1 - share) * top
    return replace(metric, low=low, high=high, interval=f"Wilson of {noun}, all alike")


def joined(first: Statistics, second: Statistics, names: Iterable[str] | None = None) -> Statistics:
    """Return both statistics of the same units as one.

    Args:
        first: All of it is kept.
        second: Its units in the same order.
        names: The metrics of `second` that are kept; all by default.
    """
    import numpy as np

    width = first.rows.shape[1]
    kept = {name: second.formulas[name] for name in (second.formulas if names is None else names)}
    return replace(
        first,
        rows=np.concatenate([first.rows, second.rows], axis=1),
        formulas={**first.formulas, **{n: _shifted(f, width) for n, f in kept.items()}},
        shares=first.shares | (second.shares & kept.keys()),
    )


def _shifted(formula: Formula, start: int) -> Formula:
    return lambda sums: formula(sums[..., start:])


def _groups(answers: Sequence[Scored], groups: Sequence[str] | None) -> Sequence[str]:
    if groups is not None:
        return groups
    return sorted({group for answer in answers for group in answer.groups})


def _mean(name: str, answers: Sequence[Scored], note: str) -> Metric:
    if not answers:
        return Metric(name, None, "fraction", 0, NOBODY)
    total, count = sum(answer.score for answer in answers), len(answers)
    if _are_shares(answers):
        return share_metric(name, round(total), count, note)
    return Metric(name, total / count, "fraction", count, note)


def _are_shares(answers: Sequence[Scored]) -> bool:
    """Return whether each unit is one answer, right or wrong."""
    alone = len({answer.unit for answer in answers}) == len(answers)
    return alone and all(answer.score in (0, 1) for answer in answers)


def _column(place: int, width: int) -> Formula:
    return lambda sums: ratio(sums[..., place], sums[..., place + width])
