"""Results on the terminal: metrics with what they count, and what to know before quoting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adem_bench.records import MIN_UNITS, Metric, Result
from adem_bench.results.console import Console, grid


def show_result(result: Result, out: Console, heading: str = "") -> None:
    """Print one result: its metrics with what they count, its coverage, failures and warnings.

    Args:
        result: The result.
        out: Where to.
        heading: What was evaluated, for example the model's name.
    """
    title = f"{heading + ': ' if heading else ''}{result.task}, split {result.split}"
    scored = f"{_scored(result)} (version {result.task_version} of the task)"
    out.line(f"{title}, {scored}")
    headline = [metric for metric in result.metrics if metric.name == result.headline]
    others = [metric for metric in result.metrics if metric.name != result.headline]
    # What no sample was asked for (a subset) is named in one line, not in a row each.
    shown = headline + [metric for metric in others if metric.count]
    rows = [_metric_row(metric, metric.name == result.headline) for metric in shown]
    header = ("metric", "value", "95% interval", "unit", "n", "note")
    grid(out, header, rows, right=("value", "95% interval", "n"))
    for line in _remarks(result):
        out.line(line)


def show_results(results: Sequence[tuple[str, Result]], out: Console) -> None:
    """Print the headline figures of several results, one line each.

    Args:
        results: What was evaluated (the model's name, say) and its result.
        out: Where to.
    """
    rows = []
    for name, result in results:
        metric = next((m for m in result.metrics if m.name == result.headline), None)
        shown, interval = (_figure(metric), metric.format_interval()) if metric else ("n/a", "")
        place = f"{result.task}/{result.split}"
        counts = (result.coverage(), str(result.failed))
        rows.append((name, place, result.headline, shown, interval, *counts))
    header = ("model", "task", "metric", "value", "95% interval", "n", "failed")
    grid(out, header, rows, right=("value", "95% interval", "failed"))


def _scored(result: Result) -> str:
    """Return `all 4,241 samples`, or `100 of 4,241 samples`."""
    noun = "sample" if result.expected == 1 else "samples"
    if result.scored == result.expected:
        return f"all {result.expected:,} {noun}"
    return f"{result.scored:,} of {result.expected:,} {noun}"


def _metric_row(metric: Metric, headline: bool) -> tuple[str, ...]:
    name = f"{metric.name} *" if headline else metric.name
    unit = {"fraction": "%", "points": "points", "count": ""}[metric.unit]
    return (
        name,
        metric.format(),
        metric.format_interval(),
        unit if metric.value is not None else "",
        str(metric.count),
        (metric.note),
    )


def _figure(metric: Metric) -> str:
    return (
        f"{metric.format()}%"
        if metric.unit == "fraction" and metric.value is not None
        else (metric.format())
    )


def _remarks(result: Result) -> list[str]:
    """Return what a reader must know before quoting a figure of the result."""
    lines = []
    if not result.complete:
        lines.append(
            f"SUBSET: {result.scored} of {result.expected} expected samples were scored; "
            "not comparable with published figures"
        )
    failed = result.failed - result.unusable
    if result.unusable:
        who = "1 row of the data is" if result.unusable == 1 else f"{result.unusable} rows are"
        lines.append(f"not asked: {who} not usable; samples.jsonl says why")
    if failed:
        who = "1 sample has" if failed == 1 else f"{failed} samples have"
        lines.append(f"failed: {who} no answer; samples.jsonl says why")
        headline = next((m for m in result.metrics if m.name == result.headline), None)
        if headline and headline.if_wrong is not None:
            worst = replace(headline, value=headline.if_wrong)
            lines.append(f"if they were wrong, {headline.name} would be {_figure(worst)}")
    few = [metric for metric in result.metrics if metric.has_too_few_units]
    if few:
        counts = [m.count if m.units is None else m.units for m in few]
        here = f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
        names = f"{', '.join(m.name for m in few[:6])}{', …' if len(few) > 6 else ''}"
        lines.append(
            f"no 95% interval for {names}: it needs at least {MIN_UNITS} independent units, "
            f"here {here}"
        )
    unasked = [metric.name for metric in result.metrics if not metric.count]
    if unasked:
        shown = f"{', '.join(unasked[:6])}{', …' if len(unasked) > 6 else ''}"
        noun = "metric" if len(unasked) == 1 else "metrics"
        lines.append(f"no samples for {len(unasked)} {noun}: {shown}")
    return [*lines, *(f"warning: {warning}" for warning in result.warnings)]
