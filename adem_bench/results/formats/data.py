"""The leaderboard as JSON, for programs; docs/leaderboard.md describes every field."""

from __future__ import annotations

import json
import math
from typing import Any

from adem_bench.results.board import Cell, Leaderboard, Row
from adem_bench.results.finished import FinishedRun

SCHEMA = 1


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
