"""Rows of `.jsonl`, `.json`, `.csv` and `.tsv` files, one at a time, so that memory holds one row.

What is wrong with a row is said with its line, and the others are read on: text that is not JSON,
not an object or not UTF-8, too many cells, a row that never ends. NaN is an empty cell.
"""

from __future__ import annotations

import ast
import csv
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from adem_bench.data.reading import RowError, SkippedRow, broken, missing
from adem_bench.data.streaming import array_items
from adem_bench.files import open_text, text_encoding
from adem_bench.schemas import DataSource

MAX_CHARACTERS = 128 << 20
"""Of a row: an image of 90 MB in base64, with room for the texts."""
MAX_LITERAL = 1 << 20
"""Characters of a cell that is read as a list."""
OPEN_QUOTE = "unexpected end of data"
"""What csv says of a quote that nothing closes."""
MARK = "\ufeff"
"""Byte order mark, decoded."""
DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".jsonl", ".json", *DELIMITERS)
HOLDS = "rows: an object per line (.jsonl), a list of objects (.json), or a header and cells (.csv)"


class Row(dict[str, Any]):
    """One row, column to value; asking for a column that it lacks refuses the row."""

    def __init__(self, values: Mapping[str, Any], path: Path, number: int, noun: str) -> None:
        """Keep the values.

        Args:
            values: Column to value; None where a cell is empty.
            path: The row's file.
            number: Its place there, from 1.
            noun: What is counted: `line` or `row`.
        """
        super().__init__(values)
        self.path = path
        self.number = number
        self.noun = noun

    def __missing__(self, column: str) -> Any:
        raise RowError(f"it has no column `{column}`; it has {', '.join(self) or 'none'}")

    def items_of(self, column: str) -> list[Any]:
        """Return the values of a cell: those of a list, one of any other value, none if empty.

        A file of texts has a list written as Python or JSON writes it: `["a", "b"]`.

        Raises:
            RowError: there is no such column.
        """
        value = self[column]
        if isinstance(value, str) and self.path.suffix.lower() in DELIMITERS:
            return list(texts_of(value)) if value.strip() else []
        return value if isinstance(value, list) else [] if value is None else [value]

    def skipped(self, error: RowError | str) -> SkippedRow:
        """Return the row as one that is left out."""
        return _skipped(self.path, self.number, self.noun, error)


