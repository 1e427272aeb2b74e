"""The leaderboard on a terminal: ranks, headlines and samples; the other formats have more."""

from __future__ import annotations

import io
from dataclasses import dataclass

from adem_bench.errors import printable
from adem_bench.results.console import Console, console, grid
from adem_bench.results.leaderboard.board import Leaderboard
from adem_bench.results.leaderboard.formats.wording import (
    FIXED,
    figure,
    fixed,
    footnotes,
    remarks,
    visible,
)

DISPENSABLE = ("trainable", "origin", "language model", "n")
"""What goes first where the window is too narrow."""
GAP = 3


@dataclass(frozen=True, slots=True)
class _Shown:
    """One column, from its header down."""

    above: str
    name: str
    cells: list[str]
    right: bool

    def width(self) -> int:
        return max(map(len, (self.above, self.name, *self.cells))) + GAP


def leaderboard_table(board: Leaderboard, intervals: bool) -> str:
    """Return the leaderboard in aligned columns, as a pipe gets it."""
    text = io.StringIO()
    show_leaderboard(board, intervals, console(text))
    return text.getvalue()


def show_leaderboard(board: Leaderboard, intervals: bool, out: Console) -> None:
    """Print the leaderboard; figures of subsets carry an asterisk.

    A window that is too narrow for all columns gets fewer of them, and a line that says so.

    Args:
        board: What to print.
        intervals: Whether figures have their 95% intervals next to them.
        out: Where to.
    """
    columns = _columns(board, intervals, out.is_terminal)
    left_out: list[str] = []
    for name in _dispensable(board):
        if out.width is None or sum(column.width() for column in columns) <= out.width:
            break
        columns = [column for column in columns if column.name != name]
        left_out.append(name)
    # A program that reads the output gets one line of headers.
    end = "\n" if out.is_terminal else " "
    header = [f"{c.above}{end}{c.name}" if c.above else c.name for c in columns]
    rows = zip(*(column.cells for column in columns), strict=True)
    right = [name for name, column in zip(header, columns, strict=True) if column.right]
    grid(out, header, list(rows), right=right)
    if left_out:
        out.line(f"left out of this narrow window: {', '.join(left_out)}; --output FILE has all")
    for line in remarks(board, intervals):
        out.line(line)
    for mark, note in footnotes(board):
        out.line(f"* {note}" if mark == "*" else f"[{mark}] {note}")


def _dispensable(board: Leaderboard) -> list[str]:
    """Return what may go: not the origin with its footnotes, nor what distinguishes rows."""
    labels = {row.label for row in board.rows}
    kept = {"origin"} if board.sources else set()
    kept |= {"language model"} if len(labels) < len(board.rows) else set()
    return [name for name in DISPENSABLE if name not in kept]


def _columns(board: Leaderboard, intervals: bool, short: bool) -> list[_Shown]:
    texts = [fixed(board, row) for row in board.rows]
    shown = [
        _Shown("", name, [cells[index] for cells in texts], name == "rank")
        for index, name in enumerate(FIXED)
    ]
    for group, measured in visible(board):
        above = printable(group.name)
        for column in group.columns:
            cells = [figure(row.cells.get(column), intervals) for row in board.rows]
            shown.append(_Shown(above, printable(column.metric), cells, True))
        if measured:
            counts = [row.coverage(group.place) for row in board.rows]
            shown.append(_Shown("" if short else above, "n", counts, True))
    return shown
