"""What the readers of question data sets share: files found, rows checked, the suite's indices.

Each data set is read in its official layout, or from an index file of TRI-ML's vlm-evaluation,
which holds questions, answers and image names of a subset. The data root may be that suite's
root: its folder `download/` is looked into last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from adem_bench.data.reading import (
    RowError,
    SkippedRow,
    broken,
    data_digest,
    missing,
    name_below,
)
from adem_bench.data.streaming import object_items
from adem_bench.records import Json
from adem_bench.schemas import DataSource

INDEX_HOLDS = "an object of questions (metadata-….json of vlm-evaluation)"


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one image."""

    id: str
    """As the data set names it, stable between its official files and the suite's indices."""
    text: str
    reference: Json
    image: Path
    groups: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    """What a program read in the image (TextVQA's OCR tokens)."""
    suite_id: str = ""
    """What the suite's results call it; empty where only its index file says so."""


class QuestionFiles(ABC):
    """The files of one split below a data root; a subclass for each data set."""

    holds: ClassVar[str]
    """What the main file holds, in words."""
    splits: ClassVar[tuple[str, ...]]
    groups: tuple[str, ...] = ()
    """The groups that have a figure of their own."""
    image_folders: ClassVar[tuple[str, ...]]
    """Below the data root, the suite's last; `{split}` is filled in."""
    id_name: ClassVar[str] = "question_id"
    answer_name: ClassVar[str] = "answer"
    """The two fields of predictions in the data set's own format."""
    has_whole_ids: ClassVar[bool] = False
    """Whether ids are whole numbers in that format."""

    def __init__(self, root: Path, split: str, source: DataSource, index: str = "") -> None:
        """Name the files; nothing is read yet.

        Args:
            root: The data root.
            split: One of `splits`.
            source: Where the data is to be had, for messages.
            index: An index file of the suite below the data root, to be read instead.
        """
        self.root = root
        self.split = split
        self.source = source
        self.index = root / index if index else None

    def rows(self) -> Iterator[Question | SkippedRow]:
        """Yield the questions in the file's order, malformed or repeated ones as `SkippedRow`.

        Raises:
            DataError: a file is missing or malformed, or has no question of the split.
        """
        seen: set[str] = set()
        is_empty = True
        for place, raw in self._indexed_rows() if self.index else self._raw_rows():
            try:
                if not isinstance(raw, dict):
                    raise RowError(f"expected an object, found {type(raw).__name__}")
                question = (self._read_index if self.index else self._read)(place, raw)
                if question and question.id in seen:
                    raise RowError(f"question {question.id!r} stands twice")
            except RowError as error:
                is_empty = False
                yield SkippedRow(place, f"{self.main_file.name}, {place}: {error}")
                continue
            if question:
                is_empty = False
                seen.add(question.id)
                yield question
        if is_empty:
            found = f"no question of split {self.split} in it"
            raise broken(self.main_file, self.holds, found, self.source)

    @property
    def main_file(self) -> Path:
        """The file that rows are counted in.

        Raises:
            DataError: it is missing.
        """
        return self.index or self._files()[0]

    def digest(self, rows: Iterable[Question | SkippedRow]) -> str:
        """Return a digest of annotation files and of the rows' images; no image is opened."""
        images = dict.fromkeys(row.image for row in rows if isinstance(row, Question))
        return data_digest([self.index] if self.index else self._files(), images, self.root)

    @cached_property
    def image_folder(self) -> Path:
        """Where the images are: the first of the known folders that exists, else the first."""
        folders = [self.root / name.format(split=self.split) for name in self.image_folders]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    @abstractmethod
    def _files(self) -> list[Path]:
        """Return the annotation files, the one that rows are counted in first."""

    @abstractmethod
    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        """Yield every row with its place, such as `row 3`; none of them is checked."""

    @abstractmethod
    def _read(self, place: str, raw: Mapping[str, Any]) -> Question | None:
        """Return the question of a row; None for one of another split.

        Raises:
            RowError: the row cannot be used.
        """

    @abstractmethod
    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question | None:
        """Return the question of a row of the suite's index; as `_read`."""

    def _indexed_rows(self) -> Iterator[tuple[str, Any]]:
        assert self.index
        yield from object_items(self.index, INDEX_HOLDS, self.source)

    def find(self, *names: str, what: str = "") -> Path:
        """Return the first of some files below the data root that is there.

        Raises:
            DataError: none is; the message names the first.
        """
        paths = [self.root / name for name in names]
        for path in paths:
            if path.is_file():
                return path
        raise missing(paths[0], what or self.holds, self.source)

    def image(self, name: object) -> Path:
        """Return an image's path.

        Raises:
            RowError: the name leaves the image folder.
        """
        below = name_below(name)
        if below is None:
            raise RowError(f"image name {name!r} is no name below the image folder")
        return self.image_folder / below

    def indexed_image(self, raw: Mapping[str, Any]) -> Path:
        """Return the path of the image that an index names from the suite's root.

        Raises:
            RowError: it lies elsewhere than the data set's images.
        """
        name = text(raw, "img_path")
        for folder in self.image_folders:
            start = folder.format(split=self.split) + "/"
            if name.replace("\\", "/").startswith(start):
                return self.image(name[len(start) :])
        raise RowError(f"`img_path` {name!r} is not below {self.image_folders[-1]}")


def text(raw: Mapping[str, Any], field: str) -> str:
    """Return a field that must be a text.

    Raises:
        RowError: it is missing, empty or something else.
    """
    value = raw.get(field)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"`{field}` must be a text, found {value!r:.60}")
    return value


def whole_number(raw: Mapping[str, Any], field: str) -> int:
    """Return a field that must be a whole number, also in text.

    Raises:
        RowError: it is missing or something else.
    """
    value = raw.get(field)
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    raise RowError(f"`{field}` must be a whole number, found {value!r:.60}")


def identifier(raw: Mapping[str, Any], field: str) -> str:
    """Return a field that must be a text or a whole number, as text.

    Raises:
        RowError: it is missing or something else.
    """
    value = raw.get(field)
    if type(value) is int or (isinstance(value, str) and value.strip()):
        return str(value)
    raise RowError(f"`{field}` must be a text or a whole number, found {value!r:.60}")


def texts(values: object, field: str) -> list[str]:
    """Return a list of texts, at least one.

    Raises:
        RowError: something else.
    """
    if not isinstance(values, list) or not values:
        raise RowError(f"`{field}` must be a list of texts, found {values!r:.60}")
    if not all(isinstance(value, str) for value in values):
        raise RowError(f"`{field}` must hold texts only")
    return values


def numbered(rows: Iterator[Any], noun: str = "row") -> Iterator[tuple[str, Any]]:
    """Yield rows with their place, such as `row 3`, counted from 1."""
    for number, row in enumerate(rows, 1):
        yield f"{noun} {number}", row


def one_of(raw: Mapping[str, Any], field: str, known: Sequence[str]) -> str:
    """Return a field that must be one of some texts.

    Args:
        raw: The row.
        field: Its name.
        known: What it may be.

    Raises:
        RowError: it is another.
    """
    value = raw.get(field)
    if value not in known:
        raise RowError(f"`{field}` must be one of {', '.join(known)}, found {value!r:.60}")
    return str(value)
