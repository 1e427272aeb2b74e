"""Intervals of MME's scores: images are redrawn within their subtask, their questions together.

The two questions of an image are one unit, because acc+ is a figure of images, and because who
misreads an image often misses both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from adem_bench.metrics.grouped import widened
from adem_bench.metrics.intervals import Formula, Statistics, ratio, with_intervals, without_points
from adem_bench.records import Metric
from adem_bench.tasks.mme.scores import HALVES, MmeAnswer

PARTLY = "bootstrap of images, Wilson where all alike"
COUNTS = ("right", "questions", "both", "pairs", "hits", "said", "true")
"""Columns of a subtask: of questions, of images with two answers, and of the answers read."""
TOPS = {"": 200.0, "acc": 1.0}
"""The best that a subtask's score and its share of right answers can be."""


def mme_statistics(answers: Sequence[MmeAnswer]) -> Statistics:
    """Return what MME's scores rest on: seven counts an image, in the columns of its subtask."""
    import numpy as np

    images: dict[tuple[str, str], list[MmeAnswer]] = {}
    for answer in answers:
        images.setdefault((answer.subtask, answer.image), []).append(answer)
    subtasks = list(dict.fromkeys(answer.subtask for answer in answers))
    rows = np.zeros((len(images), len(subtasks) * len(COUNTS)))
    for row, ((subtask, _), questions) in zip(rows, images.items(), strict=True):
        start = subtasks.index(subtask) * len(COUNTS)
        row[start : start + len(COUNTS)] = _counts(questions)
    return Statistics(
        noun="images",
        units=tuple(image for _, image in images),
        strata=tuple(subtask for subtask, _ in images),
        rows=rows,
        formulas=_formulas(subtasks),
        shares=frozenset(f"{subtask}.acc+" for subtask in subtasks),
    )


def with_mme_intervals(
    metrics: tuple[Metric, ...], answers: Sequence[MmeAnswer]
) -> tuple[Metric, ...]:
    """Return MME's metrics with their intervals.

    Where all images came out alike, no redrawing shows a difference. The interval then allows
    for images that were not drawn: Wilson's bound on their share, each at best and at worst.
    """
    if not answers:
        return metrics
    images = Counter(subtask for subtask, _ in {(a.subtask, a.image) for a in answers})
    drawn = with_intervals(metrics, mme_statistics(answers))
    found = {metric.name: _widened(metric, images) for metric in drawn}
    alike = {metric.name for metric in drawn if metric.low == metric.high} & images.keys()
    for half, members in HALVES.items():
        if half in found:
            parts = [found[name] for name in members if name in alike]
            found[half] = _with_parts(found[half], parts)
    return without_points(tuple(found.values()))


def _with_parts(half: Metric, parts: Sequence[Metric]) -> Metric:
    """Return a sum whose interval allows for its subtasks that redrawing showed no spread of.

    Subtasks are independent, so half-widths add up as deviations do: by their squares.
    """
    if half.value is None or half.low is None or half.high is None or not parts:
        return half
    below, above = (
        math.hypot(*((part.value or 0.0) - (getattr(part, end) or 0.0) for part in (half, *parts)))
        for end in ("low", "high")
    )
    return replace(half, low=half.value - below, high=half.value + above, interval=PARTLY)


def _widened(metric: Metric, images: Counter[str]) -> Metric:
    subtask, _, detail = metric.name.partition(".")
    count, top = images[subtask], TOPS.get(detail)
    if metric.name == "accuracy":
        count, top = images.total(), 1.0
    return metric if top is None else widened(metric, count, top)


def _counts(questions: Sequence[MmeAnswer]) -> list[int]:
    right = [question.prediction == question.gold for question in questions]
    read = [question for question in questions if question.prediction != "other"]
    is_pair = len(questions) > 1
    return [
        sum(right),
        len(right),
        is_pair and all(right),
        is_pair,
        sum(question.prediction == question.gold == "yes" for question in read),
        sum(question.prediction == "yes" for question in read),
        sum(question.gold == "yes" for question in read),
    ]


def _formulas(subtasks: Sequence[str]) -> dict[str, Formula]:
    import numpy as np

    column = {
        (subtask, count): place * len(COUNTS) + offset
        for place, subtask in enumerate(subtasks)
        for offset, count in enumerate(COUNTS)
    }

    def share(part: str, whole: str, *members: str) -> Formula:
        parts = [column[subtask, part] for subtask in members]
        wholes = [column[subtask, whole] for subtask in members]
        return lambda sums: ratio(sums[..., parts].sum(-1), sums[..., wholes].sum(-1))

    def score(subtask: str) -> Formula:
        acc, acc_plus = share("right", "questions", subtask), share("both", "pairs", subtask)
        return lambda sums: acc(sums) * 100 + acc_plus(sums) * 100

    def total(scores: Sequence[Formula]) -> Formula:
        def value(sums: Any) -> Any:
            found = np.stack([score(sums) for score in scores])
            # As the sum does: what a subtask lacks does not make the half undefined.
            return np.where(np.isnan(found).all(0), np.nan, np.nansum(found, 0))

        return value

    formulas: dict[str, Formula] = {"accuracy": share("right", "questions", *subtasks)}
    for half, members in HALVES.items():
        scores = [score(subtask) for subtask in members if subtask in subtasks]
        if scores:
            formulas[half] = total(scores)
    for subtask in subtasks:
        formulas[subtask] = score(subtask)
        formulas[f"{subtask}.acc"] = share("right", "questions", subtask)
        formulas[f"{subtask}.acc+"] = share("both", "pairs", subtask)
        formulas[f"{subtask}.precision"] = share("hits", "said", subtask)
        formulas[f"{subtask}.recall"] = share("hits", "true", subtask)
    return formulas
