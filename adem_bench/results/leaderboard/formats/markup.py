"""The leaderboard as a Markdown table, and as a web page that needs nothing else."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adem_bench.errors import printable
from adem_bench.results.leaderboard.board import Column, Group, Leaderboard, Row
from adem_bench.results.leaderboard.formats.wording import (
    FIXED,
    RATE,
    figure,
    fixed,
    footnotes,
    partial,
    remarks,
    visible,
)

if TYPE_CHECKING:
    from adem_bench.results.html import Live

SPECIAL = re.compile(r"[\\`*\[\]|~$!#]|(?<!\w)_|_(?!\w)")
"""What could become a link, an image, code, emphasis, mathematics or another cell."""
SCALES = {"K": 1e3, "M": 1e6, "B": 1e9}
"""Of `4.5M` trainable parameters."""


def leaderboard_markdown(board: Leaderboard, intervals: bool) -> str:
    """Return the leaderboard as a Markdown table; the best of each column is bold."""
    header, rule = list(FIXED), ["---:", *["---"] * (len(FIXED) - 1)]
    groups = visible(board)
    for group, measured in groups:
        header += [column.title for column in group.columns]
        header += [f"{group.name} n", f"{group.name} samples/s"] if measured else []
    rule += ["---:"] * (len(header) - len(rule))
    lines = [table_line(map(escaped, header)), table_line(rule)]
    for row in board.rows:
        cells = [escaped(text) for text in fixed(board, row)]
        for group, measured in groups:
            for column in group.columns:
                cell = row.cells.get(column)
                text = escaped(figure(cell, intervals))
                cells.append(f"**{text}**" if cell and board.is_best(column, cell) else text)
            if measured:
                cells += [escaped(row.coverage(group.place)), row.rate(group.place)]
        lines.append(table_line(cells))
    notes = [f"{escaped(line)}." for line in remarks(board, intervals)]
    if any(measured for _, measured in groups):
        notes.append(f"samples/s: {RATE}.")
    for mark, note in footnotes(board):
        notes.append(escaped(f"* {note}." if mark == "*" else f"[{mark}] {note}."))
    # A blank line each: Markdown joins neighbouring lines to one paragraph.
    return "\n".join(lines) + "\n" + "".join(f"\n{note}\n" for note in notes)


def table_line(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def escaped(text: str) -> str:
    """Return text that a Markdown reader shows as it is."""
    marked = SPECIAL.sub(r"\\\g<0>", printable(text))
    return html.escape(marked, quote=False)


@dataclass(frozen=True, slots=True)
class _Task:
    """What the page shows of one task: its headline first, the rest behind all headlines."""

    group: Group
    headline: Column | None
    more: tuple[Column, ...]
    measured: bool

    @property
    def width(self) -> int:
        """Return how many columns stand behind: metrics, samples and throughput."""
        return len(self.more) + 2 * self.measured


def leaderboard_html(board: Leaderboard, intervals: bool, live: Live | None = None) -> str:
    """Return the page; its script sorts and chooses columns, and without it nothing is missing.

    Headlines stand before everything else, and measured rows before those of papers: on a phone
    the first columns and rows are all that is seen.

    Args:
        board: What is shown.
        intervals: Whether figures have their 95% intervals below them.
        live: Of a page that a server keeps current.
    """
    from adem_bench.results.html import render_page

    origins = {row.origin for row in board.rows}
    return render_page(
        "leaderboard.html",
        style="leaderboard.css",
        script="leaderboard.js",
        live=live,
        board=board,
        rows=sorted(board.rows, key=lambda row: row.origin == "published"),
        mixed=len(origins) > 1,
        tasks=[_task(group, measured) for group, measured in visible(board)],
        parameters=_parameters,
        intervals=intervals,
        remarks=remarks(board, intervals),
        partial=partial(board),
        rate=RATE,
    )


def _task(group: Group, measured: bool) -> _Task:
    named = (column for column in group.columns if column.metric == group.headline)
    headline = next(named, next(iter(group.columns), None))
    more = tuple(column for column in group.columns if column != headline)
    return _Task(group, headline, more, measured)


def _parameters(row: Row) -> str:
    """Return the number of trainable parameters, for sorting; nothing where it is no number."""
    number, scale = row.trainable_parameters[:-1], row.trainable_parameters[-1:]
    try:
        return str(float(number) * SCALES[scale]) if scale in SCALES else ""
    except ValueError:
        return ""
