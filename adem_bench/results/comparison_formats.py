"""A comparison for programs, pages and spreadsheets: JSON, CSV, Markdown, and a page."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from adem_bench.files import finite
from adem_bench.metrics.paired import Difference
from adem_bench.records import Metric, Record
from adem_bench.results.comparison import Comparison, Disagreement, Pair, is_significant
from adem_bench.results.comparison_sides import Unpaired
from adem_bench.results.comparison_suite import TaskComparison
from adem_bench.results.comparison_text import RIGHT, Findings
from adem_bench.results.leaderboard.formats.exports import inert
from adem_bench.results.leaderboard.formats.markup import escaped, table_line
from adem_bench.results.runs import OpenedRun
from adem_bench.results.variants import labels, letters

if TYPE_CHECKING:
    from adem_bench.results.html import Live

SUFFIXES = {
    ".txt": "table",
    ".md": "markdown",
    ".json": "json",
    ".csv": "csv",
    ".html": "html",
    ".htm": "html",
}


def comparison_text(findings: Findings, form: str) -> str:
    """Return a comparison as `json`, `csv`, `markdown` or `html`."""
    write = {
        "json": suite_json,
        "csv": suite_csv,
        "markdown": suite_markdown,
        "md": suite_markdown,
        "html": suite_html,
    }
    return write[form](findings)


def suite_json(findings: Findings) -> str:
    """Return a comparison as JSON; figures are in the metrics' units, unrounded."""
    suite, gate = findings.suite, findings.gate
    names = findings.letters
    tasks = [
        comparison_json(task.comparison, task.runs, [names[side] for side in task.sides])
        for task in suite.tasks
    ]
    found: dict[str, Any] = {"schema": 1}
    found |= tasks[0] if suite.is_single else {"tasks": tasks}
    found["models"] = [
        {"name": letter, "model": side.label, "given": side.given}
        for letter, side in zip(names, suite.sides, strict=True)
    ]
    found["comparisons"] = [_headline(findings, task, pair) for task, pair in suite.headlines()]
    found["summary"] = [
        {
            "first": names[first],
            "second": names[second],
            "better": better,
            "worse": worse,
            "no_difference_shown": open_,
            **({"not_judged": findings.not_judged(first, second)} if gate else {}),
        }
        for (first, second), (better, worse, open_) in suite.counts(findings.is_judged).items()
    ]
    found["not_compared"] = [_unpaired(unpaired, names) for unpaired in suite.unpaired]
    found["gate"] = asdict(gate) | {"passed": gate.passed} if gate else None
    return json.dumps(finite(found), indent=2, allow_nan=False) + "\n"


def _headline(findings: Findings, task: TaskComparison, pair: Pair) -> dict[str, Any]:
    first, second = findings.who(task, pair)
    unit = task.unit(pair.headline.metric)
    needed = None
    if findings.is_judged(task, pair):
        needed = findings.power.needed(task, pair.headline)
    return {
        "task": task.place[0],
        "split": task.place[1],
        "settings": task.settings,
        "runs": [first, second],
        "folders": [str(task.runs[place].folder) for place in (pair.first, pair.second)],
        "samples": task.comparison.samples,
        "noun": task.comparison.noun,
        "unit": unit,
        **_difference_json(pair.headline),
        "reading": findings.reading(task, pair),
        "size": needed.size if needed else None,
        "units_needed": needed.units if needed else None,
    }


def _unpaired(unpaired: Unpaired, names: Sequence[str]) -> dict[str, Any]:
    lacking = [name for side, name in enumerate(names) if side not in unpaired.sides]
    task, split = unpaired.place
    return {"task": task, "split": split, "settings": unpaired.settings, "lacking": lacking}