def read_table(path: Path, source: DataSource) -> Iterator[Row | SkippedRow]:
    """Yield the rows of a file in order, malformed ones as `SkippedRow`.

    Args:
        path: A file of one of `SUFFIXES`.
        source: Where the data is to be had, for messages.

    Raises:
        DataError: the file is missing or unreadable, of another format, or has no usable header.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        yield from _listed(path, source)
        return
    try:
        # What is not UTF-8 becomes halves of characters: a row, not the file, is refused.
        encoding = text_encoding(path)
        with open_text(path, encoding, errors="surrogateescape", newline="") as stream:
            if suffix == ".jsonl":
                yield from _objects(path, Lines(stream))
            elif suffix in DELIMITERS:
                yield from _cells(path, Lines(stream), DELIMITERS[suffix])
            else:
                known = ", ".join(SUFFIXES)
                raise ValueError(f"its name ends in {suffix!r}, and not in one of {known}")
    except FileNotFoundError as error:
        raise missing(path, HOLDS, source) from error
    except OSError as error:
        raise broken(path, HOLDS, f"cannot be read ({error})", source) from error
    except ValueError as error:
        raise broken(path, HOLDS, str(error), source) from error


def _listed(path: Path, source: DataSource) -> Iterator[Row | SkippedRow]:
    for number, value in enumerate(array_items(path, "", HOLDS, source), 1):
        yield _row(value, path, number, "row")


def _objects(path: Path, lines: Lines) -> Iterator[Row | SkippedRow]:
    for line in whole_lines(lines):
        if isinstance(line, csv.Error):
            yield _skipped(path, lines.number, "line", f"{line}")
        elif line.strip():
            try:
                # Files that were put together keep the marks of their parts.
                value = json.loads(line.rstrip("\r\n").lstrip(MARK))
            except json.JSONDecodeError as error:
                found = f"it is not JSON ({error.msg}, character {error.pos + 1})"
                yield _skipped(path, lines.number, "line", found)
                continue
            except (ValueError, RecursionError) as error:
                yield _skipped(path, lines.number, "line", f"it is not JSON ({error})")
                continue
            yield _row(value, path, lines.number, "line")


def whole_lines(lines: Lines) -> Iterator[str | csv.Error]:
    """Yield line by line, or why there is none where one is too long."""
    while True:
        lines.begin_row()
        try:
            yield next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield error


def _cells(path: Path, lines: Lines, delimiter: str) -> Iterator[Row | SkippedRow]:
    header: list[str] | None = None
    start = 1
    for cells in split_rows(lines, delimiter):
        number, start = start, lines.number + 1
        if header is None:
            header = _header(cells)
        elif isinstance(cells, str):
            yield _skipped(path, number, "line", cells)
        elif cells and len(cells) != len(header):
            found = f"it has {len(cells)} cells, the header has {len(header)}"
            yield _skipped(path, number, "line", found)
        elif cells:
            values = {name: cell or None for name, cell in zip(header, cells, strict=True)}
            yield _row(values, path, number, "line")
    if header is None:
        _header([])


def _header(cells: list[str] | str) -> list[str]:
    if isinstance(cells, str) or not cells:
        raise ValueError(f"its first line is not a header ({cells or 'it is empty'})")
    names = [name.strip() for name in cells]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"column {twice[0]!r} appears twice in its header")
    return names


def _row(value: Any, path: Path, number: int, noun: str) -> Row | SkippedRow:
    if not isinstance(value, dict):
        found = f"expected an object, found {type(value).__name__}"
        return _skipped(path, number, noun, found)
    try:
        row = Row({name: _value(cell) for name, cell in value.items()}, path, number, noun)
        check_text(row)
    except RowError as error:
        return _skipped(path, number, noun, error)
    return row


def _value(value: Any) -> Any:
    """Return a cell's value: NaN, which Python writes for an empty cell, is None."""
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise RowError(f"{value} is not a JSON value")
    return value


def _skipped(path: Path, number: int, noun: str, error: object) -> SkippedRow:
    return SkippedRow(f"{path.name}:{number}", f"{path.name}, {noun} {number}: {error}")


def check_text(cells: Mapping[str, Any]) -> None:
    """Refuse a row with a text that is not UTF-8.

    Raises:
        RowError: the message names the column.
    """
    for column, value in cells.items():
        try:
            for text in value if isinstance(value, list) else (value,):
                if isinstance(text, str):
                    text.encode()
        except UnicodeEncodeError as error:
            raise RowError(f"column {column} is not UTF-8") from error


