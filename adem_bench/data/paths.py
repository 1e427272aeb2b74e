"""Where data lies: the user's data root, and a cache for data that the package makes itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from adem_bench.errors import DataError, ResultsError
from adem_bench.files import expand_home

MINI_SIGNS = (
    "images/val2014/COCO_val2014_000002000001.png",
    "images/val2014/COCO_val2014_000001000001.png",
    "images/train2014/COCO_train2014_000000000001.png",
)
"""The mini world's first image of each split's captions: COCO's own are JPEG."""


def default_data_root() -> Path:
    """Return `$ADEM_BENCH_DATA`, or `./data`."""
    return expand_home(os.environ.get("ADEM_BENCH_DATA") or "data")


def holds_mini(root: Path) -> bool:
    """Return whether the mini world (`adem_bench.mini`) was written below a data root."""
    return any((root / sign).is_file() for sign in MINI_SIGNS)


def cache_root() -> Path:
    """Return `$ADEM_BENCH_CACHE`, or `~/.cache/adem-bench`.

    Raises:
        AdemBenchError: neither the variable nor a home folder is there.
    """
    chosen = os.environ.get("ADEM_BENCH_CACHE")
    if chosen:
        return expand_home(chosen)
    try:
        return Path("~/.cache/adem-bench").expanduser()
    except RuntimeError as error:
        raise DataError(
            "there is no home folder for what is to be kept; set ADEM_BENCH_CACHE to a folder that "
            "can be written"
        ) from error


_MADE_IN: ContextVar[Path | None] = ContextVar("made_in", default=None)


@contextmanager
def made_in(folder: Path) -> Iterator[None]:
    """Let what the cache does not hold yet be made below another folder.

    Args:
        folder: Of the caller, who removes it.
    """
    token = _MADE_IN.set(folder)
    try:
        yield
    finally:
        _MADE_IN.reset(token)


def is_trial() -> bool:
    """Return whether what is made now will be removed (`made_in`): nothing is fetched for that."""
    return _MADE_IN.get() is not None


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, which `make` fills at the first call.

    It appears whole or not at all, whichever and however many processes ask for it.

    Args:
        folder: Where it belongs.
        make: Is given an empty folder next to it.

    Raises:
        DataError: the cache folder cannot be written.
    """
    from filelock import FileLock

    if folder.is_dir():
        return folder
    if (elsewhere := _MADE_IN.get()) is not None:
        folder = elsewhere / folder.name
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
