"""What is directly in a folder, read once as long as the folder does not change.

Every look-up of a name asks which cards and modules the included folders have; one that holds a
data set besides has a hundred thousand entries.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SETTLED_NS = 2_000_000_000
"""A folder that changed less long ago may change once more in the same tick of its clock."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in a folder that may be cards or modules, each kind in order."""

    cards: tuple[str, ...] = ()
    """That end in `.yaml`."""
    modules: tuple[str, ...] = ()
    """That end in `.py`."""
    packages: tuple[str, ...] = ()
    """Folders with an `__init__.py`."""


def listing(folder: Path) -> Listing:
    """Return what is in a folder; nothing if it is none, or cannot be read."""
    try:
        changed = folder.stat().st_mtime_ns
    except (OSError, ValueError):
        return Listing()
    is_settled = time.time_ns() - changed > SETTLED_NS
    return _known(folder, changed) if is_settled else _read(folder)


def forget_listings() -> None:
    """Read every folder again: that one below it became a package does not change a folder."""
    _known.cache_clear()


@lru_cache(maxsize=256)
def _known(folder: Path, changed: int) -> Listing:
    """Return what is in a folder that changed at a time, in nanoseconds."""
    return _read(folder)


def _read(folder: Path) -> Listing:
    try:
        with os.scandir(folder) as entries:
            names, folders = _names(entries)
    except OSError:
        return Listing()
    return Listing(
        cards=tuple(name for name in names if name.endswith(".yaml")),
        modules=tuple(name for name in names if name.endswith(".py")),
        packages=tuple(name for name in folders if (folder / name / "__init__.py").is_file()),
    )


def _names(entries: Iterator[os.DirEntry[str]]) -> tuple[list[str], list[str]]:
    """Return all names, and those of folders, each in order."""
    names, folders = [], []
    for entry in entries:
        names.append(entry.name)
        if entry.is_dir():
            folders.append(entry.name)
    return sorted(names), sorted(folders)
