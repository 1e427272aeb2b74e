"""The leaderboard as CSV, in the columns that docs/leaderboard.md promises."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from adem_bench.errors import printable
from adem_bench.results.board import Cell, Leaderboard
from adem_bench.results.finished import FinishedRun

FORMULA = re.compile(r"(^|[;,]\s*)(?=[=+\-@＝＋－＠])")  # noqa: RUF001 - wide signs count too
"""Where a formula would begin: at the start of a cell, or of what other locales take for one."""


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


def leaderboard_long(runs: Sequence[FinishedRun]) -> str:
    """Return a CSV with a row for every metric of every run; columns as in `frames.COLUMNS`."""
    from adem_bench.results.frames import TEXTS, metrics_frame

    frame = metrics_frame(runs)
    for name in TEXTS:
        frame[name] = frame[name].map(inert)
    return frame.to_csv(index=False, lineterminator="\n")


def inert(text: str) -> str:
    """Return text as one line that no spreadsheet runs."""
    # Tabs and line breaks, which spreadsheets skip before a formula, are gone after printable.
    return FORMULA.sub(r"\1'", printable(text))
