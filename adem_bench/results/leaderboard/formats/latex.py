"""The leaderboard as a LaTeX table for a paper: booktabs, groups of columns, the best in bold."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from adem_bench.errors import printable
from adem_bench.results.leaderboard.board import Cell, Group, Leaderboard, Row
from adem_bench.results.leaderboard.formats.wording import (
    RATE,
    footnotes,
    remarks,
    samples,
    visible,
)

Groups = Sequence[tuple[Group, bool]]
"""As `_groups` returns them: with whether samples and throughput have columns."""
PREAMBLE = (
    r"% The preamble needs \usepackage{booktabs,adjustbox}; adjustbox shrinks a table that is"
    "\n% wider than the text. More columns: --all-metrics; fewer: --tasks.\n"
)
HEADER = ("", "Model", "Language model", "Trainable")
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "`": "'",
    "\u2013": "--", "\u2014": "---",
    "\u2018": "`", "\u2019": "'", "\u201c": "``", "\u201d": "''",
}  # fmt: skip
NOT_IN_EVERY_FONT = "ÐðÞþ"


def leaderboard_latex(board: Leaderboard, intervals: bool) -> str:
    """Return a table environment; intervals are below their figures, in small print.

    Samples and throughput have columns where every metric was asked for; else samples are a note.
    """
    groups = _groups(board)
    figures = "r" * sum(_width(group) for group in groups)
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{_caption(board, intervals)}}}",
        r"\label{tab:leaderboard}",
        r"\begin{adjustbox}{max width=\textwidth}",
        rf"\begin{{tabular}}{{rlll{figures}}}",
        r"\toprule",
        *_header(groups),
        r"\midrule",
        *(line for row in board.rows for line in _row(board, groups, row, intervals)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
        *_notes(board, groups),
        r"\end{table*}",
    ]
    return PREAMBLE + "\n".join(lines) + "\n"


def _groups(board: Leaderboard) -> Groups:
    return [(group, measured and board.all_metrics) for group, measured in visible(board)]


def _width(group: tuple[Group, bool]) -> int:
    return len(group[0].columns) + 2 * group[1]


def _caption(board: Leaderboard, intervals: bool) -> str:
    bold = "; the best of each column in bold" if board.has_best() else ""
    sentences = [f"Results{bold}", *remarks(board, intervals)]
    return " ".join(f"{tex(s[:1].upper() + s[1:])}." for s in sentences)


def _header(groups: Groups) -> Iterator[str]:
    titles, rules, names = [""] * len(HEADER), [], list(HEADER)
    start = len(HEADER) + 1
    for group, counted in groups:
        width = _width((group, counted))
        title = tex(f"{group.title}, {group.split}")
        titles.append(rf"\multicolumn{{{width}}}{{c}}{{{title}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        names += [tex(column.metric) for column in group.columns]
        names += ["$n$", "samples/s"] if counted else []
        start += width
    if groups:
        yield _line(titles)
        yield "".join(rules)
    yield _line(names)


def _row(board: Leaderboard, groups: Groups, row: Row, intervals: bool) -> Iterator[str]:
    numbers = ",".join(map(str, board.numbers(row)))
    mark = f"$^{{{numbers}}}$" if numbers else ""
    # Never empty: a cell that began with a bracket after `\\` would be read as its argument.
    rank = "--" if row.rank is None else str(row.rank)
    cells = [rank, tex(row.label) + mark, tex(row.language_model), tex(row.trainable_parameters)]
    below = [""] * len(cells)
    for group, counted in groups:
        for column in group.columns:
            cell = row.cells.get(column)
            text = tex(cell.shown) if cell else ""
            if cell and board.is_best(column, cell):
                text = rf"\textbf{{{text}}}"
            cells.append(text if not cell or cell.complete else f"{text}$^{{*}}$")
            small = ", ".join(_small(cell, intervals)) if cell else ""
            below.append(rf"{{\scriptsize {tex(small)}}}" if small else "")
        if counted:
            cells += [tex(row.coverage(group.place)), row.rate(group.place)]
            below += ["", ""]
    yield _line(cells)
    if any(below):
        yield _line(below)


def _small(cell: Cell, intervals: bool) -> Iterator[str]:
    """Yield what stands below a figure."""
    if intervals and cell.shown_interval:
        yield cell.shown_interval
    if cell.shown_if_wrong:
        yield f"at worst {cell.shown_if_wrong}"


def _notes(board: Leaderboard, groups: Groups) -> Iterator[str]:
    notes = []
    for mark, note in footnotes(board):
        origin = "" if mark == "*" else "published: "
        notes.append(rf"$^{{{mark}}}$ {origin}{tex(note)}.\par")
    if any(counted for _, counted in groups):
        notes.append(rf"samples/s: {tex(RATE)}.\par")
    elif counts := ", ".join(samples(board)):
        notes.append(rf"Samples: {tex(counts)}.\par")
    if notes:
        yield r"\par\smallskip"
        yield r"\begin{minipage}{\textwidth}\footnotesize\raggedright"
        yield from notes
        yield r"\end{minipage}"


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def tex(text: str) -> str:
    """Return text that any LaTeX engine prints as it is.

    Letters that the standard fonts lack are given by their number: `[U+4E2D]`.
    """
    return "".join(map(_letter, printable(text)))


def _letter(letter: str) -> str:
    if letter in SPECIAL:
        return SPECIAL[letter]
    if letter.isascii():
        return letter
    plain = "À" <= letter <= "ÿ" and unicodedata.category(letter)[0] == "L"
    if plain and letter not in NOT_IN_EVERY_FONT:
        return letter
    return f"[U+{ord(letter):04X}]"
