"""The leaderboard as a Markdown table, and as a web page that needs nothing else."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from adem_bench.errors import printable
from adem_bench.results.leaderboard.board import Leaderboard
from adem_bench.results.leaderboard.formats.wording import (
    FIXED,
    PARTIAL,
    RATE,
    figure,
    fixed,
    footnotes,
    remarks,
    visible,
)

SPECIAL = re.compile(r"[\\`*\[\]|~$!#]|(?<!\w)_|_(?!\w)")
"""What could become a link, an image, code, emphasis, mathematics or another cell."""


def leaderboard_markdown(board: Leaderboard, intervals: bool) -> str:
    """Return the leaderboard as a Markdown table; the best of each column is bold."""
    header, rule = list(FIXED), ["---:", *["---"] * (len(FIXED) - 1)]
    groups = visible(board)
    for group, measured in groups:
        header += [column.title for column in group.columns]
        header += [f"{group.name} n", f"{group.name} samples/s"] if measured else []
    rule += ["---:"] * (len(header) - len(rule))
    lines = [_line(map(_escaped, header)), _line(rule)]
    for row in board.rows:
        cells = [_escaped(text) for text in fixed(board, row)]
        for group, measured in groups:
            for column in group.columns:
                cell = row.cells.get(column)
                text = _escaped(figure(cell, intervals))
                cells.append(f"**{text}**" if cell and board.is_best(column, cell) else text)
            if measured:
                cells += [_escaped(row.coverage(group.place)), row.rate(group.place)]
        lines.append(_line(cells))
    notes = [f"{_escaped(line)}." for line in remarks(board, intervals)]
    if any(measured for _, measured in groups):
        notes.append(f"samples/s: {RATE}.")
    for mark, note in footnotes(board):
        notes.append(_escaped(f"* {note}." if mark == "*" else f"[{mark}] {note}."))
    # A blank line each: Markdown joins neighbouring lines to one paragraph.
    return "\n".join(lines) + "\n" + "".join(f"\n{note}\n" for note in notes)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    """Return text that a Markdown reader shows as it is."""
    marked = SPECIAL.sub(r"\\\g<0>", printable(text))
    return html.escape(marked, quote=False)


def leaderboard_html(board: Leaderboard, intervals: bool) -> str:
    """Return the page; without its script, which sorts by a click on a header, it is complete."""
    from adem_bench.results.html import render_page

    return render_page(
        "leaderboard.html",
        style="leaderboard.css",
        script="leaderboard.js",
        board=board,
        groups=visible(board),
        intervals=intervals,
        remarks=remarks(board, intervals),
        partial=PARTIAL,
        rate=RATE,
    )
