"""What `adem-bench validate` does: every check of a run folder, one after the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from adem_bench.cards import load_task_card
from adem_bench.errors import AdemBenchError, CardError, ResultsError, in_shell, lacks_memory
from adem_bench.misnamed import TRAINING_NAME
from adem_bench.records import Record
from adem_bench.results.judgements import kept_judge
from adem_bench.results.run_folder import MANIFEST, METRICS, NOT_SCORED, SAMPLES, SHARD, is_imported
from adem_bench.results.run_schema import ManifestFile, MetricsFile, RecordLine, problems
from adem_bench.results.runs import unfinished
from adem_bench.results.validation.against_data import Numbered, check_exports, check_samples
from adem_bench.results.validation.consistency import (
    check_counts,
    check_digests,
    check_manifest,
    check_same_task,
    record_faults,
)
from adem_bench.results.validation.issues import Issue, Issues
from adem_bench.results.validation.recompute import check_figures, check_set_scores
from adem_bench.results.validation.safe_json import (
    MAX_LINE_BYTES,
    BadJsonError,
    numbered_lines,
    parse,
    read_document,
)
from adem_bench.schemas import TaskCard
from adem_bench.tasks import repeats
from adem_bench.tasks.base import Task, task_of
from adem_bench.tasks.recorded import recorded_card


@dataclass(frozen=True, slots=True)
class Validation:
    """What a validation came to."""

    records: int
    """Lines of samples.jsonl."""
    issues: tuple[Issue, ...]
    unchecked: tuple[str, ...]
    """What could not be checked on this machine, and why."""


def runs_below(folder: Path) -> list[Path]:
    """Return the run folders in and below a folder, in the order of their names.

    Unfinished and damaged ones are among them; what training left is not.

    Raises:
        ResultsError: there is none.
    """
    found = []
    for name, folders, files in os.walk(folder):
        folders.sort()
        is_training = TRAINING_NAME in files
        if {SAMPLES, METRICS} & set(files) or (MANIFEST in files and not is_training):
            found.append(Path(name))
    if not found:
        raise ResultsError(
            f"{folder} is not a run folder: expected {SAMPLES}, {METRICS} and {MANIFEST} in it, as "
            "`adem-bench run` makes them below RESULTS/MODEL/TASK/, or such folders below it"
        )
    return found


class Tasks:
    """The tasks of runs: those that several runs share are built once, and their data digested."""

    def __init__(self, data_root: Path | None = None) -> None:
        """Build none yet.

        Args:
            data_root: As for `build_task`; where a run's data is not there, what needs it is not
                checked.
        """
        self._data_root = data_root
        self._built: dict[tuple[str, Path | None], Task] = {}

    def of(self, card: TaskCard) -> Task:
        """Return the task of a card.

        Raises:
            AdemBenchError: it cannot be built.
        """
        key = (card.model_dump_json(), card.path)
        if key not in self._built:
            self._built[key] = task_of(card, self._data_root)
        return self._built[key]


def validate_run(
    folder: Path, data_root: Path | None = None, tasks: Tasks | None = None
) -> Validation:
    """Check a run folder: its files, their schema, and that they belong together.

    Args:
        folder: The run folder.
        data_root: As for `build_task`; where the run's data is not there, what needs it is
            not checked.
        tasks: Those of other runs that were checked with the same data root.

    Raises:
        ResultsError: the folder is not a run folder.
    """
    names = [name for name in (SAMPLES, METRICS, MANIFEST) if (folder / name).exists()]
    if not names:
        raise ResultsError(
            f"{folder} is not a run folder: expected {SAMPLES}, {METRICS} and {MANIFEST} in it, as "
            "`adem-bench run` makes them below RESULTS/MODEL/TASK/"
        )
    return _Check(folder, tasks or Tasks(data_root)).whole()


class _Check:
    """The steps, and what they have in common."""

    def __init__(self, folder: Path, tasks: Tasks) -> None:
        self.folder = folder
        self.tasks = tasks
        self.issues = Issues(folder)
        self.lines = 0

    def whole(self) -> Validation:
        for shard in sorted(self.folder.glob(SHARD.format(rank="*"))):
            text = "left by a process whose run did not finish; the same `adem-bench run` merges it"
            self.issues.add(shard.name, text)
        records = self._records()
        metrics = None if self._is_to_be_scored() else self._document(METRICS, MetricsFile)
        manifest = self._document(MANIFEST, ManifestFile)
        if metrics:
            check_counts(metrics, *self._count(records or ()), self.issues)
        if manifest:
            check_digests(self.folder, manifest, self.issues)
            check_manifest(self.folder, manifest, self.issues)
        if metrics and manifest and not check_same_task(metrics, manifest, self.issues):
            metrics = None  # of another task: no use in comparing its figures
        if manifest and records is not None:
            self._against_task(records, metrics, manifest)
        elif manifest:
            what = "metrics, requests, predictions and exported files"
            self.issues.unchecked.append(f"{what}: {SAMPLES} must be complete first")
        listed = self.issues.listed()
        return Validation(self.lines, tuple(listed), tuple(self.issues.unchecked))

    def _is_to_be_scored(self) -> bool:
        """Return whether the run has answers only, and note it."""
        try:
            manifest = read_document(self.folder / MANIFEST)
        except BadJsonError:
            return False
        is_later = isinstance(manifest, dict) and NOT_SCORED in manifest
        if not is_later or (self.folder / METRICS).exists():
            return False
        reason = f"`adem-bench score {in_shell(self.folder)}` makes them"
        self.issues.unchecked.append(f"metrics: {reason}")
        return True

    def _count(self, records: Sequence[Numbered]) -> tuple[int, str]:
        """Return how many samples the file has, each of them a line unless they were repeated."""
        if any(record.repeat for _, record in records):
            return len({record.sample_id for _, record in records}), "samples"
        return self.lines, "lines"

    def _document(self, name: str, schema: type[BaseModel]) -> Any:
        """Return what a file holds, None if it is not as the schema says."""
        path = self.folder / name
        if not path.exists():
            self.issues.add(name, f"missing: {unfinished(self.folder)}")
            return None
        try:
            value = read_document(path)
        except BadJsonError as error:
            self.issues.add(name, str(error))
            return None
        found = list(problems(schema, value))
        for text in found:
            self.issues.add(name, text)
        return None if found else value

    def _records(self) -> list[Numbered] | None:
        """Return the records with their lines; None if the file or one of the lines is broken."""
        path = self.folder / SAMPLES
        if not path.is_file():
            self.issues.add(SAMPLES, "missing or not a file, expected one record per line")
            return None
        records: list[Numbered] = []
        seen: dict[str, int] = {}
        whole = True
        for number, raw in numbered_lines(path):
            self.lines = number
            faults, record = _read_line(raw)
            if record is None:
                whole = False
            else:
                first = seen.setdefault(record.key, number)
                if first != number:
                    whole = False
                    faults.append(f"sample {record.sample_id!r:.80} is in line {first} too")
                records.append((number, record))
            for text in faults:
                self.issues.add(SAMPLES, text, number)
        return records if whole else None

    def _against_task(self, numbered: Sequence[Numbered], metrics: Any, manifest: Any) -> None:
        """Check everything that the task's own code or its data is needed for."""
        task = self._task(manifest)
        if task is None:
            return
        records = [record for _, record in numbered]
        reason = self._missing_data(task, manifest)
        if metrics:
            self._recompute(task, records, metrics, manifest, reason)
        if reason:
            what = "requests, predictions and exported files"
            self.issues.unchecked.append(f"{what}: {reason}")
            return
        if is_imported(manifest):
            text = "requests and how responses were read: these are predictions of other code"
            self.issues.unchecked.append(text)
        try:
            if check_samples(task, numbered, manifest, self.issues):
                check_exports(task, records, self.folder, self.issues)
        except Exception as error:  # whatever edited records do to a task's code
            if lacks_memory(error):
                raise
            self.issues.add(SAMPLES, f"the task cannot read these records: {_named(error)}")

    def _task(self, manifest: Any) -> Task | None:
        """Return the task as the run had it, None (and a word why) if it cannot be had."""
        reason = ""
        try:
            card = recorded_card(manifest)
            here = _version_here(card)
            if here in (None, card.version):
                return self.tasks.of(card)
            reason = f"the run has task version {card.version}, this package has {here}"
        except ValidationError:
            reason = "the manifest's task card has fields that this package does not know"
        except AdemBenchError as error:
            reason = str(error)
        self.issues.unchecked.append(f"metrics, requests, predictions, exported files: {reason}")
        return None

    def _missing_data(self, task: Task, manifest: Any) -> str:
        """Return why the run's data is not available; nothing if it is."""
        wanted = manifest["task"]["data_fingerprint"]
        try:
            found = task.fingerprint()
        except AdemBenchError as error:
            return str(error)
        return "" if found == wanted else f"the data here is {found}, the run's was {wanted}"

    def _recompute(
        self, task: Task, records: Sequence[Record], metrics: Any, manifest: Any, reason: str
    ) -> None:
        if reason and task.card.split not in task.card.expected:
            self.issues.unchecked.append(f"metrics: {reason}")
            return
        try:
            judge = kept_judge(self.folder, manifest)
            scored, again = repeats.score(task, records, self.folder, judge)
        except AdemBenchError as error:
            self.issues.unchecked.append(f"metrics: {error}")
        except Exception as error:  # whatever edited records do to a task's code
            if lacks_memory(error):
                raise
            text = f"the task cannot score these records: {_named(error)}"
            self.issues.add(SAMPLES, text)
        else:
            check_set_scores(records, scored, self.issues)
            check_figures(metrics, again, manifest["versions"], self.issues)


def _read_line(raw: bytes | None) -> tuple[list[str], Record | None]:
    """Return what is wrong with a line, and its record if it is one."""
    if raw is None:
        return [f"longer than {MAX_LINE_BYTES >> 20} MiB, expected one record"], None
    if not raw.strip():
        return ["empty, expected one record"], None
    try:
        value = parse(raw.rstrip(b"\r\n"), finite=False)
    except BadJsonError as error:
        torn = "" if raw.endswith(b"\n") else "torn: "
        return [f"{torn}{error}"], None
    faults = list(problems(RecordLine, value))
    if faults:
        return faults, None
    try:
        record = Record.from_json(value)
    except TypeError as error:  # a number that is larger than any of ours
        return [str(error)], None
    faults = record_faults(record)
    if not raw.endswith(b"\n"):
        faults.append("no line feed at its end: the file was cut or edited")
    return faults, record


def _version_here(card: TaskCard) -> int | None:
    """Return the version of a task's card on this machine; None if there is no such card."""
    try:
        return load_task_card(card.name).version
    except CardError:
        return None


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
