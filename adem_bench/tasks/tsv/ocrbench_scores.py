"""OCRBench's points: one for each answer that holds a reference, in five parts (ocrbench.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adem_bench.metrics.grouped import Scored, grouped_metrics, grouped_statistics, widened
from adem_bench.metrics.intervals import Formula, Statistics, with_intervals
from adem_bench.records import Metric

FINAL, ACCURACY = "final_score", "accuracy"
FORMULAS = "Handwritten Mathematical Expression Recognition"
PARTS = {
    "text_recognition": (
        "Regular Text Recognition",
        "Irregular Text Recognition",
        "Artistic Text Recognition",
        "Handwriting Recognition",
        "Digit String Recognition",
        "Non-Semantic Text Recognition",
    ),
    "scene_text_vqa": ("Scene Text-centric VQA",),
    "document_vqa": ("Doc-oriented VQA",),
    "key_information": ("Key Information Extraction",),
    "handwritten_formulas": (FORMULAS,),
}
NAMES = (FINAL, *PARTS, ACCURACY)


def ocrbench_metrics(answers: Sequence[Scored]) -> tuple[Metric, ...]:
    """Return the points in all and by part, the share of right answers and of each category."""
    points = []
    for name, categories in {FINAL: None, **PARTS}.items():
        members = [a for a in answers if categories is None or _is_in(a, categories)]
        value = sum(answer.score for answer in members) if members else None
        note = "" if members else "no such question was answered"
        points.append(Metric(name, value, "points", len(members), note))
    shares = grouped_metrics(answers, ACCURACY, "images")
    if not answers:
        return (*points, *shares)
    units = len({answer.unit for answer in answers})
    found = with_intervals(tuple(points), ocrbench_statistics(answers))
    return (*(widened(metric, units, metric.count) for metric in found), *shares)


def ocrbench_statistics(answers: Sequence[Scored]) -> Statistics:
    """Return what points and shares rest on, by image."""
    shares = grouped_statistics(answers, ACCURACY, "images")
    groups = list(shares.formulas)
    places = {
        FINAL: [0],
        **{
            part: [groups.index(name) for name in map(_group, categories) if name in groups]
            for part, categories in PARTS.items()
        },
    }
    points = {name: _sum(columns) for name, columns in places.items() if columns}
    return replace(shares, formulas={**points, **shares.formulas})


def _sum(columns: list[int]) -> Formula:
    return lambda sums: sums[..., columns].sum(axis=-1)


def _group(category: str) -> str:
    return f"category/{category}"


def _is_in(answer: Scored, categories: Sequence[str]) -> bool:
    return any(_group(category) in answer.groups for category in categories)
