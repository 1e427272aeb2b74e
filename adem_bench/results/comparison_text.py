"""A comparison on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from adem_bench.errors import printable
from adem_bench.metrics.paired import Difference
from adem_bench.records import Metric, Record
from adem_bench.results.comparison import Comparison, Disagreement, Pair, is_significant
from adem_bench.results.console import grid
from adem_bench.results.runs import OpenedRun
from adem_bench.results.variants import labels, letters

MAX_LENGTH = 60
HEADER = ("metric", "runs", "first", "second", "difference", "95% interval", "p", "Holm p")
HEADER_END = ("n", "test", "reading")
RIGHT = ("first", "second", "difference", "95% interval", "p", "Holm p", "n")
FOOTNOTE = (
    "p: of no difference, two-sided; Holm p: adjusted for all differences of its table. "
    "The interval is from redrawn units, not from the test, and not adjusted: the two can disagree "
    "at the margin. A difference counts as shown where Holm p < 0.05."
)


def show_comparison(
    comparison: Comparison, runs: Sequence[OpenedRun], out: Console, most: int
) -> None:
    """Print the runs, their differences, and the samples on which they differ.

    Args:
        comparison: Of the runs.
        runs: As compared.
        out: Where to.
        most: Disagreements to show for each pair.
    """
    names = letters(runs)
    result = runs[0].result
    title = f"{result.task}, split {result.split}: {counted(comparison.samples, 'samples')}"
    out.print(Text(printable(title)))
    rows = [
        (name, label, str(run.folder))
        for name, label, run in zip(names, labels(runs), runs, strict=True)
    ]
    grid(out, ("run", "model", "folder"), rows)
    for remark in comparison.remarks:
        out.print(Text(printable(f"note: {remark}")))
    units = {metric.name: metric.unit for metric in result.metrics}
    _differences(out, [(p, [p.headline]) for p in comparison.pairs], names, units)
    if any(pair.groups for pair in comparison.pairs):
        out.print()
        _differences(out, [(p, p.groups) for p in comparison.pairs], names, units)
    out.print(FOOTNOTE)
    for pair in comparison.pairs if most else ():
        out.print()
        _disagreements(out, pair, names, most, comparison.noun)


def comparison_json(comparison: Comparison, runs: Sequence[OpenedRun]) -> dict[str, Any]:
    """Return the comparison as JSON; figures are in the metrics' units, unrounded."""
    return {
        "schema": 1,
        "task": runs[0].result.task,
        "split": runs[0].result.split,
        "runs": [
            {"name": name, "model": label, "folder": str(run.folder)}
            for name, label, run in zip(letters(runs), labels(runs), runs, strict=True)
        ],
        "headline": comparison.headline,
        "samples": comparison.samples,
        "remarks": list(comparison.remarks),
        "pairs": [
            {
                "first": letters(runs)[pair.first],
                "second": letters(runs)[pair.second],
                "headline": _difference_json(pair.headline),
                "groups": [_difference_json(difference) for difference in pair.groups],
                "disagreements": [_disagreement_json(d) for d in pair.disagreements],
            }
            for pair in comparison.pairs
        ],
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return asdict(difference) | {
        "difference": difference.value,
        "significant": is_significant(difference),
    }


def _disagreement_json(disagreement: Disagreement) -> dict[str, Any]:
    return {
        "unit": disagreement.unit,
        "gap": disagreement.gap,
        "samples": [
            {
                "sample_id": first.sample_id,
                "reference": first.reference,
                "first": _answer_json(first),
                "second": _answer_json(second),
            }
            for first, second in disagreement.records
        ],
    }


def _answer_json(record: Record) -> dict[str, Any]:
    return {
        "response": record.response,
        "prediction": record.prediction,
        "score": record.score,
    }


def _differences(
    out: Console,
    found: Sequence[tuple[Pair, Sequence[Difference]]],
    names: Sequence[str],
    units: dict[str, Literal["fraction", "points", "count"]],
) -> None:
    rows = []
    for pair, differences in found:
        who = names[pair.first], names[pair.second]
        for difference in differences:
            unit = units.get(difference.metric, "fraction")
            rows.append(difference_cells(difference, who, unit))
    grid(out, (*HEADER, *HEADER_END), rows, right=RIGHT)


def difference_cells(
    difference: Difference,
    who: tuple[str, str],
    unit: Literal["fraction", "points", "count"],
) -> tuple[str, ...]:
    """Return a difference as tables print it, in the order of their columns.

    Args:
        difference: Of a metric between two runs.
        who: The names of the two.
        unit: Of the metric.
    """

    def shown(value: float) -> str:
        return Metric("", value, unit, 0).format()

    interval = Metric("", 0.0, unit, 0, "", difference.low, difference.high).format_interval()
    test = difference.test
    if difference.won is not None:
        test += f" (+{difference.won} -{difference.lost})"
    return (
        difference.metric,
        f"{who[0]}, {who[1]}",
        shown(difference.first),
        shown(difference.second),
        f"{'+' if difference.value > 0 else ''}{shown(difference.value)}",
        interval,
        shown_p_value(difference.p_value),
        shown_p_value(difference.adjusted_p_value),
        str(difference.units),
        test,
        reading(difference, who),
    )


def counted(count: int, noun: str) -> str:
    """Return `1 image` or `3 images`, of a noun in the plural."""
    return f"{count} {noun.removesuffix('s') if count == 1 else noun}"


def reading(difference: Difference, who: tuple[str, str]) -> str:
    """Return what a difference says: `B is better`, or `no difference shown`."""
    if not is_significant(difference):
        return "no difference shown"
    return f"{who[difference.value > 0]} is better"


def shown_p_value(value: float) -> str:
    """Return a p-value to three places, or `<0.001`."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _disagreements(out: Console, pair: Pair, names: Sequence[str], most: int, noun: str) -> None:
    first, second = names[pair.first], names[pair.second]
    count = len(pair.disagreements)
    won = sum(disagreement.gap > 0 for disagreement in pair.disagreements)
    lost = sum(disagreement.gap < 0 for disagreement in pair.disagreements)
    heading = (
        f"{first} and {second} differ on {counted(count, noun)}: "
        f"{first} better on {lost}, {second} on {won}"
    )
    if count > most:
        heading += f"; here {most} of them (--disagreements shows more, --format json all)"
    out.print(Text(printable(heading)))
    rows = []
    for disagreement in pair.disagreements[:most]:
        for one, other in disagreement.records:
            better = (
                ""
                if one.score == other.score and one.score is not None
                else (second if disagreement.gap > 0 else first)
            )
            cells = (one.reference, _answer(one), _answer(other))
            rows.append((one.sample_id, *map(_short, cells), better))
    if rows:
        grid(out, ("sample", "reference", first, second, "better"), rows)


def _answer(record: Record) -> object:
    """Return the response, and the prediction where a reader could not see it in the response."""
    response = record.response.strip()
    prediction = record.prediction
    if isinstance(prediction, str) and prediction.strip().lower() in response.lower():
        return response
    return f"{response} ({prediction})"


def _short(value: object) -> str:
    text = " | ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"
