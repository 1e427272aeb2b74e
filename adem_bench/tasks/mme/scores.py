"""MME's scores, as its eval_tool computes them, without its crash where all answers are "other".

A subtask scores 100 * acc + 100 * acc+: acc over questions, acc+ over images whose two
questions are both right. Perception and cognition are sums over subtasks (calculation.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal

from adem_bench.metrics.grouped import MAJORITY, majority
from adem_bench.metrics.intervals import share_metric
from adem_bench.metrics.vlmevalkit import read_yes_no
from adem_bench.metrics.yes_no import YesNo, read_lmms_eval, read_official
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
READERS: dict[str, Callable[[str], YesNo]] = {
    "official": read_official,
    "lmms_eval": read_lmms_eval,
    "vlmevalkit": read_yes_no,
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
