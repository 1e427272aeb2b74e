"""What of a task's data is on disk, and whether what is there is good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from adem_bench.data.inventory import Listed, check_listed, listed_files, size_on_disk
from adem_bench.data.paths import default_data_root, holds_mini
from adem_bench.data.reading import SkippedRow
from adem_bench.data.remedy import MINI
from adem_bench.errors import AdemBenchError, DataError, MissingDataError
from adem_bench.images import UnreadableImageError, open_rgb
from adem_bench.registry import TASK_KINDS
from adem_bench.schemas import TaskCard
from adem_bench.tasks.base import resolve_data_root, task_of, training_data_of
from adem_bench.tasks.harnesses.data import BY_CODE, has_own_folder, published_files

MAX_NAMED = 5
"""Samples or images of one kind of problem that are named; the others are counted."""

MAX_INSPECTED = 1000
"""Samples that are looked at for one with an image."""


@dataclass(frozen=True, slots=True)
class DataStatus:
    """What is on disk for one split of a task."""

    card: TaskCard
    data_root: Path
    state: str
    """`there`, `missing`, `unusable` (something is there, and not as it should be), or `on demand`
    for data of a data source."""
    reason: str
    """What is missing or wrong, in words."""
    files: tuple[Listed, ...]

    @property
    def missing(self) -> list[Listed]:
        """Files that are needed and not there."""
        if self.state == "there":
            return []
        return [listed for listed in self.files if not listed.is_there and not listed.file.optional]

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON data."""
        data = self.card.data
        return {
            "task": self.card.name,
            "split": self.card.split,
            "state": self.state,
            "reason": self.reason,
            "source": data.source,
            "url": data.url,
            "hub": data.hub,
            "licence": data.licence,
            "layout": data.layout,
            "files": [_file_json(listed) for listed in self.files],
        }


def _file_json(listed: Listed) -> dict[str, Any]:
    return {
        "path": str(listed.path),
        "there": listed.is_there,
        "bytes_on_disk": size_on_disk(listed.path),
        "optional": listed.file.optional,
        "splits": list(listed.file.splits),
        "url": listed.file.url,
        "bytes_to_fetch": listed.file.size,
        "digests": listed.digests,
        "fetched_by_command": listed.can_be_fetched,
        "by_hand": "" if listed.can_be_fetched else listed.by_hand(),
    }


def files_of(card: TaskCard, data_root: Path) -> list[Listed]:
    """Return the files that a card's split needs, wherever they belong.

    Raises:
        CardError: the card is wrong.
    """
    return published_files(card) if has_own_folder(card) else listed_files(card, data_root)


def data_status(card: TaskCard, data_root: Path | None) -> DataStatus:
    """Return what is on disk for a card's split; no image is opened, and nothing is made.

    Raises:
        CardError: the card is wrong.
    """
    root = data_root or default_data_root()
    files = tuple(files_of(card, root))
    if has_own_folder(card):
        return _file_status(card, files)
    if card.data.source and not (card.data.source == MINI and holds_mini(root)):
        reason = f"comes from the source {card.data.source} when needed"
        return DataStatus(card, root, "on demand", reason, files)
    state, reason = _first_trouble(card, root)
    return DataStatus(card, root, state, reason, files)


def _file_status(card: TaskCard, files: tuple[Listed, ...]) -> DataStatus:
    """Return whether files are there; of those without a URL only a harness's code knows."""
    folder = files[0].path.parent
    missing = [listed for listed in files if not listed.is_there]
    if not missing:
        return DataStatus(card, folder, "there", "", files)
    if not all(listed.file.url for listed in missing):
        return DataStatus(card, folder, "on demand", BY_CODE, files)
    return DataStatus(card, folder, "missing", ", ".join(str(one.path) for one in missing), files)


def _first_trouble(card: TaskCard, root: Path) -> tuple[str, str]:
    """Return the state of the first samples, up to one with an image, and what is wrong."""
    try:
        for _, images in islice(_items(card, root), MAX_INSPECTED):
            if images:
                wrong = _missing_or_empty(images[0])
                return ("missing" if wrong else "there"), wrong
    except MissingDataError as error:
        return "missing", str(error)
    except DataError as error:
        return "unusable", str(error)
    return "there", ""


@dataclass(slots=True)
class Verification:
    """What a check of a task's data found."""

    task: str
    split: str
    samples: int = 0
    expected: int | None = None
    images: int = 0
    """Different images that samples name."""
    opened: int = 0
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the findings as JSON data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def verify_data(card: TaskCard, data_root: Path | None, most_opened: int | None) -> Verification:
    """Check the files of a split, its samples, and its images.

    Args:
        card: Whose data.
        data_root: None for the default root.
        most_opened: How many images are opened, spread evenly; None for all. That they exist and
            are not empty is checked of all.

    Raises:
        CardError: the card is wrong.
    """
    found = Verification(card.name, card.split, expected=card.expected.get(card.split))
    images: dict[Path, str] = {}
    try:
        for listed in files_of(card, data_root or default_data_root()):
            _check_file(listed, found)
        root = resolve_data_root(card, data_root)
        for sample_id, paths in _items(card, root, found):
            found.samples += 1
            for path in paths:
                images.setdefault(path, sample_id)
    except DataError as error:
        found.problems.append(str(error))
        return found
    if found.expected is not None and found.samples != found.expected:
        found.problems.append(
            f"split {card.split} has {found.samples:,} samples, published are {found.expected:,}"
        )
    found.images = len(images)
    _check_images(images, most_opened, found)
    return found


def _check_file(listed: Listed, found: Verification) -> None:
    try:
        check_listed(listed)
    except AdemBenchError as error:
        found.problems.append(str(error))


def _check_images(images: dict[Path, str], most: int | None, found: Verification) -> None:
    bad = {path: wrong for path in images if (wrong := _missing_or_empty(path))}
    good = [path for path in images if path not in bad]
    count = len(good) if most is None else min(most, len(good))
    for index in range(count):
        path = good[index * len(good) // count]
        try:
            # At a fraction of its size where the format can: broken data shows all the same.
            open_rgb(path, at_least=64)
            found.opened += 1
        except UnreadableImageError as error:
            bad[path] = str(error)
    lines = [f"sample {images[path]}: {wrong}" for path, wrong in bad.items()]
    found.problems += _few(lines, "images")


def _missing_or_empty(path: Path) -> str:
    try:
        return "" if path.stat().st_size else f"image {path} is empty"
    except (OSError, ValueError):
        return f"image {path} does not exist"


def _few(lines: list[str], what: str) -> list[str]:
    more = len(lines) - MAX_NAMED
    return [*lines[:MAX_NAMED], *([f"and {more:,} more {what}"] if more > 0 else [])]


def _items(
    card: TaskCard, root: Path, found: Verification | None = None
) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Yield ids and images of a split's samples, or training pairs; note what was left out."""
    files = card.model_copy(update={"data": card.data.model_copy(update={"source": ""})})
    skipped: list[SkippedRow]
    if card.headline or not hasattr(TASK_KINDS.load(card.kind), "training_pairs"):
        task = task_of(files, root)
        yield from ((sample.id, sample.images) for sample in task.samples())
        skipped = list(task.skipped_rows())
    else:
        data = training_data_of(files, root)
        yield from ((pair.id, pair.images) for pair in data.training_pairs())
        skipped = list(data.skipped_rows())
    if found is not None:
        found.problems += _few([f"{row.id}: {row.reason}" for row in skipped], "rows")
