"""MME's scores, as its eval_tool computes them, without its crash where all answers are "other".

A subtask scores 100 * acc + 100 * acc+: acc over questions, acc+ over images whose two
questions are both right. Perception and cognition are sums over subtasks (calculation.py).

For intervals, images are redrawn within their subtask, their questions together: acc+ is a figure
of images, and who misreads an image often misses both of its questions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Literal

from adem_bench.metrics import chat_answers
from adem_bench.metrics.grouped import MAJORITY, majority, widened
from adem_bench.metrics.intervals import (
    Formula,
    Statistics,
    ratio,
    share_metric,
    with_intervals,
    without_points,
)
from adem_bench.metrics.vlmevalkit_rules import read_yes_no
from adem_bench.metrics.yes_no import (
    CHAT,
    YesNo,
    read_lavin,
    read_lmms_eval,
    read_official,
)
from adem_bench.records import Metric

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = (
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
)
SUBTASKS = (*PERCEPTION, *COGNITION)
HALVES = {"perception": PERCEPTION, "cognition": COGNITION}
DETAILS = ("acc", "acc+", "precision", "recall", "other")
LAVIN = "lavin"
READERS: dict[str, Callable[[str], YesNo]] = {
    "official": read_official,
    "lmms_eval": read_lmms_eval,
    "vlmevalkit": read_yes_no,
    LAVIN: read_lavin,
    CHAT: chat_answers.read_yes_no,
}


@dataclass(frozen=True, slots=True)
class MmeAnswer:
    """One answered question."""

    subtask: str
    image: str
    """Whatever the questions of one image share."""
    prediction: YesNo
    gold: Literal["yes", "no"]


def metric_names(subtasks: Sequence[str] = SUBTASKS) -> tuple[str, ...]:
    """Return the names of all metrics that `mme_scores` makes for these subtasks."""
    details = (f"{subtask}.{detail}" for subtask in subtasks for detail in DETAILS)
    return ("perception", "cognition", "accuracy", "other", MAJORITY, *subtasks, *details)


def mme_scores(
    answers: Sequence[MmeAnswer], subtasks: Sequence[str] = SUBTASKS
) -> tuple[Metric, ...]:
    """Return the two sums, the accuracy, and the scores of every subtask with their details.

    Args:
        answers: MmeAnswer questions in any order.
        subtasks: Those that the benchmark has; a sum over fewer than the official ones says so.
    """
    grouped = {subtask: [a for a in answers if a.subtask == subtask] for subtask in subtasks}
    scores = {subtask: _score(subtask, found) for subtask, found in grouped.items()}
    sums = [_sum(half, members, scores) for half, members in HALVES.items()]
    return (
        *sums,
        _fraction("accuracy", [a.prediction == a.gold for a in answers]),
        _other("other", answers),
        majority([answer.gold for answer in answers]),
        *scores.values(),
        *(metric for subtask in subtasks for metric in _details(subtask, grouped[subtask])),
    )


def _score(subtask: str, answers: Sequence[MmeAnswer]) -> Metric:
    pairs = _pairs(answers)
    if not pairs:
        return Metric(subtask, None, "points", len(answers), "no image with all its answers")
    acc = sum(a.prediction == a.gold for a in answers) / len(answers)
    acc_plus = sum(pairs) / len(pairs)
    return Metric(subtask, acc * 100 + acc_plus * 100, "points", len(answers))


def _sum(half: str, members: Sequence[str], scores: dict[str, Metric]) -> Metric:
    # In the eval_tool's order and by plain additions, so that not even the last digit differs:
    # Python's `sum` corrects rounding errors from 3.12 on.
    found = [scores[name] for name in members if name in scores]
    known = [metric.value for metric in found if metric.value is not None]
    count = sum(metric.count for metric in found)
    note = "" if len(known) == len(members) else f"{len(known)} of {len(members)} subtasks"
    return Metric(half, reduce(add, known) if known else None, "points", count, note)


def _pairs(answers: Sequence[MmeAnswer]) -> list[bool]:
    """Return, for each image with at least two answers, whether all are right."""
    images: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        images[answer.image].append(answer.prediction == answer.gold)
    return [all(right) for right in images.values() if len(right) > 1]


def _details(subtask: str, answers: Sequence[MmeAnswer]) -> Iterator[Metric]:
    yield _fraction(f"{subtask}.acc", [a.prediction == a.gold for a in answers])
    pairs = _pairs(answers)
    # Images are independent of each other, the two questions of one are not.
    yield share_metric(f"{subtask}.acc+", sum(pairs), len(pairs))
    read = [a for a in answers if a.prediction != "other"]
    hits = sum(a.prediction == a.gold == "yes" for a in read)
    said, true = (sum(getattr(a, name) == "yes" for a in read) for name in ("prediction", "gold"))
    yield _ratio(f"{subtask}.precision", hits, said, len(answers))
    yield _ratio(f"{subtask}.recall", hits, true, len(answers))
    yield _other(f"{subtask}.other", answers)


def _fraction(name: str, right: Sequence[bool]) -> Metric:
    return _ratio(name, sum(right), len(right), len(right))


def _ratio(name: str, part: int, whole: int, count: int) -> Metric:
    if not count:
        return Metric(name, None, "fraction", 0, "nothing was answered")
    # scikit-learn, which the eval_tool uses, calls an undefined precision or recall 0.
    note = "" if whole else "undefined, 0 by convention"
    return Metric(name, part / whole if whole else 0.0, "fraction", count, note)


def _other(name: str, answers: Sequence[MmeAnswer]) -> Metric:
    other = sum(a.prediction == "other" for a in answers)
    return Metric(name, other, "count", len(answers), "neither yes nor no; scored as wrong")


PARTLY = "bootstrap of images, Wilson where all alike"
COUNTS = ("right", "questions", "both", "pairs", "hits", "said", "true")
"""Columns of a subtask: of questions, of images with two answers, and of the answers read."""
TOPS = {"": 200.0, "acc": 1.0}
"""The best that a subtask's score and its share of right answers can be."""


def mme_statistics(answers: Sequence[MmeAnswer]) -> Statistics:
    """Return what MME's scores rest on: seven counts per image, in the columns of its subtask."""
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
