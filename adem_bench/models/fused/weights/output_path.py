"""Where conversions write: a file or folder that appears whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from adem_bench.errors import CheckpointError
from adem_bench.files import disk_error, is_utf8


def check_target(source: Path, target: Path, overwrite: bool, content: Sequence[str]) -> None:
    """Refuse a target that cannot be written without loss.

    Args:
        source: What is converted.
        target: Where the result goes.
        overwrite: Whether an earlier result may be replaced.
        content: Patterns of the names of all files that a result has; empty where it is one file.

    Raises:
        CheckpointError: one of target and source contains the other; the target exists and is not
            to be replaced, is not of the result's kind, or holds files that no result has; its
            path is not in UTF-8.
    """
    if not is_utf8(target):
        raise CheckpointError(
            f"{target} is not a path in UTF-8, which safetensors asks for; name another target"
        )
    ends, starts = target.resolve(), source.resolve()
    if ends.is_relative_to(starts) or starts.is_relative_to(ends):
        raise CheckpointError(
            f"of target {target} and source {source}, one contains the other; "
            "name a target elsewhere"
        )
    if not target.exists():
        return
    if target.is_dir() != bool(content):
        found, result = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise CheckpointError(
            f"{target} is a {found}, and the result is a {result}; name another target"
        )
    if not overwrite:
        raise CheckpointError(
            f"{target} exists; name another target, or replace it with --overwrite"
        )
    others = [file.name for file in target.iterdir()] if content else []
    others = [name for name in others if not any(Path(name).match(known) for known in content)]
    if others:
        raise CheckpointError(
            f"{target} also holds {', '.join(sorted(others)[:3])}, which --overwrite would remove; "
            "name another target"
        )


@contextmanager
def atomic_output(target: Path) -> Iterator[Path]:
    """Give a path to write a file or folder at; it becomes `target` unless an error is raised.

    Raises:
        ResultsError: no space is left, or the folder cannot be written.
    """
    target = target.resolve()  # a link stays, and what it leads to is replaced
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise disk_error(target, error) from error
    partial = staging / target.name
    try:
        yield partial
        for path in (partial, *partial.glob("*")):
            _flush(path)
        _put(partial, target, staging / "replaced")
    except (OSError, RuntimeError, SafetensorError) as error:
        system = _system_error(error)
        if system is None:
            raise
        raise disk_error(target, system) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _put(partial: Path, target: Path, aside: Path) -> None:
    if target.is_dir():  # which renaming does not replace
        target.replace(aside)
    try:
        partial.replace(target)
    finally:
        if aside.exists() and not target.exists():
            aside.replace(target)


def _flush(path: Path) -> None:
    """Hand a file or folder to the disk, so that no power cut leaves its name alone."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _system_error(error: Exception) -> OSError | None:
    """Return the system's error that torch or safetensors wrapped, or None if there is none."""
    if isinstance(error, OSError):
        return error
    if isinstance(error.__context__, OSError):
        return error.__context__
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number.group(1)), os.strerror(int(number.group(1)))) if number else None
