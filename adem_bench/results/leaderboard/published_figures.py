"""Scores that papers and repositories state, each with its source; data, not measurements."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from adem_bench.cards import packaged_folder
from adem_bench.errors import ResultsError, why_unread
from adem_bench.files import open_text, text_encoding

COLUMNS = (
    "model",
    "language_model",
    "trainable_parameters",
    "task",
    "split",
    "metric",
    "value",
    "source",
    "note",
)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published figure."""

    model: str
    language_model: str
    trainable_parameters: str
    """As the source prints it, for example `4.5M`."""
    task: str
    split: str
    metric: str
    value: float
    """As tables print it: per cent for fractions, points for MME."""
    source: str
    note: str
    """Doubts: second-hand transcriptions, typos, an unclear split."""


def published_rows(path: Path | None = None) -> list[PublishedRow]:
    """Return the published figures, in the file's order.

    Args:
        path: A CSV file with the columns of `COLUMNS`; None for the one in the package.

    Raises:
        ResultsError: the file cannot be read, or a row is malformed; the line is named.
    """
    path = path or packaged_folder("results") / "published.csv"
    try:
        with open_text(path, text_encoding(path), newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ResultsError(f"{path}, line 1: expected the columns {','.join(COLUMNS)}")
            return [_row(path, reader.line_num, fields) for fields in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise ResultsError(f"{path} cannot be read: {why_unread(error)}") from error


def _row(path: Path, line: int, fields: dict[str, str]) -> PublishedRow:
    if set(fields) != set(COLUMNS) or None in fields.values():
        raise ResultsError(f"{path}, line {line}: expected {len(COLUMNS)} cells")
    try:
        value = float(fields["value"])
    except ValueError as error:
        raise ResultsError(
            f"{path}, line {line}: value {fields['value']!r}: not a number"
        ) from error
    if not fields["source"]:
        raise ResultsError(f"{path}, line {line}: a published figure needs its source")
    return PublishedRow(**{**fields, "value": value})  # type: ignore[arg-type]
