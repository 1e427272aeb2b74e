"""One job in, one answer out, and what code of others may not do meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NAMED = {
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
    "shutil.rmtree": ((0, 1),),
    "shutil.move": ((0, None), (1, None)),
}
"""Events of Python's audit hooks that change a name: the places, among their arguments, of paths
and of the open folders that these are in."""
FOLLOWED = {
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "os.setxattr": ((0, None),),
    "os.removexattr": ((0, None),),
}
"""The same of those that change what a name leads to."""
SHARED = "/tmp"  # noqa: S108 - VLMEvalKit names it
Job = Mapping[str, Any]
ON_REFUSED_CONNECTION: list[Callable[[], Any]] = []
"""Are called before a connection is refused: the code that tried it may say nothing of it."""
NO_DOWNLOAD = "nothing is downloaded without being asked for"
_REFUSED: list[str] = []
"""Events of connections that were refused."""


def serve(job_kinds: Mapping[str, Callable[[Job], Any]], remedy: str = "") -> None:
    """Do the job on standard input; what the code of others prints goes to standard error.

    Args:
        job_kinds: What `do` of a job may be.
        remedy: What to do about data that would be downloaded, with `{name}` of the benchmark.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _end_with_parent()
    job = json.loads(sys.stdin.buffer.read())
    if not job.get("network"):
        _without_network()
    try:
        answer = {"result": job_kinds[job["do"]](job)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of hundreds of benchmarks
        traceback.print_exc()
        told = f"{type(error).__name__}: {error}".strip(": ")
        if _REFUSED and job["do"] == "build" and NO_DOWNLOAD not in told:
            told += f"; {NO_DOWNLOAD}"
        if _REFUSED and job["do"] == "build" and remedy:
            told += f": {remedy.format(**job)}"
        answer = {"error": told, "at": _place(error)}
    answers.write(json.dumps(answer, ensure_ascii=True) + "\n")
    answers.flush()
    os._exit(0)  # threads and pools that they left behind are no reason to wait


def _end_with_parent() -> None:
    """See to it that a killed parent leaves no process behind: neither this one nor its own."""
    parent, never = os.getppid(), threading.Event()

    def watch() -> None:
        while os.getppid() == parent:
            never.wait(1)
        os.killpg(os.getpid(), signal.SIGKILL)

    if os.getpgrp() == os.getpid():
        threading.Thread(target=watch, daemon=True).start()


def _place(error: BaseException) -> str:
    """Return the file and line of the innermost call."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _without_network() -> None:
    """Refuse connections to other machines: nothing is downloaded that was not asked for."""

    def hook(event: str, arguments: Any) -> None:
        if event == "socket.connect" and not isinstance(arguments[1], tuple):
            return  # a socket of this machine's own
        if event in ("socket.connect", "socket.getaddrinfo"):
            for tell in ON_REFUSED_CONNECTION:
                tell()
            _REFUSED.append(event)
            raise ConnectionError(f"it is not on this machine, and {NO_DOWNLOAD}")

    sys.addaudithook(hook)


def write_only_below(folders: Sequence[str]) -> None:
    """From now on let this process change files below some folders only.

    Args:
        folders: Their paths.
    """
    kept = [*map(os.path.realpath, folders), "/dev", "/proc"]
    with tempfile.TemporaryFile(dir=kept[0]) as new:
        start = os.fstat(new.fileno()).st_ctime_ns  # by the clock of files, which ticks coarsely

    def check(path: Any, folder: Any = None, follow: bool = True) -> None:
        real = _real_path(path, folder, follow)
        if real is None or any(real == one or real.startswith(one + os.sep) for one in kept):
            return
        if os.path.dirname(real) == os.path.realpath(SHARED) and _is_newer(real, start):  # noqa: PTH120
            return
        raise PermissionError(f"{real} is outside the folder that scoring may write to")

    def hook(event: str, arguments: Any) -> None:
        if event == "open":
            if _writes(arguments[2]):
                check(arguments[0])
        elif event in NAMED or event in FOLLOWED:
            for path, folder in NAMED.get(event) or FOLLOWED[event]:
                inside = None if folder is None else arguments[folder]
                check(arguments[path], inside, event in FOLLOWED)

    sys.addaudithook(hook)


def _real_path(path: Any, folder: Any, follow: bool) -> str | None:
    """Return where a path leads; None for what is no path, as an open file's number.

    Args:
        path: As it was given.
        folder: Number of the open folder that it is relative to; None and -1 for the current one.
        follow: Whether the last part, if it is a link, is followed.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    text = os.fsdecode(path)
    if isinstance(folder, int) and folder >= 0:
        text = os.path.join(f"/proc/self/fd/{folder}", text)  # noqa: PTH118
    if follow:
        return os.path.realpath(text)
    above, name = os.path.split(text.rstrip(os.sep) or os.sep)
    return os.path.join(os.path.realpath(above or os.curdir), name)  # noqa: PTH118


def _is_newer(path: str, start: int) -> bool:
    """Return whether nothing is at a path, or only what was put there after a time."""
    try:
        return os.lstat(path).st_ctime_ns >= start
    except OSError:
        return True


def _writes(flags: Any) -> bool:
    return isinstance(flags, int) and bool(flags & WRITES)


def note_reads(folder: str) -> Callable[[], list[list[Any]]]:
    """From now on note which data files are opened; what the job's own folder holds is not data.

    Args:
        folder: The job's.

    Returns:
        A function that returns path, size and time of change of each.
    """
    own = (os.path.realpath(folder), sys.prefix, sys.base_prefix, "/proc", "/dev", "/sys")
    opened: dict[str, None] = {}

    def hook(event: str, arguments: Any) -> None:
        if event == "open" and isinstance(arguments[0], str) and not _writes(arguments[2]):
            opened[os.path.abspath(arguments[0])] = None  # noqa: PTH100

    sys.addaudithook(hook)

    def found() -> list[list[Any]]:
        return [
            [path, state.st_size, state.st_mtime_ns]
            for path in sorted(opened)
            if not path.endswith((".py", ".pyc")) and not path.startswith(own)
            if (state := _state(path)) is not None
        ]

    return found


def note_writes() -> list[str]:
    """From now on note which files are opened to be written."""
    noted: list[str] = []

    def hook(event: str, arguments: Any) -> None:
        if event == "open" and isinstance(arguments[0], str) and _writes(arguments[2]):
            noted.append(arguments[0])

    sys.addaudithook(hook)
    return noted


def _state(path: str) -> os.stat_result | None:
    try:
        return os.stat(path) if os.path.isfile(path) else None  # noqa: PTH113, PTH116
    except OSError:
        return None


def read_answers(path: str) -> dict[str, str]:
    """Return the answers of a file with one {id, text} a line, by id."""
    with open(path, encoding="utf-8") as lines:  # noqa: PTH123
        return {row["id"]: row["text"] for row in map(json.loads, lines)}


def write_rows(folder: str, version: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write samples to FOLDER/DIGEST/samples.jsonl, whole or not at all.

    Args:
        folder: Of one data set.
        version: Of the package; it is part of the digest.
        rows: With `images` as `[path, digest of the content]`.

    Returns:
        The file and its size in bytes, the digest and the number of rows.
    """
    import hashlib

    digest = hashlib.sha256(version.encode())
    lines = []
    for row in rows:
        bare = {**row, "images": [image[1] for image in row["images"]]}
        digest.update(json.dumps(bare, sort_keys=True).encode() + b"\n")
        lines.append(json.dumps({**row, "images": [image[0] for image in row["images"]]}) + "\n")
    name = digest.hexdigest()[:16]
    place = Path(folder) / name
    place.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=place, suffix=".part")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.writelines(lines)
    size = os.path.getsize(temporary)  # noqa: PTH202
    os.replace(temporary, place / "samples.jsonl")  # noqa: PTH105
    file = str(place / "samples.jsonl")
    return {"samples": file, "bytes": size, "digest": name, "count": len(rows)}


def file_digest(path: str) -> str:
    """Return 16 hexadecimal digits over a file's content."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as stream:  # noqa: PTH123
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def number(value: Any) -> float | None:
    """Return a finite number as a float, also numpy's and truth values; None for anything else."""
    try:
        found = float(value) if not isinstance(value, (str, bytes)) else float("nan")
    except (TypeError, ValueError):
        return None
    return found if found - found == 0 else None
