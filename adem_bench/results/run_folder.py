"""A run on disk: `samples.jsonl` grows while it runs, the rest is written whole at the end.

Records are only ever appended, one JSON object per line, and flushed after every batch. Opening
a folder again drops a torn last line and gathers what other processes left.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedWriter
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from adem_bench.errors import ResultsError, why_unread
from adem_bench.files import (
    disk_error,
    file_name,
    is_deep,
    open_bytes,
    read_json,
    remove_temporaries,
    sha256,
    write_atomically,
    write_json,
)
from adem_bench.records import Json, Record, Result

if TYPE_CHECKING:
    from filelock import BaseFileLock

SAMPLES, METRICS, MANIFEST, LOCK = "samples.jsonl", "metrics.json", "manifest.json", ".lock"
SHARD = "samples.rank{rank}.jsonl"
JUDGEMENTS = "judge.jsonl"
"""What a judge was asked and said (`judgements.py`)."""
LINES_AT_ONCE = 500
IMPORTED = "predictions"
"""Kind of model of a run whose answers other code had made (`adem-bench score --as-run`)."""
NOT_SCORED = "not_scored"
"""Field of the manifest of a run that has answers and no metrics (`run --predict-only`)."""
TAKE_OVER_S = 30
UNSAFE = str.maketrans(dict.fromkeys('/\\:*?"<>| ', "_"))


def run_place(model: str, identity: Mapping[str, Json]) -> Path:
    """Return `MODEL/TASK/SPLIT[-blind][-limitN]-DIGEST`, where a run is kept below its results.

    Names that are longer than a file system takes are cut.

    Args:
        model: Name of the model.
        identity: Everything that the run's records depend on.
    """
    text = json.dumps(identity, sort_keys=True)
    parts = [str(identity["split"])]
    parts += ["blind"] if identity["blind"] else []
    parts += [f"limit{identity['limit']}"] if identity["limit"] is not None else []
    parts.append(hashlib.sha256(text.encode()).hexdigest()[:8])
    names = (model, str(identity["task"]), "-".join(parts))
    return Path(*(file_name(name.translate(UNSAFE)) for name in names))


def model_folder(root: Path, model: str) -> Path:
    """Return where the runs of a model are kept below `root`."""
    return root / file_name(model.translate(UNSAFE))


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's fields but `files`, in hexadecimal."""
    fields = {name: value for name, value in manifest.items() if name != "files"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def is_finished(path: Path) -> bool:
    """Return whether a folder has the manifest of a run, which is written last."""
    return (path / MANIFEST).exists()


def is_imported(manifest: Mapping[str, Any]) -> bool:
    """Return whether a run's answers were made by other code, which asked in a way of its own."""
    card = manifest.get("model", {}).get("card") or {}
    return bool(card.get("kind") == IMPORTED)


class RunFolder:
    """The records of one run, open for writing by one process.

    The first process keeps `samples.jsonl`, any other a shard of its own that the first one
    merges.
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        """Name the folder; nothing is touched before `open`."""
        self.path = path
        self._file = path / (SAMPLES if rank == 0 else SHARD.format(rank=rank))
        self._stream: BufferedWriter | None = None
        self._lock: BaseFileLock | None = None

    def gather(self, fresh: bool) -> None:
        """Lock the folder and join all records in `samples.jsonl`; for the first process.

        Args:
            fresh: Forget earlier records.

        Raises:
            ResultsError: another run is writing here, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._locks(0):
                raise ResultsError(f"another run is writing to {self.path}; wait for it or stop it")
        except OSError as error:
            raise disk_error(self.path / LOCK, error) from error
        try:
            self._tidy(fresh)
        except OSError as error:
            raise disk_error(self.path, error) from error

    def _tidy(self, fresh: bool) -> None:
        remove_temporaries(self.path)
        shards = self._shards()
        if fresh:
            # In this order: figures never stand next to records that they were not made of.
            for name in (MANIFEST, METRICS, SAMPLES, JUDGEMENTS):
                (self.path / name).unlink(missing_ok=True)
        elif (self.path / SAMPLES).exists() or shards:
            self.rewrite(self.records().values())
        for shard in shards:
            shard.unlink()

    def take_over(self) -> None:
        """Lock the folder in place of the first process, which has died.

        Raises:
            ResultsError: another run is writing here.
        """
        if not self._locks(TAKE_OVER_S):
            raise ResultsError(f"another run is writing to {self.path}")

    def _locks(self, patience: float) -> bool:
        """Lock the folder and return whether that was possible within so many seconds."""
        # Imported by who writes: verbs that only read runs start sooner.
        from filelock import FileLock, Timeout

        self._lock = self._lock or FileLock(self.path / LOCK)
        try:
            self._lock.acquire(timeout=patience)
        except Timeout:
            return False
        return True

    def _shards(self) -> list[Path]:
        return sorted(self.path.glob(SHARD.format(rank="*")))

    def records(self) -> dict[str, Record]:
        """Return the records of all processes by their keys; of two, the later one.

        Lines that are not whole records (torn by a kill) are left out: their samples are
        answered again.
        """
        found: dict[str, Record] = {}
        for file in (self.path / SAMPLES, *self._shards()):
            if file.is_file():
                found |= {record.key: record for record in _read(file)}
        return found

    def append(self, records: Iterable[Record]) -> None:
        """Add records and hand them to the operating system, which outlives this process.

        Raises:
            ResultsError: no space is left, or the folder cannot be written.
        """
        lines = "".join(_lines(records))
        try:
            if self._stream is None:
                self.path.mkdir(parents=True, exist_ok=True)
                self._stream = self._file.open("ab")
            self._stream.write(lines.encode())
            self._stream.flush()
        except OSError as error:
            raise disk_error(self._file, error) from error

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace `samples.jsonl` by these records, in this order."""
        self._close_stream()
        write_atomically(self.path / SAMPLES, _lines(records))

    def manifest(self) -> Any:
        """Return the manifest of the finished run that is here; None if there is none."""
        path = self.path / MANIFEST
        return read_run_file(path) if path.exists() else None

    def is_scored(self) -> bool:
        """Return whether there are metrics of a finished run."""
        return (self.path / METRICS).exists() and is_finished(self.path)

    def finish(
        self, records: Iterable[Record], result: Result | None, manifest: Mapping[str, Any]
    ) -> None:
        """Write the final records, metrics and manifest, and clear the shards away.

        The manifest gets the SHA-256 of the other two files, and of its own fields.

        Args:
            records: In the order of the samples.
            result: What the task makes of them; None where they are not to be scored yet.
            manifest: Without `files`.

        Raises:
            ResultsError: no space is left, or the folder cannot be written.
        """
        self.rewrite(records)
        try:
            for shard in self._shards():
                shard.unlink()
            if result is None:
                (self.path / METRICS).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(self.path, error) from error
        if result is not None:
            write_json(self.path / METRICS, result.to_json())
        written = (SAMPLES, METRICS) if result else (SAMPLES,)
        files = {name: sha256(self.path / name) for name in written}
        files[MANIFEST] = manifest_digest(manifest)
        write_json(self.path / MANIFEST, {**manifest, "files": files})

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What could not be written has been said by `append`; closing would try it again.
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self._close_stream()
        if self._lock is not None:
            self._lock.release()


def read_run_file(path: Path) -> Any:
    """Return what a JSON file of a run folder holds.

    Raises:
        ResultsError: it is missing or not JSON.
    """
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {why_unread(error)}") from error


def _lines(records: Iterable[Record]) -> Iterator[str]:
    """Yield the lines of records, some hundreds at once."""
    import jsonlines

    left = iter(records)
    while some := list(islice(left, LINES_AT_ONCE)):
        text = io.StringIO()
        # ASCII only: a torn line is then torn between characters, and half a surrogate survives.
        jsonlines.Writer(text, dumps=json.dumps).write_all(record.to_json() for record in some)
        yield text.getvalue()


def records_in(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield the records that lines hold; one that is no whole record of ours is left out."""
    for line in lines:
        # Whatever a kill, an editor or a stranger has made of a line.
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict) and not is_deep(value):
                yield Record.from_json(value)


def _read(file: Path) -> Iterator[Record]:
    try:
        with open_bytes(file) as lines:
            yield from records_in(lines)
    except OSError as error:
        raise ResultsError(f"{file} cannot be read: {error.strerror}") from error
