"""Files written whole or not at all, and cheap digests of large ones."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adem_bench.errors import ResultsError

MAX_WHOLE_BYTES = 64 << 20
"""Size up to which all of a file enters its digest."""
PARTS, PART_BYTES = 16, 1 << 20
"""What is read of a larger file for its digest."""


def write_atomically(path: Path, data: str | bytes | Iterable[str]) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: The file.
        data: Its content, whole or in pieces.

    Raises:
        ResultsError: no space is left, or the folder cannot be written.
    """
    pieces = [data] if isinstance(data, str | bytes) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise disk_error(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            for piece in pieces:
                stream.write(piece.encode() if isinstance(piece, str) else piece)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)  # gone already where all went well


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically, indented, keys in the order given."""
    write_atomically(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def file_digest(path: Path) -> str:
    """Return 16 hexadecimal digits over a file's size and content.

    Of files above 64 MiB, 16 evenly spaced parts of 1 MiB are read: retrained weights
    differ everywhere, and hashing 13 GB would take longer than many runs.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        if size <= MAX_WHOLE_BYTES:
            digest.update(stream.read())
        else:
            for index in range(PARTS):
                stream.seek((size - PART_BYTES) * index // (PARTS - 1))
                digest.update(stream.read(PART_BYTES))
    return digest.hexdigest()[:16]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's whole content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def disk_error(path: Path, error: OSError) -> ResultsError:
    """Return the error for a user whose disk refused a write."""
    if error.errno == errno.ENOSPC:
        return ResultsError(
            f"no space left to write {path}; free some and run the same command again: "
            "what was already written is kept"
        )
    return ResultsError(f"cannot write {path}: {error.strerror}")
