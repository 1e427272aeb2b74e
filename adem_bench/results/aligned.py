"""Rows of text as aligned columns, wrapped where they are too wide.

rich's tables look the same, and take a second for each thousand rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest


def widths_within(natural: Sequence[int], width: int) -> list[int]:
    """Return the widths of columns that share a width: the widest are narrowed to be alike.

    Args:
        natural: Those that the columns would have, in cells of a terminal.
        width: What there is for all of them; each gets one cell at least.
    """
    given = dict.fromkeys(range(len(natural)), 1)
    left = width
    for place, column in enumerate(sorted(given, key=natural.__getitem__)):
        given[column] = max(1, min(natural[column], left // (len(natural) - place)))
        left -= given[column]
    return list(given.values())


def lines_of(
    cells: Sequence[Sequence[str]],
    widths: Sequence[int],
    right: Sequence[bool],
    gap: str,
    at_foot: bool = False,
) -> Iterator[str]:
    """Yield the lines of one row, without spaces at their ends.

    Args:
        cells: Of each column its lines of text.
        widths: Of the columns, in cells of a terminal.
        right: Whether a column is aligned to the right.
        gap: What stands between columns.
        at_foot: Whether cells of fewer lines stand at the foot of the row.
    """
    folded = [
        [line for text in texts for line in wrapped(text, width)]
        for texts, width in zip(cells, widths, strict=True)
    ]
    if at_foot:
        height = max(map(len, folded), default=0)
        folded = [[""] * (height - len(texts)) + texts for texts in folded]
    for line in zip_longest(*folded, fillvalue=""):
        padded = map(_padded, line, widths, right)
        yield gap.join(padded).rstrip()


def _padded(text: str, width: int, is_right: bool) -> str:
    spaces = " " * (width - cells_of(text))
    return spaces + text if is_right else text + spaces


def wrapped(text: str, width: int) -> list[str]:
    """Return a text's lines of at most a width, broken between words, and in words that are longer.

    Args:
        text: One line.
        width: In cells of a terminal.
    """
    if cells_of(text) <= width:
        return [text]
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if cells_of(longer) <= width:
            line = longer
            continue
        *whole, last = [word] if cells_of(word) <= width else _pieces(word, width)
        lines += [*([line] if line else []), *whole]
        line = last
    return [*lines, line]


def _pieces(word: str, width: int) -> Iterator[str]:
    from rich.cells import chop_cells

    return filter(None, chop_cells(word, width))


def cells_of(text: str) -> int:
    """Return how many cells of a terminal a text takes; some characters take two, or none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
