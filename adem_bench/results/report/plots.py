"""Which plots runs of one task get."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from adem_bench.metrics.intervals import Statistics, wilson
from adem_bench.records import TOO_FEW, Metric, Record
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


@dataclass(frozen=True, slots=True)
class Shown:
    """A run as the plots of its task show it."""

    label: str
    colour: int
    """A number: the same for the same model in every plot."""
    run: OpenedRun
    statistics: Statistics | None = None
    """Of tasks whose samples have no score of their own."""

    def series(
        self, estimates: Sequence[Estimate | None] = (), values: Sequence[float] = ()
    ) -> Series:
        """Return what it contributes to a plot."""
        result = self.run.result
        label = self.label if result.complete else f"{self.label}, {result.coverage()}"
        return Series(label, self.colour, estimates, values, not result.complete)


def task_plots(
    task: str,
    runs: Sequence[Shown],
    prompt_lengths: Sequence[Sequence[int]],
    remarks: list[str],
) -> Iterator[Plot]:
    """Yield the plots of runs of one task.

    Args:
        task: For titles and file names.
        runs: In the order to show.
        prompt_lengths: In characters: of all runs, or of each if they were not asked alike; nothing
            if the prompts are not available.
        remarks: Are added to: what a plot would be one block of.
    """
    yield _headlines(task, runs)
    yield from _groups(task, runs)
    yield from _distributions(task, runs, remarks)
    lengths = [
        one.series(values=[len(r.response.strip()) for r in _answered(one.run)]) for one in runs
    ]
    lengths = [one for one in lengths if one.values]
    title = f"{task}: length of answers"
    yield from _histogram(f"{task}-answers", title, lengths, "characters", "answers", remarks)
    asked = (
        [Series("prompts", 0, values=prompt_lengths[0])]
        if len(prompt_lengths) == 1
        else [one.series(values=v) for one, v in zip(runs, prompt_lengths, strict=False) if v]
    )
    title = f"{task}: length of prompts"
    yield from _histogram(f"{task}-prompts", title, asked, "characters", "prompts", remarks)
    yield from _reliability(task, runs)


def _histogram(
    name: str, title: str, series: Sequence[Series], axis: str, counted: str, remarks: list[str]
) -> Iterator[Plot]:
    """Yield a histogram; where all values are one, a remark says it better."""
    values = {value for one in series for value in one.values}
    if len(values) == 1:
        same = f"{axis}: {values.pop():.4g}"
        remarks.append(f"Not plotted, because it is the same for all: {title} ({same}).")
    elif values:
        yield histogram(name, title, series, axis, counted)


def _headlines(task: str, runs: Sequence[Shown]) -> Plot:
    headline = runs[0].run.result.headline
    metrics = [_metric(one.run, headline) for one in runs]
    series = [one.series([_estimate(metric)]) for one, metric in zip(runs, metrics, strict=True)]
    unit = next((UNITS[metric.unit] for metric in metrics if metric), "")
    return dots(f"{task}-headline", f"{task}: {headline}", series, f"{headline}, {unit}")


def _groups(task: str, runs: Sequence[Shown]) -> Iterator[Plot]:
    """Yield bars for each unit of the metrics that have an interval and are not a detail."""
    shown = runs[:MAX_SERIES]
    sums = getattr(_kind(runs), "sum_metrics", ())
    units = {
        metric.name: metric.unit
        for one in shown
        for metric in one.run.result.metrics
        if (metric.low is not None or metric.interval == TOO_FEW)
        and "." not in metric.name
        and metric.name not in sums
    }
    groups = {group for one in shown for r in one.run.records.values() for group in r.groups}
    what = "every group" if groups & units.keys() else "every metric"
    more = f" (first {MAX_SERIES} of {len(runs)} runs)" if len(runs) > MAX_SERIES else ""
    for unit in ("fraction", "points"):
        names = [name for name, its_unit in units.items() if its_unit == unit]
        if len(names) > 1:
            series = [
                one.series([_estimate(_metric(one.run, metric)) for metric in names])
                for one in shown
            ]
            yield bars(f"{task}-groups", f"{task}: {what}{more}", names, series, UNITS[unit])


def _distributions(task: str, runs: Sequence[Shown], remarks: list[str]) -> Iterator[Plot]:
    for metric in getattr(_kind(runs), "mean_metrics", ()):
        series = []
        for one in runs:
            statistics = one.statistics
            formula = statistics.formulas.get(metric) if statistics else None
            if statistics and formula:
                series.append(one.series(values=(100 * formula(statistics.rows)).tolist()))
        title = f"{task}: {metric} of each image"
        axis = f"{metric}, per cent"
        yield from _histogram(f"{task}-{metric}", title, series, axis, "images", remarks)


def _reliability(task: str, runs: Sequence[Shown]) -> Iterator[Plot]:
    found = []
    for one in runs:
        answers = [
            (_probability(r.choice_logprobs), r.score == 1)
            for r in _answered(one.run)
            if r.choice_logprobs
        ]
        known = [(p, right) for p, right in answers if math.isfinite(p)]
        if known:
            found.append(_calibration(one, known))
    if found:
        errors = ", ".join(f"{one.label.split()[0]} {error:.3f}" for one, _, error in found)
        title = f"{task}: reliability of probabilities (expected calibration error {errors})"
        yield reliability(f"{task}-reliability", title, found)


def _calibration(
    shown: Shown, answers: Sequence[tuple[float, bool]]
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
    return shown.series(estimates), means, gap


def _probability(logprobs: Sequence[float]) -> float:
    """Return the probability of the likeliest option among the options."""
    top = max(logprobs)
    total = sum(math.exp(value - top) for value in logprobs)
    return 1 / total if math.isfinite(top) and total else math.nan


def _kind(runs: Sequence[Shown]) -> Any:
    """Return the class of the runs' task, which says what its metrics are."""
    return TASK_KINDS.load(runs[0].run.kind)


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
