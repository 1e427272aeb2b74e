"""A comparison on a terminal."""

from __future__ import annotations

from adem_bench.records import Record
from adem_bench.results.comparison import Pair
from adem_bench.results.comparison_gate import Gate
from adem_bench.results.comparison_suite import TaskComparison
from adem_bench.results.comparison_text import HEADER, HEADER_END, RIGHT, Findings, counted
from adem_bench.results.console import Console, grid

MAX_LENGTH = 60


def show_comparison(findings: Findings, out: Console, most: int | None = None) -> None:
    """Print what is compared, the differences, and the samples on which two runs differ.

    Args:
        findings: The comparison.
        out: Where to.
        most: Disagreements to show for each pair; by default 5 of runs of one task, else none.
    """
    suite = findings.suite
    if most is None:
        most = 5 if suite.is_single else 0
    out.line(findings.title)
    grid(out, ("run", "model", "folder" if suite.is_single else "given"), findings.sides)
    for remark in findings.remarks():
        out.line(f"note: {remark}")
    grid(out, findings.header(), findings.rows(), right=RIGHT)
    if suite.is_single and (groups := findings.group_rows(suite.tasks[0])):
        out.line()
        grid(out, (*HEADER, *HEADER_END), groups, right=RIGHT)
    for line in findings.footnotes():
        out.line(line)
    if most:
        for task in suite.tasks:
            _differ(findings, task, out, most)
    if not suite.is_single:
        out.line()
        for line in findings.summary():
            out.line(line)
    if findings.gate:
        out.line()
        show_gate(findings.gate, out)


def show_gate(gate: Gate, out: Console) -> None:
    """Print what a gate says of each task, and in sum."""
    rows = [(v.task, v.outcome, v.reason) for v in gate.verdicts]
    grid(out, ("gate", "outcome", "why"), rows)
    out.line(gate.sentence())


def _differ(findings: Findings, task: TaskComparison, out: Console, most: int) -> None:
    for pair in task.comparison.pairs:
        out.line()
        if not findings.suite.is_single:
            out.line(task.name)
        _disagreements(out, pair, findings.who(task, pair), most, task.comparison.noun)


def _disagreements(out: Console, pair: Pair, names: tuple[str, str], most: int, noun: str) -> None:
    first, second = names
    count = len(pair.disagreements)
    won = sum(disagreement.gap > 0 for disagreement in pair.disagreements)
    lost = sum(disagreement.gap < 0 for disagreement in pair.disagreements)
    heading = (
        f"{first} and {second} differ on {counted(count, noun)}: "
        f"{first} better on {lost}, {second} on {won}"
    )
    rows = [
        (one.sample_id, *map(_short, (one.reference, _answer(one), _answer(other))), better)
        for disagreement in pair.disagreements
        for one, other in disagreement.records
        if (better := _better(one, other, disagreement.gap, names))
    ]
    if len(rows) > most:
        heading += (
            f"; here {most} of {counted(len(rows), 'samples')} "
            "(--disagreements shows more, --format json all)"
        )
    out.line(heading)
    if rows[:most]:
        grid(out, ("sample", "reference", first, second, "better"), rows[:most])


def _better(one: Record, other: Record, gap: float, names: tuple[str, str]) -> str:
    """Return who is better on a sample; "" if nobody is.

    Args:
        one: Of the first run.
        other: Of the second.
        gap: Of the sample's unit; it counts where the sample has no score of its own.
        names: Of the two runs.
    """
    if one.score is not None and other.score is not None:
        gap = other.score - one.score
    return names[gap > 0] if gap else ""


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
