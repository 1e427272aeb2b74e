"""Predictions in VLMEvalKit's format: the TSV's columns without the image, plus `prediction`.

A file is `.tsv`, `.xlsx` or `.json`. pandas reads it as VLMEvalKit has it read where scores are to
equal VLMEvalKit's: types are guessed column by column, and a cell `None` or `N/A` is empty.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError, ParserCreate

from adem_bench.data.reading import SkippedRow
from adem_bench.data.table import read_table as rows_of
from adem_bench.errors import PredictionsError
from adem_bench.files import (
    BEGINNING,
    check_regular,
    no_text,
    open_bytes,
    read_text,
    text_encoding,
    write_atomically,
)
from adem_bench.metrics.vlmevalkit_rules import MISSING_TEXT
from adem_bench.schemas import DataSource

if TYPE_CHECKING:
    import pandas as pd

HOLDS = "VLMEvalKit's predictions (.tsv, .xlsx or .json): index, prediction, and the TSV's columns"
MAX_BYTES, MAX_SHEET_BYTES = 2 << 30, 256 << 20
"""Of a predictions file, and of an unpacked spreadsheet, read into several times as much."""
ZIP = b"PK"
"""What a spreadsheet begins with."""
MAX_CELLS, MAX_COLUMNS = 1 << 22, 1 << 10
"""Of a spreadsheet, empty ones too: one cell far out makes millions of them."""
NO_CELL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML, and so a spreadsheet, cannot hold."""
MAX_CELL_LENGTH = 32_767
PROPERTIES, TIME = "docProps/core.xml", re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
INSTALL = "pip install 'adem-bench[xlsx]'"
Table = list[dict[str, str]]


def read_table(path: Path, as_vlmevalkit: bool) -> Table:
    """Return the rows of a predictions file, every cell a text, empty ones left out.

    Args:
        path: The file.
        as_vlmevalkit: Whether types are guessed and `N/A` is empty, as VLMEvalKit reads it; an
            empty prediction is then the text `nan`.

    Raises:
        PredictionsError: it cannot be read, lacks a column, or has an index twice.
    """
    import pandas as pd

    frame = _frame(path, as_vlmevalkit)
    names = [str(name) for name in frame.columns]
    frame.columns = pd.Index([n if len(n) == 1 else n.strip().lower() for n in names])
    lacking = [name for name in ("index", "prediction") if name not in frame.columns]
    if lacking:
        raise PredictionsError(
            f"{path} has no column {' and no column '.join(lacking)}; it has {', '.join(names)}; "
            f"expected {HOLDS}"
        )
    _check_columns(path, list(frame.columns))
    rows = [_texts(row) for row in frame.to_dict("records")]
    if not rows:
        raise PredictionsError(f"{path} holds no predictions; expected {HOLDS}")
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        index = row.get("index", "")
        if not index or index in seen:
            found = f"stands twice, first in row {seen[index]}" if index else "is missing"
            raise PredictionsError(f"{path}, row {number}: index {index} {found}")
        seen[index] = number
        row.setdefault("prediction", MISSING_TEXT if as_vlmevalkit else "")
    return rows


def _check_columns(path: Path, names: Sequence[str]) -> None:
    """Refuse a file of which it is not clear what an answer is, or to which row.

    Raises:
        PredictionsError: there are two such columns; pandas calls the second `prediction.1`.
    """
    for name in ("index", "prediction"):
        if names.count(name) + names.count(f"{name}.1") > 1:
            raise PredictionsError(f"{path}: column {name} stands twice; expected {HOLDS}")


def _texts(row: Mapping[Any, Any]) -> dict[str, str]:
    import pandas as pd

    # A JSON file may hold lists, which are never missing.
    return {
        str(name): str(value)
        for name, value in row.items()
        if isinstance(value, list | dict) or not (pd.isna(value) or value == "")
    }


