"""Entry points of other packages in this package's groups, found anew only if one was installed.

`importlib.metadata` reads what every installed package says, at each question, and is itself slow
to import. Most installations have no plug-in: then it is not imported at all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS = b"[adem_bench."
"""How a group of this package begins in a package's `entry_points.txt`."""
METADATA = (".dist-info", ".egg-info")
Place = tuple[str, int]
"""A folder or archive of `sys.path`, and when it changed last, in nanoseconds."""


def entry_points(group: str) -> Sequence[EntryPoint]:
    """Return the entry points of a group, those of packages installed since then too."""
    return _entry_points(group, _places())


def _places() -> tuple[Place, ...]:
    """Return what `sys.path` names and is there; installing a package changes its folder's time."""
    found = []
    for name in sys.path:
        try:
            # Asked at every look-up of a name: `Path.stat` would take several times as long.
            changed = os.stat(name or os.curdir).st_mtime_ns  # noqa: PTH116
            found.append((name or os.curdir, changed))
        except OSError:
            continue
    return tuple(found)


@lru_cache(maxsize=32)
def _entry_points(group: str, places: tuple[Place, ...]) -> Sequence[EntryPoint]:
    others = any(hasattr(f, "find_distributions") for f in sys.meta_path if f is not PathFinder)
    if not others and not any(_may_name_groups(*place) for place in places):
        return ()
    from importlib.metadata import entry_points as read

    return tuple(read(group=group))


@lru_cache(maxsize=256)
def _may_name_groups(place: str, changed: int) -> bool:
    """Return whether a package there may have a group of this package.

    Args:
        place: A folder or archive of `sys.path`.
        changed: When it changed last.
    """
    if not Path(place).is_dir():
        return True  # an archive: for `importlib.metadata` to open
    try:
        named = [entry.path for entry in os.scandir(place) if entry.name.endswith(METADATA)]
    except OSError:
        return True
    return any(map(_names_groups, named))


def _names_groups(folder: str) -> bool:
    try:
        return GROUPS in Path(folder, "entry_points.txt").read_bytes()
    except OSError:
        return False  # most packages have none
