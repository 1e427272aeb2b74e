"""VLMEvalKit's TSV files: one question a row, its images inside as base64 or named by path.

Rows are read one at a time, so that memory is bounded by the longest one; what cannot be used is
named by its row, and the others are read on. docs/tsv.md describes the columns.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TextIO

from adem_bench.data.base64_images import ImageCache
from adem_bench.data.reading import (
    RowError,
    SkippedRow,
    broken,
    data_digest,
    missing,
    name_below,
)
from adem_bench.data.table import Lines, check_text, split_rows, texts_of
from adem_bench.files import expand_home, first_file, is_file, open_bytes, open_text, text_encoding
from adem_bench.schemas import DataSource

MAX_REFERENCE_LENGTH = 64
"""Characters up to which an image cell names another row (image_base.py of VLMEvalKit)."""
HOLDS = "a tab-separated file of VLMEvalKit: index, image or image_path, question, answer, …"
RowFilter = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class TsvRow:
    """One row."""

    number: int
    """From 1, the header not counted."""
    index: str
    cells: Mapping[str, str]
    """Column to text, without the image."""
    images: tuple[Path, ...]
    """Where its images are, or will be once they are taken out of the file."""

    def text(self, column: str) -> str:
        """Return a cell, empty where there is no such column or nothing in it."""
        return self.cells.get(column, "").strip()


def find_tsv(name: str, root: Path, card_folder: Path | None, source: DataSource) -> Path:
    """Return a TSV's path: below the data root, next to its card, or where VLMEvalKit keeps it.

    Args:
        name: `NAME.tsv`, the suffix may be left out; or an absolute path.
        root: The data root.
        card_folder: The folder of the card, if it has one.
        source: Where the data is to be had, for messages.

    Raises:
        DataError: it is in none of these places.
    """
    asked = expand_home(name if name.endswith(".tsv") else f"{name}.tsv")
    own = [card_folder] if card_folder else []
    folders = [root, root / "LMUData", *own, *lmu_folders()]
    for folder in folders:
        if is_file(folder / asked):
            return folder / asked
    others = ", ".join(str(folder) for folder in folders[1:])
    places = "" if asked.is_absolute() else f" (also looked for in {others})"
    raise missing(root / asked, f"{HOLDS}{places}", source)


def lmu_folders() -> list[Path]:
    """Return `$LMUData` if there is such a folder, else `~/LMUData`, as VLMEvalKit does.

    Where there is no home folder, there is none.
    """
    chosen = os.environ.get("LMUData", "")  # noqa: SIM112  that is how it is spelt
    if chosen and Path(chosen).is_dir():
        return [Path(chosen)]
    try:
        return [Path("~/LMUData").expanduser()]
    except RuntimeError:
        return []


def md5(path: Path) -> str:
    """Return the MD5 of a file, in hexadecimal: what VLMEvalKit publishes of its files."""
    with open_bytes(path) as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@dataclass(slots=True)
class _Seen:
    """What a pass over the file has met."""

    rows: dict[str, int] = field(default_factory=dict)
    """Index to row number."""
    images: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """Index to images, of rows that hold their own."""


class TsvFile:
    """A TSV and the images that belong to it."""

    def __init__(self, path: Path, source: DataSource, image_folder: str = "") -> None:
        """Name a file; nothing is read yet.

        Args:
            path: The file.
            source: Where the data is to be had, for messages.
            image_folder: Where images named by path are, below the file's folder; `images/NAME` and
                the file's own folder if empty.
        """
        self.path = path
        self.source = source
        self._cache = ImageCache()
        self._image_folders = [
            path.parent / image_folder,
            path.parent / "images" / path.stem.removesuffix("_local"),
            path.parent,
        ][0 if image_folder else 1 :]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The header: option letters as they are, all else in lower case.

        Raises:
            DataError: the file cannot be read, or has no header or a column twice.
        """
        with self._opened() as stream:
            header = next(split_rows(Lines(stream), "\t"), "")
        names = tuple(name if len(name) == 1 else name.strip().lower() for name in header)
        twice = [name for name, count in Counter(names).items() if count > 1]
        if len(names) < 2 or isinstance(header, str) or twice:
            found = (
                f"column {twice[0]!r} stands twice" if twice else "its first line is not a header"
            )
            raise broken(self.path, HOLDS, found, self.source)
        return names

    def require(self, columns: Sequence[str]) -> None:
        """Refuse a file that lacks columns; `image|image_path` asks for one of them.

        Raises:
            DataError: the message names what is missing and what is there.
        """
        lacking = [name for name in columns if not set(name.split("|")) & set(self.columns)]
        if lacking:
            names = ", ".join(name.replace("|", " or ") for name in lacking)
            found = f"column {names} is missing; it has {', '.join(self.columns)}"
            raise broken(self.path, HOLDS, found, self.source)

    def rows(
        self, extract: bool = False, row_filter: RowFilter | None = None
    ) -> Iterator[TsvRow | SkippedRow]:
        """Yield the rows in order; those that cannot be used as `SkippedRow`, named `row N`.

        Args:
            extract: Whether images are taken out of the file into the cache.
            row_filter: Which rows to yield, by their cells; images of others stay where they are.

        Raises:
            DataError: the file is missing or unreadable, or the cache cannot be written.
        """
        seen = _Seen()
        for number, cells in self._cells():
            try:
                if isinstance(cells, str):
                    raise RowError(cells)
                row = self._row(number, cells, seen, extract, row_filter)
            except RowError as error:
                yield SkippedRow(f"row {number}", f"{self.path.name}, row {number}: {error}")
                continue
            if row is not None:
                yield row

    def _row(
        self,
        number: int,
        cells: dict[str, str],
        seen: _Seen,
        extract: bool,
        row_filter: RowFilter | None,
    ) -> TsvRow | None:
        image = cells.pop("image", "").strip()
        index = cells["index"].strip()
        if not index:
            raise RowError("it has no index")
        if index in seen.rows:
            raise RowError(f"index {index} stands twice, first in row {seen.rows[index]}")
        seen.rows[index] = number
        parts = _parts(image)
        is_own = bool(parts) and all(len(part) > MAX_REFERENCE_LENGTH for part in parts)
        if is_own:
            seen.images[index] = tuple(self._cache.path_of(part) for part in parts)
        if row_filter is not None and not row_filter(cells):
            return None
        try:
            check_text(cells)
            if is_own:
                images = seen.images[index]
                if extract:
                    self._cache.fill(zip(images, parts, strict=True))
            elif parts:
                images = tuple(
                    path
                    for part in parts
                    for path in self._referred(part, seen, extract, row_filter)
                )
            else:
                images = self._named(cells.get("image_path", ""))
        except RowError as error:
            raise RowError(f"(index {index}) {error}") from error
        return TsvRow(number, index, cells, images)

    def _referred(
        self, index: str, seen: _Seen, extract: bool, row_filter: RowFilter | None
    ) -> tuple[Path, ...]:
        """Return the images of the row that an image cell names."""
        images = seen.images.get(index) or self._all_images.get(index)
        if images is None:
            raise RowError(f"its image is that of row {index[:80]!r}, which has none of its own")
        if extract and not all(path.is_file() for path in images):
            self._extract_referred(row_filter)
        return images

    @cached_property
    def _all_images(self) -> dict[str, tuple[Path, ...]]:
        """Index to images of every row that holds its own: for references to later rows."""
        found: dict[str, tuple[Path, ...]] = {}
        for _, cells in self._cells():
            if isinstance(cells, dict):
                parts = _parts(cells["image"].strip())
                if parts and all(len(part) > MAX_REFERENCE_LENGTH for part in parts):
                    found.setdefault(cells["index"].strip(), tuple(map(self._cache.path_of, parts)))
        return found

    def _extract_referred(self, row_filter: RowFilter | None) -> None:
        """Take out every image that some chosen row refers to: later rows', or of other splits."""
        referred: set[str] = set()
        for _, cells in self._cells():
            if isinstance(cells, dict) and (row_filter is None or row_filter(cells)):
                parts = _parts(cells["image"].strip())
                referred.update(part for part in parts if len(part) <= MAX_REFERENCE_LENGTH)
        for _, cells in self._cells():
            if isinstance(cells, dict) and cells["index"].strip() in referred:
                parts = _parts(cells["image"].strip())
                if all(len(part) > MAX_REFERENCE_LENGTH for part in parts):
                    self._cache.fill((self._cache.path_of(part), part) for part in parts)

    def _named(self, cell: str) -> tuple[Path, ...]:
        """Return the files that `image_path` names, relative to where images may lie."""
        return tuple(self._file(name) for name in texts_of(cell) if name.strip())

    def _file(self, name: str) -> Path:
        # VLMEvalKit writes absolute paths where it takes images out of a large file.
        path = Path(name)
        if path.is_absolute() and path.is_relative_to(self.path.parent.absolute()):
            return path
        below = name_below(name)
        if below is None:
            raise RowError(f"image path {name[:200]!r} leads out of {self.path.parent}")
        return first_file([folder / below for folder in self._image_folders])

    def _cells(self) -> Iterator[tuple[int, dict[str, str] | str]]:
        """Yield row numbers with the cells by column, or with why there are none."""
        columns = self.columns
        number = 0
        with self._opened() as stream:
            for cells in split_rows(Lines(stream), "\t"):
                if cells and number == 0:
                    number = 1  # that was the header
                elif isinstance(cells, str):
                    yield number, cells
                    number += 1
                elif cells:
                    found = f"it has {len(cells)} cells, the header has {len(columns)}"
                    fits = len(cells) == len(columns)
                    yield number, dict(zip(columns, cells, strict=True)) if fits else found
                    number += 1

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        """Open the file, and name it in whatever goes wrong while it is read."""
        try:
            # What is not UTF-8 becomes halves of characters: a row, not the file, is refused.
            encoding = text_encoding(self.path)
            with open_text(self.path, encoding, errors="surrogateescape", newline="") as stream:
                yield stream
        except OSError as error:
            raise broken(self.path, HOLDS, f"cannot be read ({error})", self.source) from error
        except ValueError as error:
            raise broken(self.path, HOLDS, str(error), self.source) from error

    def digest(self) -> str:
        """Return a digest of the file and, where images are named by path, of their listing."""
        images: list[Path] = []
        if "image" not in self.columns:
            rows = (row for row in self.rows() if isinstance(row, TsvRow))
            images = list(dict.fromkeys(path for row in rows for path in row.images))
        return data_digest([self.path], images, self.path.parent)


def _parts(cell: str) -> list[str]:
    """Return the images of a cell: base64 or references, one or a Python list of them.

    Base64 holds neither quotes nor commas, so that a list is split rather than parsed.
    """
    if cell.startswith("[") and cell.endswith("]"):
        found = [part.strip().strip("'\"") for part in cell[1:-1].split(",")]
    elif cell.startswith("data:image/"):
        found = [cell.partition(",")[2]]
    else:
        found = [cell]
    return ["".join(part.split()) for part in found if part and not part.startswith("data:image/")]
