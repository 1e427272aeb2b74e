"""Files: written whole or not at all, read in the encoding they state, found, and their digests."""

from __future__ import annotations

import codecs
import errno
import hashlib
import io
import json
import math
import os
import re
import select
import stat
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from adem_bench.errors import AdemBenchError, ResultsError

MAX_WHOLE_BYTES = 64 << 20
"""Size up to which all of a file enters its digest."""
PARTS, PART_BYTES = 16, 1 << 20
"""What is read of a larger file for its digest."""
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""First bytes of a text to its encoding; UTF-32's contain UTF-16's, and so go first."""
MAX_NAME_BYTES, KEPT_BYTES = 255, 200
"""Of a file's name: what file systems take, and what is left of a longer one."""
MAX_SETTINGS_BYTES, MAX_NESTED = 64 << 20, 32
"""Of JSON that is no data set: size, and levels of lists and objects, one inside the other."""
TOO_DEEP = f"lists or objects are nested more than {MAX_NESTED} levels deep"
PYTHONS_LIMIT = "set_int_max_str_digits"
"""What Python proposes to a programmer where a number is longer than it reads."""
TOO_LONG_A_NUMBER = "a number in it has more than 4300 digits"
NOT_REGULAR = "not a regular file"
"""Why a pipe or a device is not read."""
MISSING = "is missing"
NO_WAITING = getattr(os, "O_NONBLOCK", 0)
"""With which a pipe is opened at once; of Windows, there are none with names of files."""
WRITER_S = 5
"""Seconds that whoever writes into a pipe has to begin."""
TEMPORARY = re.compile(r"\.(?P<of>.+)\.[a-z0-9_]{8}")
"""Names of files that are being written, or were when their process was killed, and of what."""
BEGINNING = 512
"""Bytes by which a file is known that is no text."""
NO_TEXTS = (
    (re.compile(rb"version https://git-lfs"), "it is a Git LFS pointer; run `git lfs pull` there"),
    (re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE), "it is a web page; fetch it again"),
    (re.compile(rb"\s*<\?xml"), "it is XML, perhaps a server's refusal; fetch it again"),
    (re.compile(rb"\x1f\x8b|BZh\d1AY|\xfd7zXZ|\x28\xb5\x2f\xfd"), "it is compressed; unpack it"),
    (
        re.compile(rb"PK\x03\x04|7z\xbc\xaf"),
        "it is an archive or a spreadsheet",
    ),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "it is an old or encrypted Office file; save it anew"),
    (re.compile(rb"%PDF-"), "it is PDF"),
    (re.compile(rb"\0{16}"), "it begins with NUL bytes, as what was cut off does; fetch it again"),
    (
        re.compile(rb"([^\0]\0){8}|(\0[^\0]){8}|([^\0]\0{3}){4}|(\0{3}[^\0]){4}"),
        "it is UTF-16 or UTF-32 without a byte order mark; save it as UTF-8",
    ),
)
"""What files that hold no text begin with, and what to do about them."""
NO_NAME = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""What no name can hold: NUL, and halves of characters that stand for no byte."""


class NotRegularError(OSError):
    """A path leads to a pipe or a device, of which a reader may see no end."""

    def __str__(self) -> str:
        return f"{self.filename} is {self.strerror}"


def write_atomically(path: Path, data: str | bytes | Iterable[str]) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: The file.
        data: Its content, whole or in pieces.

    Raises:
        ResultsError: no space is left, or the folder cannot be written.
    """
    pieces = [data] if isinstance(data, str | bytes) else data
    if _is_stream(path):
        _write_into(path, pieces)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise disk_error(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            for piece in pieces:
                stream.write(_encoded(piece) if isinstance(piece, str) else piece)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)  # gone already where all went well


def _is_stream(path: Path) -> bool:
    """Return whether a path is a device, a pipe or what a process has open: no file replaces it."""
    if not exists(path):
        return False
    leads_to = str(path.readlink()) if path.is_symlink() else ""
    if "/proc/" in (leads_to[:6], f"{path.parent.resolve()}/"[:6]):  # /dev/stdout, /dev/fd/3
        return True
    return not (is_file(path) or path.is_dir())


