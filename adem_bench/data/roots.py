"""Where data lies: the user's data root, and a cache for data that the package makes itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.errors import CardError, DataError, ResultsError, nearest_hint

if TYPE_CHECKING:
    from adem_bench.schemas import TaskCard

GENERATED_SPLITS = {
    **{name: (name,) for name in ("train", "val", "test")},
    **{f"mini{name}": (name,) for name in ("train", "val", "test")},
    "trainval": ("train", "val"),
    "all": ("train",),
}
"""Split of a task to the splits that must be generated for it; `all` is the instructions'."""
MINI = "mini"
"""The data source of what the package makes itself, unless a data root is given."""
TRAIN_SIZE = 24_000
"""Items of each generated train split: what the shipped adapter is trained on."""


def default_data_root() -> Path:
    """Return `$ADEM_BENCH_DATA`, or `./data`."""
    return Path(os.environ.get("ADEM_BENCH_DATA") or "data").expanduser()


def cache_root() -> Path:
    """Return `$ADEM_BENCH_CACHE`, or `~/.cache/adem-bench`."""
    chosen = os.environ.get("ADEM_BENCH_CACHE")
    return Path(chosen or "~/.cache/adem-bench").expanduser()


def mini_root(card: TaskCard, data_root: Path | None) -> Path:
    """Return the data root of a mini task: the given one, else generated data (a data source)."""
    return data_root or generated_root(card.split)


def generated_root(split: str) -> Path:
    """Return a data root that holds the mini world, making it at the first call.

    It is made once per version of the generator.

    Args:
        split: Split that will be read.

    Raises:
        CardError: no such split.
        DataError: the cache folder cannot be written.
    """
    from adem_bench.data.mini import MINI_VERSION, write_mini

    if split not in GENERATED_SPLITS:
        raise CardError(f"unknown split {split!r}{nearest_hint(split, GENERATED_SPLITS)}")
    splits = GENERATED_SPLITS[split]
    size = f"-{TRAIN_SIZE}" if "train" in splits else ""
    return made_once(
        cache_root() / f"mini-{MINI_VERSION}-{'-'.join(splits)}{size}",
        lambda folder: write_mini(folder, splits=splits, train_size=TRAIN_SIZE),
    )


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, which `make` fills at the first call.

    It appears whole or not at all, whichever and however many processes ask for it.

    Args:
        folder: Where it belongs.
        make: Is given an empty folder beside it.

    Raises:
        DataError: the cache folder cannot be written.
    """
    from filelock import FileLock

    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():  # else another process was first
                _make(folder, make)
    except (OSError, ResultsError) as error:
        raise DataError(
            f"{folder.name} cannot be written to {folder.parent} "
            f"({getattr(error, 'strerror', None) or error}); set ADEM_BENCH_CACHE to a folder that "
            "can be written"
        ) from error
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        make(partial)
        partial.chmod(0o755)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
