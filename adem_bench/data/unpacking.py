"""Unpack a published archive into a folder that appears whole or not at all.

What an archive says is not trusted: no member may leave the folder, be a link or a device, and all
members together are bounded by the bytes that are really written.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Self

from adem_bench.data.reading import is_safe_name
from adem_bench.errors import DataError
from adem_bench.files import disk_error

CHUNK_BYTES = 1 << 20
MAX_MEMBERS = 5_000_000
MAX_RATIO = 20
"""Bytes that an archive may unpack to, in times its own size, where nothing is published."""
BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile),
    *(zlib.error, lzma.LZMAError, EOFError, RuntimeError),
    *(ValueError, IndexError, OverflowError, struct.error),
)
"""What readers raise for archives that are cut off, damaged, encrypted or of an unknown kind."""
OCCUPIED = (FileExistsError, NotADirectoryError, IsADirectoryError)
MAX_NAME_BYTES = 1 << 20
"""Of a tar file's entry that describes the next one, which is read into memory whole."""
DESCRIBING = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
LINK_TYPE, TYPE_MASK = 0o120000, 0o170000
"""Of a Unix mode, which a ZIP member keeps in the upper half of its external attributes."""


@dataclass(frozen=True, slots=True)
class Member:
    """What an archive holds, folders apart."""

    name: str
    data: IO[bytes] | None
    """None of a link, a device or the like."""


class _Entry(tarfile.TarInfo):
    """An entry of a tar file; one that describes the next is of bounded size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header.

        Args:
            buf: Its bytes.
            encoding: Of names.
            errors: How characters outside it are read.
        """
        entry = super().frombuf(buf, encoding, errors)
        if entry.type in DESCRIBING and entry.size > MAX_NAME_BYTES:
            raise ValueError(f"an entry's description has {entry.size:,} bytes")
        return entry


def unpack(archive: Path, folder: Path, inside: str, most_bytes: int | None = None) -> int:
    """Unpack a ZIP or tar file and return the number of files.

    Args:
        archive: The file.
        folder: What appears; it must not exist yet.
        inside: The folder in the archive whose content is wanted; `.` for all of it.
        most_bytes: Most bytes to write; by default 20 times the archive's size.

    Raises:
        DataError: the archive is broken, holds what it must not, or nothing of what is wanted.
        ResultsError: no space is left, or the folder cannot be written.
    """
    bound = archive.stat().st_size * MAX_RATIO if most_bytes is None else most_bytes
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise disk_error(folder, error) from error
    try:
        count = _write_members(archive, partial, inside, bound)
        partial.chmod(0o755)
        partial.replace(folder)
    except BROKEN as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from error
    except OSError as error:
        raise disk_error(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count


def _write_members(archive: Path, folder: Path, inside: str, bound: int) -> int:
    written = count = 0
    for number, member in enumerate(_members(archive)):
        if not is_safe_name(member.name) or member.data is None or number >= MAX_MEMBERS:
            what = "is a link or a device" if member.data is None else "leads out of its folder"
            what = "is one too many" if number >= MAX_MEMBERS else what
            raise DataError(f"{archive}: member {member.name!r} {what}; nothing was unpacked")
        place = PurePosixPath(member.name)
        if not place.is_relative_to(inside):
            continue
        target = folder / place.relative_to(inside)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            stream = target.open("xb")
        except OCCUPIED as error:
            raise DataError(
                f"{archive}: member {member.name!r} is in the place of another; "
                "nothing was unpacked"
            ) from error
        with member.data as source, stream:
            while chunk := source.read(CHUNK_BYTES):
                written += len(chunk)
                if written > bound:
                    raise DataError(
                        f"{archive} holds more than {bound:,} bytes, which is more than it should; "
                        "nothing was unpacked"
                    )
                stream.write(chunk)
        count += 1
    if not count:
        raise DataError(f"{archive} holds no file below {inside!r}; nothing was unpacked")
    return count


def _members(archive: Path) -> Iterator[Member]:
    """Yield all but folders: one appears with the first file in it, and may be called `.`."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                is_link = (info.external_attr >> 16) & TYPE_MASK == LINK_TYPE
                if is_link or not info.is_dir():
                    yield Member(info.filename, None if is_link else file.open(info))
        return
    try:
        opened = tarfile.open(archive, tarinfo=_Entry)  # noqa: SIM115 - closed below
    except tarfile.TarError as error:
        raise DataError(
            f"{archive} is neither a ZIP nor a tar file; delete it and fetch it again"
        ) from error
    with opened as file:
        for entry in file:
            if not entry.isdir():
                yield Member(entry.name, file.extractfile(entry) if entry.isreg() else None)
