"""Answers that were paid for once: kept below the results folder, for every run that asks again.

Records are what counts; this only saves asking. A store that cannot be read is set aside, and a
run goes on without one.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from adem_bench.digests import stable_fields
from adem_bench.files import file_state, sha256
from adem_bench.models.base import Baseline, Model
from adem_bench.records import Request, Response

STORE = ".answers.sqlite"
VERSION = 1
"""Of the table and of what keys are made of."""
PATIENCE_S = 60
"""How long another process may hold the store."""
MOST_MENDED = 3
TOGETHER, SECONDS_APART = 64, 1.0
"""Answers that are written at once, at most, and how long one waits for others."""
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_READONLY_DBMOVED")
"""Beginnings of the names of errors after which the file is begun anew; the last: it is gone."""
T = TypeVar("T")


class ImageDigests:
    """The SHA-256 of image files, each file read once as long as it does not change."""

    def __init__(self) -> None:
        """Know none yet."""
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def of(self, path: Path) -> str:
        """Return the digest of a file's bytes.

        Raises:
            OSError: it cannot be read.
        """
        state = file_state(path)
        known = self._known.get(path)
        if known is None or known[0] != state:
            known = self._known[path] = (state, sha256(path))
        return known[1]


def keeps_answers(model: Model) -> bool:
    """Return whether a model's answers are worth keeping, and the same for every run.

    Those that depend on the batch are not, nor those of baselines that see the right answers.
    """
    return model.keeps_answers and not (model.budget().in_order or isinstance(model, Baseline))


class Answers:
    """What one model has answered, in this run and in others below the same folder."""

    def __init__(self, results: Path, fingerprint: str, seed: int, fresh: bool) -> None:
        """Open the store.

        Args:
            results: The folder below which runs are kept.
            fingerprint: The model's, with the weights in use.
            seed: Of models that draw tokens.
            fresh: Whether everything is asked anew; new answers then replace the old ones.
        """
        self._store = AnswerStore(results / STORE)
        self._common = {"version": VERSION, "model": fingerprint, "seed": seed}
        self._fresh = fresh
        self._images = ImageDigests()
        self._pending: dict[bytes, str] = {}
        self._written_at = time.monotonic()

    @property
    def warnings(self) -> Sequence[str]:
        """Return why answers of other runs were not used, where that is so."""
        return self._store.warnings

    def find(self, request: Request) -> Response | None:
        """Return what was answered; None if that is not known."""
        key = None if self._fresh else self._key(request)
        text = (self._pending.get(key) or self._store.get(key)) if key else None
        return None if text is None else _response(text)

    def keep(self, request: Request, response: Response) -> None:
        """Keep what was answered; other processes see it a moment later."""
        key = self._key(request)
        if key:
            self._pending[key] = json.dumps(asdict(response))
        if len(self._pending) >= TOGETHER or time.monotonic() - self._written_at > SECONDS_APART:
            self._write()

    def close(self) -> None:
        """Write what is still to be kept, and let go of the store."""
        self._write()
        self._store.close()

    def _write(self) -> None:
        self._store.put(self._pending)
        self._pending.clear()
        self._written_at = time.monotonic()

    def _key(self, request: Request) -> bytes | None:
        """Return a digest of everything that an answer depends on; None if an image is unreadable.

        Unlike a record's digest, it knows an image by its bytes and not by its name.
        """
        try:
            asked = _plain(stable_fields(request), self._images.of)
        except (OSError, ValueError):  # no such file, or a name that no file can have
            return None
        whole = {**self._common, "request": asked, "repeat": request.repeat}
        if request.decoding.samples:  # its digest, which knows names, begins the random stream
            whole["stream"] = request.digest()
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).digest()


def _plain(value: Any, digest_of: Callable[[Path], str]) -> Any:
    """Return the fields of a request as JSON data, with digests in place of files."""
    if isinstance(value, Path):
        return digest_of(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner, digest_of) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, digest_of) for inner in value]
    return value


def _response(text: str) -> Response | None:
    """Return a kept response; None if another version of this package has kept more."""
    found = json.loads(text)
    if set(found) - {field.name for field in fields(Response)}:
        return None
    return Response(**{name: _frozen(value) for name, value in found.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class AnswerStore:
    """Texts by keys in a SQLite file that any number of processes share.

    No method raises: what fails is in `warnings`, and the store then is empty, or off.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it."""
        self.path = path
        self.warnings: list[str] = []
        self._mended = 0
        self._inode = 0
        self._connection: sqlite3.Connection | None = None
        self._open()

    def get(self, key: bytes) -> str | None:
        """Return the text of a key; None if there is none, or it is not as it was written."""
        row = self._do(
            lambda connection: connection.execute(
                "SELECT text, digest FROM answers WHERE key = ?", (key,)
            ).fetchone()
        )
        return row[0].decode() if row and row[1] == _check(key, row[0]) else None

    def put(self, texts: Mapping[bytes, str]) -> None:
        """Keep texts, in place of earlier ones of their keys."""
        encoded = {key: text.encode() for key, text in texts.items()}
        rows = [(key, raw, _check(key, raw)) for key, raw in encoded.items()]
        if rows:
            self._do(lambda connection: _insert(connection, rows))

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, PATIENCE_S, isolation_level=None)
            self._inode = self.path.stat().st_ino
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
            return
        self._do(_prepare)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return what some work on the file gives; None if that cannot be done."""
        if self._connection is None:
            return None
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith(DAMAGED):
                self._mend()
            else:
                self._give_up(error)
            return None

    def _mend(self) -> None:
        """Begin anew in place of a damaged file, unless another process has done so."""
        self.close()
        self._mended += 1
        aside = self.path.with_name(f"{STORE}.damaged")
        try:
            if self.path.exists() and self.path.stat().st_ino == self._inode:
                self.path.with_name(f"{STORE}-journal").unlink(missing_ok=True)
                self.path.replace(aside)
                self.warnings.append(
                    f"{self.path} was damaged and is now {aside.name}; answers that it held are "
                    "asked for again"
                )
        except OSError as error:
            self._give_up(error)
            return
        if self._mended <= MOST_MENDED:
            self._open()

    def _give_up(self, error: Exception) -> None:
        self.close()
        self.warnings.append(
            f"{self.path} cannot be used ({error}), so no answers of other runs are; --no-reuse "
            "does without it"
        )


def _prepare(connection: sqlite3.Connection) -> None:
    # A power cut may tear the file: each row has a check, and a torn file is set aside.
    connection.execute("PRAGMA synchronous = OFF")
    # The journal stays a file: WAL needs memory that processes on several machines do not share.
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    if version:
        raise sqlite3.DatabaseError("another version of adem-bench made it")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS answers "
        "(key BLOB PRIMARY KEY, text BLOB NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID"
    )
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _insert(connection: sqlite3.Connection, rows: Iterable[tuple[bytes, bytes, bytes]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(
            "INSERT OR REPLACE INTO answers (key, text, digest) VALUES (?, ?, ?)", rows
        )
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check(key: bytes, raw: bytes) -> bytes:
    return hashlib.sha256(key + raw).digest()[:8]