def _write_into(path: Path, pieces: Iterable[str | bytes]) -> None:
    """Write into a device, a pipe or an open file.

    Raises:
        ResultsError: it takes nothing.
    """
    try:
        with open(path, "wb", opener=opened_stream) as stream:
            for piece in pieces:
                stream.write(_encoded(piece) if isinstance(piece, str) else piece)
    except OSError as error:
        raise disk_error(path, error) from error


def opened_stream(path: str, flags: int) -> int:
    """Open what is written into, for `open`: a pipe that nobody reads is an error, not waited for.

    Raises:
        OSError: it cannot be written into.
    """
    try:
        descriptor = os.open(path, flags | NO_WAITING, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(errno.ENXIO, "it is a pipe that nothing reads", path) from error
    if NO_WAITING:
        os.set_blocking(descriptor, True)
    return descriptor


def open_to_append(path: Path) -> io.BufferedWriter:
    """Open a file to add to its end, as `opened_stream` does.

    Raises:
        OSError: it cannot be written into.
    """
    return open(path, "ab", opener=opened_stream)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes have left of files that they were writing, at any depth.

    Only a process that alone writes into the folder may do so.
    """
    for name, _, files in os.walk(folder):
        for file in files:
            if TEMPORARY.fullmatch(file):
                Path(name, file).unlink(missing_ok=True)


def _encoded(text: str) -> bytes:
    r"""Return text as UTF-8, halves of characters (of paths that are not UTF-8, say) as `\udce9`.

    In JSON that is just how such a half is written.
    """
    return text.encode(errors="backslashreplace")


def check_regular(path: Path) -> None:
    """Refuse what a library that opens files itself would wait for, or read for ever.

    Raises:
        OSError: it is not there, or a folder, a pipe or a device.
    """
    _check_mode(path.stat().st_mode, str(path))


def _check_mode(mode: int, path: str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise NotRegularError(errno.EINVAL, NOT_REGULAR, path)


def _opened_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | NO_WAITING)
    try:
        _check_mode(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a file to be read; a pipe, whose other end nobody may have, is none, nor is a device.

    Raises:
        OSError: it cannot be read.
    """
    return open(path, "rb", opener=_opened_regular)


def open_text(
    path: Path, encoding: str = "utf-8", errors: str | None = None, newline: str | None = None
) -> io.TextIOWrapper:
    """Open a text file to be read, as `open_bytes` does; arguments are as those of `open`.

    Args:
        path: The file.
        encoding: Of its text.
        errors: What is done about bytes that are not in it.
        newline: What ends a line.

    Raises:
        OSError: it cannot be read.
    """
    return open(path, encoding=encoding, errors=errors, newline=newline, opener=_opened_regular)


def text_encoding(path: Path) -> str:
    """Return the encoding of a text file: the one that its byte order mark states, else UTF-8.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text; the message says what it is instead.
    """
    with open_bytes(path) as stream:
        return _encoding(stream.read(BEGINNING))


def _encoding(beginning: bytes) -> str:
    if found := no_text(beginning):
        raise ValueError(found)
    return next((name for mark, name in MARKS.items() if beginning.startswith(mark)), "utf-8-sig")


def no_text(beginning: bytes) -> str:
    """Return what a file is that begins so, and what to do about it; empty if it may be text."""
    return next((remedy for begins, remedy in NO_TEXTS if begins.match(beginning)), "")


def read_text(path: Path) -> str:
    """Return the content of a text file, with or without a byte order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, or not in its encoding.
    """
    with open_text(path, text_encoding(path)) as stream:
        return stream.read()


def _opened_pipe(path: str, flags: int) -> int:
    """Open what may be a pipe, of which nobody may have the other end.

    Whoever writes to it has some seconds to open it; a pipe that nobody writes to is empty.
    """
    descriptor = os.open(path, flags | NO_WAITING)
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        select.select([descriptor], [], [], WRITER_S)
        os.set_blocking(descriptor, True)
    return descriptor


def read_settings(path: Path) -> str:
    """Return a text of settings that someone has named, from a pipe too: it need not have an end.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than such a file is, or no text.
    """
    with open(path, "rb", opener=_opened_pipe) as stream:
        raw = stream.read(MAX_SETTINGS_BYTES + 1)
    if len(raw) > MAX_SETTINGS_BYTES:
        raise ValueError(f"larger than {MAX_SETTINGS_BYTES >> 20} MiB")
    return raw.decode(_encoding(raw[:BEGINNING]))


def finite(value: Any) -> Any:
    """Return JSON data with null for what is infinite or NaN, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Return what a JSON file of settings holds; data sets have readers of their own.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, or larger or deeper than such a file is.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(NOT_REGULAR)
    if found.st_size > MAX_SETTINGS_BYTES:
        raise ValueError(f"larger than {MAX_SETTINGS_BYTES >> 20} MiB")
    try:
        value = json.loads(read_text(path))
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    except ValueError as error:
        if PYTHONS_LIMIT not in str(error):
            raise
        raise ValueError(TOO_LONG_A_NUMBER) from error
    if is_deep(value):
        raise ValueError(TOO_DEEP)
    return value


def is_deep(value: Any) -> bool:
    """Return whether lists and objects lie more than `MAX_NESTED` levels deep in one another."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_NESTED):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def expand_home(path: str | Path) -> Path:
    """Return a path with `~` replaced by the home folder that it stands for.

    Raises:
        AdemBenchError: there is no such folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise AdemBenchError(
            f"{path}: there is no home folder that ~ could stand for; write the whole path, or set "
            "HOME"
        ) from error


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; of a name that no file can have, there is not.

    pathlib raises for a name that is too long, or holds what the locale cannot write.
    """
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Return whether there is such a file, as `exists` does."""
    return os.path.isfile(path)  # noqa: PTH113


def is_dir(path: Path) -> bool:
    """Return whether a folder is there, as `exists`."""
    return exists(path) and path.is_dir()


def first_file(places: Sequence[Path]) -> Path:
    """Return the first place with a file; without any, the first where something else lies.

    That is what is to be told; where nothing lies, it is the first place.
    """
    found = next(filter(is_file, places), None)
    return found or next(filter(os.path.lexists, places), places[0])


def why_missing(path: Path) -> str:
    """Return how it is that no file is at a path, as a verb: `is missing`, or what is there."""
    if is_dir(path):
        return "is a folder"
    if exists(path):
        return MISSING if is_file(path) else f"is {NOT_REGULAR} but a pipe or a device"
    try:
        target = path.readlink()
    except (OSError, ValueError):
        return MISSING
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a link that leads back to itself"
    return f"is a link to {target}, which is missing"


def is_utf8(path: Path) -> bool:
    """Return whether the bytes of a path are UTF-8, as some libraries ask for."""
    try:
        os.fsencode(path.absolute()).decode()
    except UnicodeError:
        return False
    return True


def file_name(name: str) -> str:
    """Return a name that a file can have: one that is too long is cut, and ends in its digest."""
    name = NO_NAME.sub("_", name)
    raw = name.encode(errors="surrogateescape")
    if len(raw) <= MAX_NAME_BYTES:
        return name if name.strip(".") else "_" * len(name)
    kept = raw[:KEPT_BYTES].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(raw).hexdigest()[:8]}"


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
    with open_bytes(path) as stream:
        if size <= MAX_WHOLE_BYTES:
            digest.update(stream.read())
        else:
            for index in range(PARTS):
                stream.seek((size - PART_BYTES) * index // (PARTS - 1))
                digest.update(stream.read(PART_BYTES))
    return digest.hexdigest()[:16]


def file_state(path: Path) -> tuple[int, int, int]:
    """Return what tells a file from what it was before: when it was written, its size, its place.

    Raises:
        OSError: there is none.
    """
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's whole content, in hexadecimal."""
    with open_bytes(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def disk_error(path: Path, error: OSError) -> ResultsError:
    """Return the error for a user whose disk refused a write."""
    if error.errno == errno.ENOSPC:
        return ResultsError(
            f"no space left to write {path}; free some and run the same command again: "
            "what was already written is kept"
        )
    if error.errno == errno.ENAMETOOLONG:
        return ResultsError(
            f"cannot write {path}: the path is longer than the file system takes; name a folder "
            "with a shorter path"
        )
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP) and (cause := _in_the_way(path)):
        return ResultsError(f"cannot write {path}: {cause}; name another place, or see to it")
    return ResultsError(f"cannot write {path}: {error.strerror}")


def _in_the_way(path: Path) -> str:
    """Return which part of a path can hold no file, and why; empty if each can."""
    for part in (*reversed(path.parents), path):
        if part.is_symlink() and not exists(part):
            return f"{part} {why_missing(part)}"
        if exists(part) and not part.is_dir():
            return f"{part} is a file and not a folder"
    return ""
