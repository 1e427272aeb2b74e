"""The terminal: lines that are folded between words, and framed tables.

In a pipe or a file lines are never folded, and tables are plain aligned columns. rich would do the
same, and takes longer to import than most listings take.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from adem_bench.errors import printable
from adem_bench.results.aligned import cells_of, lines_of, widths_within, wrapped

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


@dataclass
class Console:
    """Where text for a reader goes."""

    stream: TextIO
    width: int | None
    """Cells of a line; None: lines are never folded."""

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it as it comes."""
        return self.width is not None

    def line(self, text: str = "") -> None:
        """Print a text, folded where it is too long; no escape sequence in it can act."""
        line = printable(text)
        self.lines([line] if self.width is None else wrapped(line, self.width))

    def lines(self, lines: Iterable[str], bold: bool = False) -> None:
        """Print lines as they are, without spaces at their ends.

        Args:
            lines: Of text that `printable` has seen.
            bold: Whether a terminal shows them so.
        """
        text = "\n".join(line.rstrip() for line in lines)
        if bold and self.width is not None and os.environ.get("TERM") != "dumb":
            text = f"{BOLD}{text}{PLAIN}"
        self.stream.write(f"{text}\n")
        self.stream.flush()

    @property
    def ascii_only(self) -> bool:
        """Whether the stream has no characters for frames."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return not encoding.lower().startswith("utf")


def console(stream: TextIO | None = None) -> Console:
    """Return a console for `stream` (None: standard output)."""
    stream = stream or sys.stdout
    return Console(stream, shutil.get_terminal_size().columns if stream.isatty() else None)


def grid(
    out: Console,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Sequence[str] = (),
) -> None:
    """Print rows of text under a header; escape sequences in cells are shown, not obeyed.

    Args:
        out: Where to.
        header: Names of the columns; a line break starts a second line.
        rows: As many cells each.
        right: Names of the columns that hold figures.
    """
    names = [[printable(line) for line in name.split("\n")] for name in header]
    texts = [[[printable(cell)] for cell in row] for row in rows]
    to_right = [name in right for name in header]
    natural = [
        max(cells_of(line) for cell in column for line in cell)
        for column in zip(names, *texts, strict=True)
    ]
    widths, margin, gap = natural, "", "  "
    if out.width is not None:
        margin, gap = " ", "   "
        left = out.width - 2 * len(margin) - len(gap) * (len(names) - 1)
        widths = natural if sum(natural) <= left else widths_within(natural, left)
        out.line()
    head = lines_of(names, widths, to_right, gap, at_foot=True)
    out.lines((margin + line for line in head), bold=True)
    if out.is_terminal:
        length = sum(widths) + len(gap) * (len(widths) - 1)
        out.lines([margin + ("-" if out.ascii_only else "─") * length])
    if texts:
        body = (line for row in texts for line in lines_of(row, widths, to_right, gap))
        out.lines(margin + line for line in body)
    if out.is_terminal:
        out.line()
