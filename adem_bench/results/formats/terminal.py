"""The leaderboard on a terminal: ranks, headlines and samples; the other formats have more."""

from __future__ import annotations

import io

from rich.console import Console
from rich.text import Text

from adem_bench.errors import printable
from adem_bench.results.board import Leaderboard
from adem_bench.results.formats.shared import FIXED, figure, fixed, footnotes, remarks, visible
from adem_bench.results.table import console, grid


def leaderboard_table(board: Leaderboard, intervals: bool) -> str:
    """Return the leaderboard in aligned columns, as a pipe gets it."""
    text = io.StringIO()
    show_leaderboard(board, intervals, console(text))
    return text.getvalue()


def show_leaderboard(board: Leaderboard, intervals: bool, out: Console) -> None:
    """Print the leaderboard; figures of subsets carry an asterisk."""
    groups = visible(board)
    columns = [column for group, _ in groups for column in group.columns]
    counted = [group for group, measured in groups if measured]
    header = [*FIXED, *(column.title for column in columns), *(f"{g.name} n" for g in counted)]
    rows = [
        [
            *fixed(board, row),
            *(figure(row.cells.get(column), intervals) for column in columns),
            *(row.coverage(group.place) for group in counted),
        ]
        for row in board.rows
    ]
    grid(out, header, rows, right=["rank", *header[len(FIXED) :]])
    for line in remarks(board, intervals):
        out.print(Text(printable(line)))
    for mark, note in footnotes(board):
        out.print(Text(printable(f"* {note}" if mark == "*" else f"[{mark}] {note}")))