def comparison_json(
    comparison: Comparison, runs: Sequence[OpenedRun], names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the comparison of runs of one task as JSON, with all that two runs differ on.

    Args:
        comparison: Of the runs.
        runs: As compared.
        names: Short ones of the runs; A, B, … by default.
    """
    names = names or letters(runs)
    return {
        "task": runs[0].result.task,
        "split": runs[0].result.split,
        "runs": [
            {"name": name, "model": label, "folder": str(run.folder)}
            for name, label, run in zip(names, labels([run.run for run in runs]), runs, strict=True)
        ],
        "headline": comparison.headline,
        "samples": comparison.samples,
        "remarks": list(comparison.remarks),
        "pairs": [
            {
                "first": names[pair.first],
                "second": names[pair.second],
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


COLUMNS = (
    "task", "split", "settings", "metric", "first", "second", "first value", "second value",
    "difference", "low", "high", "p", "Holm p", "n", "n needed", "size", "test", "reading", "gate",
)  # fmt: skip


def suite_csv(findings: Findings) -> str:
    """Return a row for each task and pair; figures as in tables, per cent for fractions."""
    names = {letter: label for letter, label, _ in findings.sides}
    outcomes = {v.task: v.outcome for v in findings.gate.verdicts} if findings.gate else {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for task, pair in findings.suite.headlines():
        found, who = pair.headline, findings.who(task, pair)
        needed = findings.units_needed(task, pair)
        figures = [found.first, found.second, found.value, found.low, found.high]
        unit = task.unit(found.metric)
        shown = [
            Metric("", value, unit, 0).format() if math.isfinite(value) else "" for value in figures
        ]
        judged = (task.sides[pair.first], task.sides[pair.second]) == (0, len(names) - 1)
        cells = [*task.place, task.settings, found.metric, *(names[letter] for letter in who)]
        cells += [*shown, repr(found.p_value), repr(found.adjusted_p_value), str(found.units)]
        cells += ["" if needed is None or needed.units is None else str(needed.units)]
        cells += ["" if needed is None else Metric("", needed.size, unit, 0).format()]
        cells += [
            found.test,
            findings.reading(task, pair),
            outcomes.get(task.name, "") if judged else "",
        ]
        writer.writerow([_cell(cell) for cell in cells])
    return text.getvalue()


def _cell(text: str) -> str:
    try:
        float(text)
    except ValueError:
        return inert(text)
    return text if text != "nan" else ""


def suite_markdown(findings: Findings) -> str:
    """Return a comparison as Markdown, for a pull request or a job's summary."""
    sides = findings.sides
    gate = [f"**{escaped(findings.gate.sentence())}.**", ""] if findings.gate else []
    lines = [f"{escaped(findings.title)}.", "", *gate]
    lines += [line for text in findings.summary() for line in (f"{escaped(text)}.", "")]
    lines += [f"- {letter}: {escaped(model)} ({escaped(place)})" for letter, model, place in sides]
    header = findings.header()
    rule = ["---:" if name in RIGHT else "---" for name in header]
    lines += ["", table_line(map(escaped, header)), table_line(rule)]
    lines += [table_line(map(escaped, row)) for row in findings.rows()]
    lines.append("")
    lines += [line for text in findings.remarks() for line in (f"Note: {escaped(text)}.", "")]
    if findings.gate:
        lines += [table_line(("gate", "outcome", "why")), table_line(["---"] * 3)]
        lines += [
            table_line(map(escaped, (v.task, v.outcome, v.reason))) for v in findings.gate.verdicts
        ]
        lines.append("")
    lines += [line for text in findings.footnotes() for line in (escaped(text), "")]
    return "\n".join(lines).rstrip("\n") + "\n"


def suite_html(findings: Findings, live: Live | None = None) -> str:
    """Return a comparison as a page that needs nothing else, or one that a server keeps current."""
    from adem_bench.results.html import render_page

    suite = findings.suite
    rows = [
        (
            task.name,
            dict(zip(findings.header(), cells, strict=True)),
            is_significant(pair.headline) and findings.is_judged(task, pair),
        )
        for (task, pair), cells in zip(suite.headlines(), findings.rows(), strict=True)
    ]
    groups = [(task.name, findings.group_rows(task)) for task in suite.tasks]
    return render_page(
        "comparison.html",
        style="comparison.css",
        live=live,
        findings=findings,
        suite=suite,
        rows=rows,
        groups=[found for found in groups if found[1]],
    )
