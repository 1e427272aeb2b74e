"""A results folder that grows: what is in it now, read again only where it changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from adem_bench.errors import ResultsError
from adem_bench.files import open_bytes
from adem_bench.records import Record
from adem_bench.results.run_folder import MANIFEST, METRICS, SAMPLES, SHARD, records_in
from adem_bench.results.run_log import LOG
from adem_bench.results.runs import (
    FinishedRun,
    OpenedRun,
    expected_samples,
    finished_runs,
    open_run,
)

Stamp = tuple[tuple[str, int, int, int], ...]
"""Of each file: name, inode, size, time of the last change."""
LOOK_SECONDS = 1.0
"""Looks at the disk are at least this far apart, however many pages ask."""
MAX_OPENED = 64
"""Runs whose records are kept in memory."""
LOG_BYTES = 4096
"""What is read of the end of a run's log."""
SHARD_START, SHARD_END = SHARD.split("{rank}")


@dataclass(slots=True)
class GrowingRun:
    """A run without figures yet: what it has been answered so far."""

    name: str
    """Of its folder, below the results."""
    records: dict[str, Record] = field(default_factory=dict)
    expected: int | None = None
    """Samples that it asks, if its task's card is known here."""
    changed: float = 0.0
    """When a record came last, in seconds since 1970."""
    log: str = ""
    """The last lines of its log."""
    read: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each file of records: inode, and how many bytes have been read."""

    @property
    def failed(self) -> int:
        """How many samples have no answer."""
        return sum(record.error is not None for record in self.records.values())

    @property
    def right(self) -> tuple[int, int] | None:
        """How many answers are right, of how many that are right or wrong; None if none is."""
        answered = (record for record in self.records.values() if record.error is None)
        scores = [record.score for record in answered if record.score in (0, 1)]
        return (int(sum(filter(None, scores))), len(scores)) if scores else None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found at one look."""

    stamps: Mapping[str, Stamp]
    """Of every run's folder, by its name."""
    finished: Mapping[str, FinishedRun]
    growing: Mapping[str, GrowingRun]
    left_out: tuple[str, ...]
    """Why folders are not among them."""

    def below(self, name: str) -> list[str]:
        """Return the names of runs in or below a folder; all for the empty name."""
        return [one for one in self.stamps if not name or f"{one}/".startswith(f"{name}/")]

    def version(self, names: list[str] | None = None) -> str:
        """Return a text that changes with the files of these runs, by default of all."""
        chosen = sorted(self.stamps if names is None else names)
        text = repr([(name, self.stamps.get(name)) for name in chosen])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


