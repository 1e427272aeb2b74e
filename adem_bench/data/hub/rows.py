"""Rows of a data set by hub id or in a local folder, through the `datasets` library.

Streamed, or memory-mapped where `save_to_disk` wrote the folder: never all rows in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adem_bench.errors import CardError, DataError, nearest_hint
from adem_bench.files import expand_home, file_digest
from adem_bench.schemas import TaskCard

SAVED_TO_DISK = ("dataset_dict.json", "state.json")
NO_ROWS = "BatchSize must be greater than 0"
"""What pyarrow says of a file of no rows, which datasets reads in batches of its rows."""


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A data set on the hub or on disk."""

    name: str
    """Its id, or a folder."""
    configuration: str | None = None
    revision: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a folder on disk."""
        return Path(self.name).is_dir()

    def identity(self) -> dict[str, Any]:
        """Return what tells it from other data, as JSON data: of a folder, its files' digests."""
        if not self.is_local:
            return {"id": self.name, "at": self.revision, "configuration": self.configuration}
        root = Path(self.name)
        files = sorted(
            path
            for path in root.rglob("*")
            if path.is_file() and not path.relative_to(root).as_posix().startswith(".")
        )
        return {
            "files": {path.relative_to(root).as_posix(): file_digest(path) for path in files},
            "configuration": self.configuration,
        }


def place_of(card: TaskCard) -> HubPlace:
    """Return the data set that a card's `data.source` stands for.

    Raises:
        CardError: it names none.
    """
    name = card.data.source.partition(":")[2] or card.data.hub
    if not name:
        raise CardError(
            f"task {card.name} names no data set of the hub; write data.source=hub:ID or "
            "hub:FOLDER, or the card's data.hub"
        )
    folder = expand_home(name)
    if folder.is_dir():
        return HubPlace(str(folder.resolve()))
    rest, _, configuration = name.partition("#")
    rest, _, revision = rest.partition("@")
    folder = expand_home(rest)
    if folder.is_dir():
        return HubPlace(str(folder.resolve()), configuration or None)
    if rest.startswith((".", "/", "~")) or rest.count("/") > 1:
        raise CardError(f"data.source of task {card.name}: the folder {rest} does not exist")
    return HubPlace(rest, configuration or None, revision or None)


class HubRows:
    """The rows of a data set, split by split."""

    def __init__(self, place: HubPlace, progress: Callable[[int], None] | None = None) -> None:
        self.place = place
        self.name = f"hub data set {place.name}"
        self._progress = progress or (lambda count: None)
        self._count = 0

    @cached_property
    def _splits(self) -> Mapping[str, Any]:
        if find_spec("datasets") is None:
            raise DataError(
                f"{self.name} needs the package datasets; `pip install 'adem-bench[hub]'` brings it"
            )
        import datasets

        folder = Path(self.place.name)
        saved = [
            name for name in SAVED_TO_DISK if self.place.is_local and (folder / name).is_file()
        ]
        try:
            if saved:
                found = datasets.load_from_disk(str(folder))
            else:
                found = datasets.load_dataset(
                    str(folder) if self.place.is_local else self.place.name,
                    name=self.place.configuration,
                    revision=self.place.revision,
                    streaming=True,
                )
        except Exception as error:  # the library and what it stands on raise nearly anything
            raise self._unreadable(error) from error
        # A single split that was saved to disk does not always know its name.
        return found if isinstance(found, Mapping) else {str(found.split or "test"): found}

    @property
    def splits(self) -> list[str]:
        """Names of the splits.

        Raises:
            DataError: the data set cannot be read.
        """
        return list(self._splits)

    def split(self, names: Sequence[str]) -> str:
        """Return the first of some names that is a split.

        Raises:
            DataError: none is, or the data set cannot be read.
        """
        for name in names:
            if name in self._splits:
                return name
        raise DataError(
            f"{self.name} has no split {names[0]!r}{nearest_hint(names[0], self.splits)}"
        )

    def rows(self, split: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a split in order; images are bytes, not decoded.

        Args:
            split: One of `splits`.
            columns: Those that rows must have.

        Raises:
            DataError: a row cannot be read, or lacks a column.
        """
        import datasets

        data = self._splits[split]
        try:
            for column, feature in (data.features or {}).items():
                if isinstance(feature, datasets.Image):
                    data = data.cast_column(column, datasets.Image(decode=False))
            for row in data:
                self._check_columns(split, row, columns)
                self._count += 1
                self._progress(self._count)
                yield row
        except DataError:
            raise
        except Exception as error:  # the library and what it stands on raise nearly anything
            raise self._unreadable(error) from error

    def _check_columns(self, split: str, row: Mapping[str, Any], columns: Sequence[str]) -> None:
        missing = [column for column in columns if column not in row]
        if missing:
            raise DataError(
                f"{self.name}: split {split} has no column {missing[0]!r}; expected "
                f"{', '.join(columns)}, found {', '.join(map(str, row))}"
            )

    def _unreadable(self, error: Exception) -> DataError:
        reason = " ".join(str(error).split())[:300] or "no reason given"
        if NO_ROWS in reason:
            return DataError(f"{self.name}: one of its parquet files has no rows")
        remedy = (
            "expected a folder of parquet files, or one that `save_to_disk` wrote"
            if self.place.is_local
            else f"nor is {self.place.name} a folder here; data.source=hub:FOLDER names a copy"
        )
        return DataError(f"{self.name} cannot be read ({type(error).__name__}: {reason}); {remedy}")
