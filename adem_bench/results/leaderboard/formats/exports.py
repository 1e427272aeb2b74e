"""The leaderboard for programs and spreadsheets: JSON and CSV, as docs/leaderboard.md says."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adem_bench.errors import printable
from adem_bench.results.leaderboard.board import Cell, Leaderboard, Row
from adem_bench.results.runs import FinishedRun

SCHEMA = 1
FORMULA = re.compile(r"(^|[;,]\s*)(?=[=+\-@＝＋－＠])")  # noqa: RUF001 - wide signs count too
"""Where a formula would begin: at the start of a cell, or of what other locales take for one."""


def leaderboard_json(board: Leaderboard, intervals: bool = True) -> str:
    """Return the leaderboard as JSON in ASCII; figures are unrounded, intervals always there."""
    data = {
        "schema": SCHEMA,
        "sort": board.sort.title if board.sort else None,
        "tasks": [
            {
                "task": group.task,
                "split": group.split,
                "title": group.title,
                "headline": group.headline,
                "columns": [{"name": c.title, "metric": c.metric} for c in group.columns],
            }
            for group in board.groups
        ],
        "rows": [_row(row) for row in board.rows],
    }
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def _row(row: Row) -> dict[str, Any]:
    return {
        "rank": row.rank,
        "name": row.label,
        "model": row.model,
        "tags": list(row.tags),
        "language_model": row.language_model,
        "trainable_parameters": row.trainable_parameters,
        "origin": row.origin,
        "cells": {column.title: _cell(cell) for column, cell in row.cells.items()},
        "runs": {"/".join(place): _run(run) for place, run in row.runs.items()},
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "value": _number(cell.value),
        "low": _number(cell.low),
        "high": _number(cell.high),
        "interval": cell.interval,
        "unit": cell.unit,
        "count": cell.count,
        "complete": cell.complete,
        "shown": cell.shown,
        "note": cell.note,
        **({} if cell.if_wrong is None else {"if_wrong": _number(cell.if_wrong)}),
        "source": cell.source,
    }


def _run(run: FinishedRun) -> dict[str, Any]:
    return {
        "scored": run.result.scored,
        "failed": run.result.failed,
        "expected": run.result.expected,
        "complete": run.result.complete,
        "samples_per_second": run.samples_per_second,
        "fingerprint": run.fingerprint,
        "finished": run.finished,
        "folder": str(run.folder),
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def leaderboard_csv(board: Leaderboard, intervals: bool = True) -> str:
    """Return the leaderboard as CSV; intervals always have their columns.

    New columns go to the end. Texts that a spreadsheet would take for a formula get an
    apostrophe: names of models come from other people's cards.
    """
    places = [group.place for group in board.groups]
    names = [group.name for group in board.groups]
    titles = [column.title for column in board.columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["model", "language model", "trainable", "origin", *titles]
    header += [*(f"{name} n" for name in names), "sources", "rank"]
    header += [f"{title} {bound}" for title in titles for bound in ("low", "high")]
    header += [f"{name} samples/s" for name in names]
    writer.writerow(map(inert, header))
    for row in board.rows:
        cells = [row.cells.get(column) for column in board.columns]
        texts = (row.label, row.language_model, row.trainable_parameters, row.origin)
        writer.writerow(
            [
                *map(inert, texts),
                *(cell.shown if cell else "" for cell in cells),
                *map(row.coverage, places),
                inert("; ".join(row.sources())),
                "" if row.rank is None else row.rank,
                *(bound for cell in cells for bound in _bounds(cell)),
                *map(row.rate, places),
            ]
        )
    return text.getvalue()


def _bounds(cell: Cell | None) -> tuple[str, str]:
    low, _, high = (cell.shown_interval if cell else "").strip("[]").partition(", ")
    return low, high


def leaderboard_long(runs: Sequence[FinishedRun], labels: Mapping[Path, str] | None = None) -> str:
    """Return a CSV with a row for every metric of every run; columns are `dataframe.COLUMNS`.

    Labels are as for `metrics_frame`.
    """
    from adem_bench.results.dataframe import TEXTS, metrics_frame

    frame = metrics_frame(runs, labels)
    for name in TEXTS:
        frame[name] = frame[name].map(inert)
    return frame.to_csv(index=False, lineterminator="\n")


def inert(text: str) -> str:
    """Return text as one line that no spreadsheet runs."""
    # Tabs and line breaks, which spreadsheets skip before a formula, are gone after printable.
    return FORMULA.sub(r"\1'", printable(text))