class ResultsFolder:
    """A results folder as it is now; may be asked by several threads."""

    def __init__(self, root: Path) -> None:
        """Name the folder.

        Raises:
            ResultsError: there is no such folder.
        """
        if not root.is_dir():
            raise ResultsError(
                f"{root} is not a folder with results; `adem-bench run` makes one, or name "
                "another one"
            )
        self.root = root
        self._lock = Lock()
        self._finished: dict[str, tuple[Stamp, FinishedRun | None, str]] = {}
        self._growing: dict[str, tuple[Stamp, GrowingRun]] = {}
        self._opened: dict[str, tuple[Stamp, OpenedRun]] = {}
        self._seen: Seen | None = None
        self._looked = 0.0

    def look(self) -> Seen:
        """Return what is there; of files that did not change nothing is read."""
        with self._lock:
            now = time.monotonic()
            if self._seen is None or now - self._looked >= LOOK_SECONDS:
                self._seen = self._look()
                self._looked = time.monotonic()
            return self._seen

    def open(self, name: str, seen: Seen) -> OpenedRun:
        """Return a finished run with its records.

        Raises:
            ResultsError: a file cannot be used, or is gone by now.
        """
        stamp = seen.stamps[name]
        with self._lock:
            kept = self._opened.pop(name, None)
        if kept is None or kept[0] != stamp:
            kept = (stamp, open_run(self.root / name))
        with self._lock:
            self._opened[name] = kept
            while len(self._opened) > MAX_OPENED:
                del self._opened[next(iter(self._opened))]
        return kept[1]

    def _look(self) -> Seen:
        stamps: dict[str, Stamp] = {}
        finished: dict[str, FinishedRun] = {}
        growing: dict[str, GrowingRun] = {}
        left_out: list[str] = []
        for path, folders, files in os.walk(self.root):
            folders.sort()
            records = sorted(name for name in files if _holds_records(name))
            if not records and METRICS not in files:
                continue
            folder = Path(path)
            name = folder.relative_to(self.root).as_posix()
            # A link could lead out of the results.
            chosen = [*records, *({MANIFEST, METRICS, LOG} & set(files))]
            if linked := [file for file in chosen if (folder / file).is_symlink()]:
                left_out.append(f"{folder}: {linked[0]} is a link, so left out")
                continue
            stamp = _stamp(folder, chosen)
            stamps[name] = stamp
            if {MANIFEST, METRICS} <= {file for file, *_ in stamp}:
                run, reason = self._read(name, stamp)
                if run:
                    finished[name] = run
                else:
                    left_out.append(reason)
            elif any(_holds_records(file) for file, *_ in stamp):
                growing[name] = self._grow(name, stamp)
        self._finished = {name: self._finished[name] for name in stamps if name in self._finished}
        self._growing = {name: self._growing[name] for name in growing}
        return Seen(stamps, finished, growing, tuple(left_out))

    def _read(self, name: str, stamp: Stamp) -> tuple[FinishedRun | None, str]:
        found = self._finished.get(name)
        if found is None or found[0] != stamp:
            folder = self.root / name
            try:
                runs, warnings = finished_runs(folder)
            except (ResultsError, OSError) as error:  # gone since the folder was listed
                runs, warnings = [], [str(error)]
            run = next((run for run in runs if run.folder == folder), None)
            found = (stamp, run, next(iter(warnings), f"{folder}: cannot be read, so left out"))
            self._finished[name] = found
        return found[1:]

    def _grow(self, name: str, stamp: Stamp) -> GrowingRun:
        """Return a run with what came since the last look; it stays as it is from then on."""
        before, run = self._growing.get(name, ((), GrowingRun(name, expected=_expected(name))))
        if before == stamp:
            return run
        run = replace(run, records=dict(run.records), read=dict(run.read))
        places = {file: (inode, size) for file, inode, size, _ in stamp if _holds_records(file)}
        for file, (inode, done) in run.read.items():
            if file not in places or places[file][0] != inode or places[file][1] < done:
                # Begun anew, or merged: what was read is no longer what is there.
                run = GrowingRun(name, expected=run.expected)
                break
        for file, (inode, size) in places.items():
            _, done = run.read.get(file, (inode, 0))
            if size > done:
                run.read[file] = (inode, done + _append(run, self.root / name / file, done))
        run.changed = max(
            (time_ / 1e9 for file, _, _, time_ in stamp if _holds_records(file)), default=0.0
        )
        run.log = _tail(self.root / name / LOG) if any(f == LOG for f, *_ in stamp) else ""
        self._growing[name] = (stamp, run)
        return run


def _holds_records(name: str) -> bool:
    return name == SAMPLES or (name.startswith(SHARD_START) and name.endswith(SHARD_END))


def _stamp(folder: Path, names: list[str]) -> Stamp:
    found = []
    for name in sorted(names):
        with contextlib.suppress(OSError):  # gone since the folder was listed
            state = (folder / name).stat(follow_symlinks=False)
            found.append((name, state.st_ino, state.st_size, state.st_mtime_ns))
    return tuple(found)


def _append(run: GrowingRun, path: Path, start: int) -> int:
    """Add the records of the whole lines from a byte on; return how many bytes these are."""
    try:
        with open_bytes(path) as stream:
            stream.seek(start)
            text = stream.read()
    except OSError:
        return 0
    whole = text[: text.rfind(b"\n") + 1]  # the last line may still be written
    run.records |= {record.key: record for record in records_in(whole.splitlines())}
    return len(whole)


def _tail(path: Path) -> str:
    try:
        with open_bytes(path) as stream:
            stream.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = stream.read(LOG_BYTES).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-20:])


def _expected(name: str) -> int | None:
    """Return how many samples a run asks, by its folder's name and its task's card."""
    *_, task, folder = ("", "", *name.split("/"))
    return expected_samples(task, folder)
