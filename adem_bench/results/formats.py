"""A leaderboard as a terminal table, CSV or Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Console

from adem_bench.errors import printable
from adem_bench.results.finished import FinishedRun
from adem_bench.results.leaderboard import Cell, Leaderboard, Row
from adem_bench.results.table import console, grid

FORMULA_STARTS = ("=", "+", "-", "@")
FIXED = ("model", "language model", "trainable", "origin")


def leaderboard_text(board: Leaderboard, form: str) -> str:
    """Return the leaderboard as text.

    Args:
        board: The leaderboard.
        form: `csv`, `md`, or anything else for aligned columns.
    """
    if form == "csv":
        return leaderboard_csv(board)
    if form == "md":
        return leaderboard_markdown(board)
    text = io.StringIO()
    show_leaderboard(board, console(text))
    return text.getvalue()


def leaderboard_csv(board: Leaderboard) -> str:
    """Return the leaderboard as CSV.

    Texts that a spreadsheet would take for a formula get a leading apostrophe: names of models
    come from other people's cards.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_header(board), "sources"])
    for row in board.rows:
        sources = "; ".join(row.sources)
        writer.writerow(
            [
                *map(_inert, _fixed(row)),
                *(_plain(row.cells.get(column)) for column in board.columns),
                *(row.counts.get(place, "") for place in board.places()),
                _inert(sources),
            ]
        )
    return text.getvalue()


def leaderboard_markdown(board: Leaderboard) -> str:
    """Return the leaderboard as a Markdown table; figures of subsets carry an asterisk."""
    header = _header(board)
    lines = [_line(header), _line(["---"] * len(FIXED) + ["---:"] * (len(header) - len(FIXED)))]
    lines += [_line(_shown(board, row)) for row in board.rows]
    return "\n".join(lines) + "\n"


def leaderboard_long(runs: Sequence[FinishedRun]) -> str:
    """Return a CSV with a row for every metric of every run; columns as in `frames.COLUMNS`."""
    from adem_bench.results.frames import metrics_frame

    frame = metrics_frame(runs)
    for name in ("model", "folder", "metric"):
        frame[name] = frame[name].map(_inert)
    return frame.to_csv(index=False, lineterminator="\n")


def show_leaderboard(board: Leaderboard, out: Console) -> None:
    """Print the leaderboard; figures of subsets carry an asterisk."""
    header = _header(board)
    grid(out, header, [_shown(board, row) for row in board.rows], right=header[len(FIXED) :])
    if any(not cell.complete for row in board.rows for cell in row.cells.values()):
        out.print("* not the whole split, or with failed samples: not comparable, ranked last")


def _header(board: Leaderboard) -> list[str]:
    counts = [f"{task}/{split} n" for task, split in board.places()]
    return [*FIXED, *(column.title for column in board.columns), *counts]


def _fixed(row: Row) -> list[str]:
    return [row.label, row.language_model, row.trainable_parameters, row.origin]


def _shown(board: Leaderboard, row: Row) -> list[str]:
    figures = [_starred(row.cells.get(column)) for column in board.columns]
    return [*_fixed(row), *figures, *(row.counts.get(place, "") for place in board.places())]


def _plain(cell: Cell | None) -> str:
    return cell.shown if cell else ""


def _starred(cell: Cell | None) -> str:
    return "" if cell is None else cell.shown if cell.complete else f"{cell.shown}*"


def _inert(text: str) -> str:
    # Tabs and line breaks, which spreadsheets skip before a formula, are gone after this.
    text = printable(text)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in cells) + " |"
