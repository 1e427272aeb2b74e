"""The leaderboard as a pandas table, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adem_bench.errors import printable
from adem_bench.results.leaderboard.board import Leaderboard, Row

if TYPE_CHECKING:
    import pandas as pd


def leaderboard_frame(board: Leaderboard) -> pd.DataFrame:
    """Return a row for each model, in rank order.

    Figures are unrounded, in the unit of the table (per cent for fractions), and missing where
    nothing was run. Columns: `rank`, `model`, `language model`, `trainable`, `origin`, then one
    for each metric with its bounds, then the samples of each task.
    """
    import pandas as pd

    frame = pd.DataFrame([_cells(board, row) for row in board.rows])
    if frame.empty:
        return pd.DataFrame(columns=list(_cells(board, Row("", "", "", ""))))
    counts = ["rank", *(name for name in frame.columns if name.endswith((" n", " expected")))]
    return frame.astype(dict.fromkeys(counts, "Int64"))


def _cells(board: Leaderboard, row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rank": row.rank,
        "model": printable(row.label),
        "language model": printable(row.language_model),
        "trainable": printable(row.trainable_parameters),
        "origin": row.origin,
    }
    for column in board.columns:
        cell = row.cells.get(column)
        for suffix, name in (("", "value"), (" low", "low"), (" high", "high")):
            value = getattr(cell, name, None)
            found[f"{column.title}{suffix}"] = float("nan") if value is None else value
    for group in board.groups:
        run = row.runs.get(group.place)
        found[f"{group.name} n"] = run.result.scored if run else None
        found[f"{group.name} expected"] = run.result.expected if run else None
    return found
