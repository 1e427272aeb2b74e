"""ScienceQA's nine columns, as the published scorer has them (eval_sqa.py, get_scores).

Columns overlap: a question with a hint and an image counts in TXT and in IMG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adem_bench.metrics.grouped import majority, unread
from adem_bench.metrics.intervals import Formula, Statistics, ratio, share_metric
from adem_bench.records import Metric

SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}
COLUMNS = ("NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12")
AVERAGE = "average"
LETTERS = "ABCDE"
NO_ANSWER = -1
"""Index of an answer in which no option was found; wrong, as published (get_pred_idx)."""
DRAWN_NOTE = "no option read; one was drawn (L4)"


@dataclass(frozen=True, slots=True)
class ScienceQAAnswer:
    """One answered question."""

    prediction: int
    """Index of the chosen option, or -1."""
    reference: int
    groups: tuple[str, ...]
    is_drawn: bool = False
    """Whether no option was read, and the prediction was drawn."""


def groups_of(subject: str, grade: str, has_hint: bool, has_image: bool) -> tuple[str, ...]:
    """Return the columns that a question counts in, besides the average.

    Args:
        subject: As in problems.json; an unknown one counts in no subject column.
        grade: `grade1` to `grade12`; anything else counts in no grade column.
        has_hint: Whether the hint is not empty.
        has_image: Whether the question refers to an image.
    """
    number = grade.removeprefix("grade")
    level = int(number) if number.isascii() and number.isdigit() and len(number) < 3 else 0
    found = {
        SUBJECTS.get(subject, ""): True,
        "TXT": has_hint,
        "IMG": has_image,
        "NO": not has_hint and not has_image,
        "G1-6": 1 <= level <= 6,
        "G7-12": 7 <= level <= 12,
    }
    return tuple(column for column in COLUMNS if found.get(column))


def nine_columns(answers: Sequence[ScienceQAAnswer]) -> tuple[Metric, ...]:
    """Return the eight columns, the average, the answers without an option, the majority's score.

    The published code divides by zero where a column is empty; here its value is None.
    """
    metrics = [
        _share(column, [answer for answer in answers if column in answer.groups])
        for column in COLUMNS
    ]
    drawn = sum(answer.is_drawn for answer in answers)
    missing = drawn + sum(answer.prediction == NO_ANSWER for answer in answers)
    counted = unread(missing, len(answers), "option")
    return (
        *metrics,
        _share(AVERAGE, answers),
        replace(counted, note=DRAWN_NOTE) if drawn else counted,
        majority([answer.reference for answer in answers]),
    )


def nine_statistics(answers: Mapping[str, ScienceQAAnswer]) -> Statistics:
    """Return what the columns and the average rest on: right answers and questions of each.

    Args:
        answers: Question id to its answer.
    """
    import numpy as np

    names = (*COLUMNS, AVERAGE)
    asked = np.array([_membership(answer) for answer in answers.values()], float)
    asked = asked.reshape(len(answers), len(names))  # also of no answer at all
    right = [answer.prediction == answer.reference for answer in answers.values()]
    return Statistics(
        noun="questions",
        units=tuple(answers),
        strata=("",) * len(answers),
        rows=np.concatenate([asked * np.array(right, float)[:, None], asked], axis=1),
        formulas={name: _column(place, len(names)) for place, name in enumerate(names)},
        shares=frozenset(names),
    )


def _membership(answer: ScienceQAAnswer) -> list[bool]:
    return [*(column in answer.groups for column in COLUMNS), True]


def _column(place: int, width: int) -> Formula:
    return lambda sums: ratio(sums[..., place], sums[..., place + width])


def _share(name: str, answers: Sequence[ScienceQAAnswer]) -> Metric:
    if not answers:
        return Metric(name, None, "fraction", 0, "no such question was answered")
    right = sum(answer.prediction == answer.reference for answer in answers)
    return share_metric(name, right, len(answers))
