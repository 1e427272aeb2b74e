"""What every reader needs: JSON with errors that help, safe names, cheap digests of many files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from adem_bench.errors import DataError, MissingDataError
from adem_bench.files import file_digest, is_file, read_text, why_missing
from adem_bench.records import Sample, TrainingPair
from adem_bench.schemas import DataSource

MAX_ID_DIGITS = 20
MOST_INSPECTED, MOST_MISSING = 1000, 20
"""Samples that are looked at for images, and images that are looked for."""
ANOTHER_ROOT = "; another data root is named by --data-root or $ADEM_BENCH_DATA"


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A malformed row: it is left out, reported and counted; the others are used."""

    id: str
    reason: str


class RowError(ValueError):
    """Why a row cannot be used."""


def missing(path: Path, what: str, source: DataSource) -> DataError:
    """Return the error for data that is not there: what, where, and where it is to be had.

    Args:
        path: What is missing.
        what: What should be there, in words.
        source: Where it is to be had.
    """
    found = why_missing(path)
    return MissingDataError(f"{path} {found}: expected {what}{source.remedy()}{ANOTHER_ROOT}")


def broken(path: Path, what: str, found: str, source: DataSource) -> DataError:
    """Return the error for a file that does not hold what its layout says.

    Args:
        path: The file.
        what: What it should hold, in words.
        found: What was found instead.
        source: Where it is to be had.
    """
    where = f"; to be had from {source.url}" if source.url else ""
    if is_file(path) and not path.stat().st_size:
        found = "it is empty"
    return DataError(f"{path} is not as expected: {found}; expected {what}{where}{ANOTHER_ROOT}")


def check_images(items: Iterable[Sample | TrainingPair], source: DataSource) -> None:
    """Refuse data whose images are missing, which would fail one by one.

    Args:
        items: Of which the first are looked at.
        source: Where the data is to be had.

    Raises:
        DataError: none of the first images is there.
    """
    images = (image for item in islice(items, MOST_INSPECTED) for image in item.images)
    gone: list[Path] = []
    for image in islice(images, MOST_MISSING):
        if is_file(image):
            return
        gone.append(image)
    if gone:
        more = f" (none of the first {len(gone)} is there)" if gone[1:] else ""
        raise missing(gone[0], f"an image{more}", source)


def load_json(path: Path, what: str, source: DataSource) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        what: What it should hold, in words, for messages.
        source: Where the data is to be had, for messages.

    Raises:
        DataError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except FileNotFoundError as error:
        raise missing(path, what, source) from error
    except (OSError, ValueError, RecursionError) as error:
        found = "cannot be read" if isinstance(error, OSError) else "not JSON"
        raise broken(path, what, f"{found} ({error})", source) from error


def is_safe_name(name: object) -> bool:
    """Return whether a relative file name from a data file stays below its folder."""
    if not isinstance(name, str) or not name.strip() or "\\" in name or "\0" in name:
        return False
    # As PurePosixPath parts a name, in a tenth of the time: there is one for every sample.
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return bool(parts) and name[0] != "/" and ".." not in parts and ":" not in parts[0]


def name_below(name: object) -> str | None:
    r"""Return a relative file name from a data file as this system writes it.

    Files that were made on Windows part folders by `\`. Of a name that leaves its folder, there is
    none.
    """
    here = name.replace("\\", "/") if isinstance(name, str) else name
    return str(here) if is_safe_name(here) else None


def whole_id(value: object) -> int | None:
    """Return an id that is a whole number, be it a text (`"42"`) or a float (`42.0`); else None."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < MAX_ID_DIGITS else None


def data_digest(annotations: Iterable[Path], images: Iterable[Path], root: Path) -> str:
    """Return 16 hexadecimal digits over annotation files and the names and sizes of images.

    Args:
        annotations: Files whose content counts.
        images: Files of which only name and size count: opening them all would cost too much.
        root: Folder that names are taken relative to, so that moving the data changes nothing.
    """
    digest = hashlib.sha256()
    for path in annotations:
        digest.update(f"{_relative(path, root)}\0{file_digest(path)}\n".encode(errors="replace"))
    for path in images:
        try:
            size = path.stat().st_size
        except (OSError, ValueError):
            size = -1
        digest.update(f"{_relative(path, root)}\0{size}\n".encode(errors="replace"))
    return digest.hexdigest()[:16]


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