class Lines:
    """The lines of a file, for a csv reader that reads until quotes are closed.

    Past `MAX_CHARACTERS` of a row it raises, and goes on with the line that was too much, or
    behind it if the row began with it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: list[str] = []
        """Lines that were put back, the next one last."""
        self.number = 0
        self.row_characters = 0
        self.of_row: list[str] = []
        """The lines of the row so far."""

    def __iter__(self) -> Lines:
        return self

    def begin_row(self) -> None:
        """Count from here what belongs to a row."""
        self.row_characters = 0
        self.of_row = []

    def __next__(self) -> str:
        line = self._waiting.pop() if self._waiting else self._stream.readline(MAX_CHARACTERS)
        if not line:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            line = line.lstrip(MARK)  # a second one, of a file that was marked twice
        self.row_characters += len(line)
        if self.row_characters >= MAX_CHARACTERS:
            if self.of_row:  # it may be a row of its own
                self.number -= 1
                self._waiting.append(line)
            while line and not self.of_row and not line.endswith(("\n", "\r")):
                line = self._stream.readline(1 << 20)
            raise csv.Error(f"it is longer than {MAX_CHARACTERS >> 20} MiB")
        self.of_row.append(line)
        return line

    def put_back(self, lines: Sequence[str]) -> None:
        """Give lines, the latest ones, out again."""
        self._waiting += reversed(lines)
        self.number -= len(lines)
        self.begin_row()


def split_rows(lines: Lines, delimiter: str) -> Iterator[list[str] | str]:
    """Yield the cells of each row, nothing for an empty line, or why a row has none.

    A quote at the beginning of a cell belongs to the file's syntax if another one ends the cell;
    else it is a character, and the row ends with its line. The first row says how many cells the
    others have.
    """
    # One limit for the whole process: csv has no other, and its default is 128 KiB.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CHARACTERS))
    width = 0
    while True:
        lines.begin_row()
        try:
            line = next(lines, None)
            if line is None:
                return
            if '"' in line:
                lines.put_back([line])
                cells: list[str] | str = _quoted(lines, delimiter, width)
            else:
                # Ten times as fast as csv, which copies images character by character.
                cells = _unquoted(line, delimiter)
            width = width or len(cells)
            yield cells
        except csv.Error as error:
            yield f"{error}, up to line {lines.number}"


def _unquoted(line: str, delimiter: str) -> list[str]:
    bare = line.rstrip("\r\n")
    return bare.split(delimiter) if bare else []


def _quoted(lines: Lines, delimiter: str, width: int) -> list[str] | str:
    """Return the cells of a row with quotes, or why it has none.

    Args:
        lines: At the row.
        delimiter: Between cells.
        width: How many cells rows have; 0 if it is not known yet.

    Raises:
        csv.Error: the row is too long.
    """
    first = lines.number + 1
    try:
        cells: list[str] | csv.Error = next(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        cells = error
    read = lines.of_row
    alone = _unquoted(read[0], delimiter) if read else []
    is_row = bool(width) and len(alone) == width
    if isinstance(cells, csv.Error):
        if not is_row:
            raise cells
        lines.put_back(read[1:])
        return alone
    fault = _fault(read, delimiter)
    if len(read) == 1:
        return alone if is_row and (fault == OPEN_QUOTE or len(cells) != width) else cells
    if is_row and (fault or _has_swallowed(read, cells, delimiter, width)):
        lines.put_back(read[1:])
        return alone
    if not fault or len(cells) == width:
        return cells
    lines.put_back(read[1:])
    return f"a quote opens in it that is not closed properly up to line {first + len(read) - 1}"


def _fault(read: Sequence[str], delimiter: str) -> str:
    """Return what is wrong with the quotes of a row's lines; nothing if all end with a cell."""
    try:
        list(csv.reader(read, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return str(error)
    return ""


def _has_swallowed(read: Sequence[str], cells: Sequence[str], delimiter: str, width: int) -> bool:
    """Return whether a row of several lines, whose first would be a row, is made of several rows.

    Args:
        read: Its lines.
        cells: What they are as one row.
        delimiter: Between cells; texts in quotes often hold commas, and hardly ever tabs.
        width: How many cells rows have.
    """
    if len(cells) != width:
        return True
    is_last = "\n" in cells[-1] or "\r" in cells[-1]
    others = (len(_unquoted(line, delimiter)) == width for line in read[1:])
    return delimiter == "\t" and (not is_last or any(others))


def texts_of(cell: str) -> list[str]:
    """Return the texts of a cell that holds the text of a Python list, else the cell alone.

    The list is parsed as a literal and never evaluated; what is not a list, or too long to be one
    of answers, is a text.
    """
    bare = cell.strip()
    if bare.startswith("[") and bare.endswith("]") and len(bare) <= MAX_LITERAL:
        try:
            found = ast.literal_eval(bare)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return [cell]
        if isinstance(found, list):
            return [str(item) for item in found]
    return [cell]
