"""Which plots runs of one task get."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adem_bench.metrics.intervals import Statistics, wilson
from adem_bench.records import Metric, Record
from adem_bench.registry import TASK_KINDS
from adem_bench.results.report.charts import (
    Estimate,
    Plot,
    Series,
    bars,
    dots,
    histogram,
    reliability,
)
from adem_bench.results.runs import OpenedRun

UNITS = {"fraction": "per cent", "points": "points", "count": "count"}
BINS = 10
MAX_SERIES = 6
"""Runs that a grouped bar chart can still show."""


def task_plots(
    task: str,
    runs: Sequence[tuple[str, int, OpenedRun]],
    statistics: Mapping[int, Statistics],
    prompt_lengths: Sequence[int],
) -> Iterator[Plot]:
    """Yield the plots of runs of one task.

    Args:
        task: For titles and file names.
        runs: Each with its name and its place among them.
        statistics: By place; of tasks whose samples have no score of their own.
        prompt_lengths: In characters; nothing if the prompts are not available.
    """
    yield _headlines(task, runs)
    yield from _groups(task, runs)
    yield from _distributions(task, runs, statistics)
    lengths = [
        Series(name, place, values=[len(r.response.strip()) for r in _answered(run)])
        for name, place, run in runs
    ]
    lengths = [one for one in lengths if one.values]
    if lengths:
        yield histogram(
            f"{task}-answers", f"{task}: length of answers", lengths, "characters", "answers"
        )
    if prompt_lengths:
        one = Series("prompts", 0, values=prompt_lengths)
        title = f"{task}: length of prompts"
        yield histogram(f"{task}-prompts", title, [one], "characters", "prompts")
    yield from _reliability(task, runs)


def _headlines(task: str, runs: Sequence[tuple[str, int, OpenedRun]]) -> Plot:
    headline = runs[0][2].run.result.headline
    metrics = [_metric(run, headline) for _, _, run in runs]
    series = [
        Series(name, place, [_estimate(metric)])
        for (name, place, _), metric in zip(runs, metrics, strict=True)
    ]
    unit = next((UNITS[metric.unit] for metric in metrics if metric), "")
    return dots(f"{task}-headline", f"{task}: {headline}", series, f"{headline}, {unit}")


def _groups(task: str, runs: Sequence[tuple[str, int, OpenedRun]]) -> Iterator[Plot]:
    """Yield bars for each unit of the metrics that have an interval and are not a detail."""
    shown = runs[:MAX_SERIES]
    sums = getattr(_kind(runs), "sum_metrics", ())
    units = {
        metric.name: metric.unit
        for _, _, run in shown
        for metric in run.result.metrics
        if metric.low is not None and "." not in metric.name and metric.name not in sums
    }
    more = f" (first {MAX_SERIES} of {len(runs)} runs)" if len(runs) > MAX_SERIES else ""
    for unit in ("fraction", "points"):
        names = [name for name, its_unit in units.items() if its_unit == unit]
        if len(names) > 1:
            series = [
                Series(name, place, [_estimate(_metric(run, metric)) for metric in names])
                for name, place, run in shown
            ]
            title = f"{task}: every group{more}"
            yield bars(f"{task}-groups", title, names, series, UNITS[unit])


def _distributions(
    task: str, runs: Sequence[tuple[str, int, OpenedRun]], statistics: Mapping[int, Statistics]
) -> Iterator[Plot]:
    for metric in getattr(_kind(runs), "mean_metrics", ()):
        series = []
        for name, place, _ in runs:
            formula = statistics[place].formulas.get(metric) if place in statistics else None
            if formula is not None:
                values = (100 * formula(statistics[place].rows)).tolist()
                series.append(Series(name, place, values=values))
        if series:
            title = f"{task}: {metric} of each image"
            yield histogram(f"{task}-{metric}", title, series, f"{metric}, per cent", "images")


def _reliability(task: str, runs: Sequence[tuple[str, int, OpenedRun]]) -> Iterator[Plot]:
    found = []
    for name, place, run in runs:
        answers = [
            (_probability(r.choice_logprobs), r.score == 1)
            for r in _answered(run)
            if r.choice_logprobs
        ]
        known = [(p, right) for p, right in answers if math.isfinite(p)]
        if known:
            found.append(_calibration(name, place, known))
    if found:
        errors = ", ".join(f"{one.label.split()[0]} {error:.3f}" for one, _, error in found)
        title = f"{task}: reliability of probabilities (expected calibration error {errors})"
        yield reliability(f"{task}-reliability", title, found)


def _calibration(
    name: str, place: int, answers: Sequence[tuple[float, bool]]
) -> tuple[Series, list[float], float]:
    """Return the share right in each bin of probability, the bins' means, and the mean gap."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for probability, right in answers:
        bins[min(int(probability * BINS), BINS - 1)].append((probability, right))
    estimates, means, gap = [], [], 0.0
    for content in filter(None, bins):
        hits = sum(right for _, right in content)
        estimates.append(Estimate(hits / len(content), *wilson(hits, len(content))))
        means.append(sum(p for p, _ in content) / len(content))
        gap += abs(estimates[-1].value - means[-1]) * len(content) / len(answers)
    return Series(name, place, estimates), means, gap


def _probability(logprobs: Sequence[float]) -> float:
    """Return the probability of the likeliest option among the options."""
    top = max(logprobs)
    total = sum(math.exp(value - top) for value in logprobs)
    return 1 / total if math.isfinite(top) and total else math.nan


def _kind(runs: Sequence[tuple[str, int, OpenedRun]]) -> Any:
    """Return the class of the runs' task, which says what its metrics are."""
    return TASK_KINDS.load(runs[0][2].kind)


def _answered(run: OpenedRun) -> list[Record]:
    return [record for record in run.records.values() if record.error is None]


def _metric(run: OpenedRun, name: str) -> Metric | None:
    return next((metric for metric in run.result.metrics if metric.name == name), None)


def _estimate(metric: Metric | None) -> Estimate | None:
    if metric is None or metric.value is None or not math.isfinite(metric.value):
        return None
    scale = 100 if metric.unit == "fraction" else 1
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    return Estimate(metric.value * scale, low * scale, high * scale)