def _frame(path: Path, as_vlmevalkit: bool) -> pd.DataFrame:
    import pandas as pd

    plain: dict[str, Any] = {} if as_vlmevalkit else {"dtype": str, "keep_default_na": False}
    readers: dict[str, Callable[[], Any]] = {
        ".tsv": lambda: (
            pd.read_csv(path, sep="\t", encoding=text_encoding(path))
            if as_vlmevalkit
            else _table(path)
        ),
        ".xlsx": lambda: _spreadsheet(path, plain),
        ".json": lambda: pd.DataFrame(json.loads(read_text(path))),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise PredictionsError(f"{path} is of no known format; expected {HOLDS}")
    try:
        _check_size(path)
        frame: pd.DataFrame = reader()
    except ModuleNotFoundError as error:
        raise PredictionsError(f"{path}: reading .xlsx needs openpyxl: {INSTALL}") from error
    except Exception as error:  # a broken spreadsheet raises nearly anything in its readers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PredictionsError(f"{path} cannot be read ({reason}); expected {HOLDS}") from error
    return frame


def _spreadsheet(path: Path, plain: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of the first table.

    Raises:
        ValueError: openpyxl takes a part for something else, an empty chart sheet for example.
    """
    import pandas as pd

    try:
        frame: pd.DataFrame = pd.read_excel(path, **plain)
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"a sheet before its table, or the table, is not what openpyxl expects: {error}; "
            "save the table alone, or as .tsv"
        ) from error
    return frame


def _table(path: Path) -> pd.DataFrame:
    """Return the rows of a TSV, read as the data's own is: a lone quote is a character.

    Raises:
        DataError: it cannot be read.
        ValueError: a row of it cannot.
    """
    import pandas as pd

    rows = list(rows_of(path, DataSource()))
    for row in rows:
        if isinstance(row, SkippedRow):
            raise ValueError(row.reason)
    return pd.DataFrame(rows, dtype=object)


def _check_size(path: Path) -> None:
    """Refuse a file that would not fit in memory, unpacked if it is a spreadsheet."""
    check_regular(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 30} GiB")
    if path.suffix.lower() == ".xlsx":
        _check_sheet(path)


def _check_sheet(path: Path) -> None:
    """Refuse what is not a spreadsheet, or one that asks for more than its few bytes let expect."""
    if not zipfile.is_zipfile(path):
        with open_bytes(path) as stream:
            beginning = stream.read(BEGINNING)
        if beginning.startswith(ZIP):
            raise ValueError("it is cut off; fetch it again")
        raise ValueError(no_text(beginning) or "it is not a spreadsheet, whatever its name says")
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > MAX_SHEET_BYTES:
            raise ValueError(f"more than {MAX_SHEET_BYTES >> 20} MiB unpacked; save it as .tsv")
        extent = _Extent()
        for part in parts:
            with archive.open(part) as stream, contextlib.suppress(ExpatError):
                extent.read(stream)  # behind an error of XML, nobody reads on
        if not extent.tables:
            raise ValueError("none of its sheets is a table")


class _Extent:
    """How much the parts of a spreadsheet make: elements, and cells up to the farthest one."""

    def __init__(self) -> None:
        from openpyxl.utils.cell import coordinate_to_tuple

        self._place = coordinate_to_tuple
        self.tables = self.elements = 0

    def read(self, stream: IO[bytes]) -> None:
        """Read a part.

        Raises:
            ExpatError: it is not XML.
            ValueError: it makes too much, or its places are none.
        """
        self.row = self.column = self.rows = self.columns = 0
        parser = ParserCreate()
        parser.StartElementHandler = self._count
        parser.ParseFile(stream)

    def _count(self, name: str, attributes: Mapping[str, str]) -> None:
        self.elements += 1
        kind, place = name.rpartition(":")[2], attributes.get("r")
        if kind == "worksheet":
            self.tables += 1
        elif kind == "row":
            self.row, self.column = int(float(place)) if place else self.row + 1, 0
        elif kind == "c":
            self.column = self._place(place)[1] if place else self.column + 1
        self.rows, self.columns = max(self.rows, self.row), max(self.columns, self.column)
        if max(self.elements, self.rows * self.columns) > MAX_CELLS:
            raise ValueError(f"more than {MAX_CELLS:,} cells; delete empty ones or save it as .tsv")
        if self.columns > MAX_COLUMNS:
            raise ValueError(
                f"more than {MAX_COLUMNS:,} columns; delete those that are not the TSV's"
            )


def write_tables(
    folder: Path, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, str]]
) -> list[Path]:
    """Write predictions as `NAME.tsv`, and as `NAME.xlsx` where openpyxl is installed.

    Args:
        folder: Where to.
        name: The data set's name, as VLMEvalKit has it in the name of such a file.
        columns: Header.
        rows: Cells by column.
    """
    table = [[row.get(column, "") for column in columns] for row in rows]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([list(columns), *table])
    path = folder / f"{name}.tsv"
    # pandas ends a cell at a NUL.
    write_atomically(path, text.getvalue().replace("\0", "").encode("utf-8", errors="replace"))
    sheet = _sheet(columns, table)
    if sheet is None:
        return [path]
    write_atomically(path.with_suffix(".xlsx"), sheet)
    return [path, path.with_suffix(".xlsx")]


def _sheet(columns: Sequence[str], table: Sequence[Sequence[str]]) -> bytes | None:
    """Return a spreadsheet whose cells are texts and never formulas; None without openpyxl."""
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
    except ModuleNotFoundError:
        return None

    book = Workbook(write_only=True)
    page = book.create_sheet()
    for row in [columns, *table]:
        cells = []
        for text in row:
            cell = WriteOnlyCell(page, NO_CELL.sub("", text)[:MAX_CELL_LENGTH])
            cell.data_type = "s"
            cells.append(cell)
        page.append(cells)
    content = io.BytesIO()
    book.save(content)
    return _undated(content)


def _undated(content: io.BytesIO) -> bytes:
    """Return an archive without the time at which it was made: equal answers, equal files."""
    undated = io.BytesIO()
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(undated, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == PROPERTIES:
                data = TIME.sub(b"1980-01-01T00:00:00Z", data)
            new.writestr(zipfile.ZipInfo(entry.filename), data, zipfile.ZIP_DEFLATED)
    return undated.getvalue()
