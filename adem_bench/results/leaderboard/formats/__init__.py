"""A leaderboard in the formats of papers, pages, spreadsheets and programs; one module each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from adem_bench.errors import ResultsError
from adem_bench.results.leaderboard.board import Leaderboard

FORMATS = {
    "table": "terminal:leaderboard_table",
    "csv": "exports:leaderboard_csv",
    "md": "markup:leaderboard_markdown",
    "markdown": "markup:leaderboard_markdown",
    "latex": "latex:leaderboard_latex",
    "json": "exports:leaderboard_json",
    "html": "markup:leaderboard_html",
}
"""Each format's `module:function`, imported when it is asked for."""
SUFFIXES = {
    ".txt": "table",
    ".csv": "csv",
    ".md": "md",
    ".tex": "latex",
    ".json": "json",
    ".html": "html",
    ".htm": "html",
}
GROUPED = ("json", "html")
"""Formats with room for every metric of a task's card; the others show headlines by default."""


def format_of(output: Path, suffixes: Mapping[str, str] = SUFFIXES) -> str:
    """Return the format that a file's name asks for.

    Args:
        output: The file.
        suffixes: What endings of names ask for.

    Raises:
        ResultsError: its suffix says nothing.
    """
    found = suffixes.get(output.suffix.lower())
    if found is None:
        known = ", ".join(suffixes)
        raise ResultsError(f"{output}: no format is known by this name; give --format, or {known}")
    return found


def leaderboard_text(board: Leaderboard, form: str, intervals: bool | None = None) -> str:
    """Return the leaderboard as text.

    Args:
        board: The leaderboard.
        form: One of `FORMATS`.
        intervals: Whether figures for people have their 95% intervals next to them; by default
            they do, except in the terminal's table. CSV and JSON always have them.
    """
    module, _, name = FORMATS[form].partition(":")
    write: Callable[[Leaderboard, bool], str]
    write = getattr(import_module(f"{__name__}.{module}"), name)
    return write(board, form != "table" if intervals is None else intervals)
