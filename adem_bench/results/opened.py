"""One finished run with its records, as `compare` and `report` take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adem_bench.errors import ResultsError
from adem_bench.metrics.intervals import Statistics
from adem_bench.records import Record
from adem_bench.results.finished import FinishedRun, finished_runs
from adem_bench.results.run_folder import MANIFEST, METRICS, SAMPLES, RunFolder, read_json
from adem_bench.results.variants import variants_of
from adem_bench.schemas import TaskCard
from adem_bench.tasks.base import statistics_of

MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run with all that its folder holds."""

    run: FinishedRun
    manifest: Mapping[str, Any]
    records: Mapping[str, Record]
    """By sample id, in the data set's order."""

    @property
    def kind(self) -> str:
        """The kind of the run's task."""
        return str(self.manifest["task"]["kind"])


def own_statistics(run: OpenedRun, records: Sequence[Record]) -> Statistics:
    """Return what a run's metrics rest on.

    Args:
        run: Whose task says it.
        records: Of the run, all or some.

    Raises:
        ResultsError: the manifest or the records are not what the task wrote.
    """
    try:
        card = TaskCard.model_validate(run.manifest["task"]["card"])
        return statistics_of(card, records)
    except (KeyError, TypeError, ValueError) as error:
        raise unusable(run.run.folder, str(error)) from error


def unusable(folder: Path, reason: str) -> ResultsError:
    """Return the error for a run whose files cannot be what its task wrote."""
    return ResultsError(f"{folder}: {reason}; `adem-bench validate {folder}` says more")


def labels(runs: Sequence[OpenedRun]) -> list[str]:
    """Return the runs' models, in order, each with what sets it apart from the others.

    A run of fewer samples, or with other options of its task, is never called as the plain one.
    """
    tags = [_tags(run) for run in runs]
    options = [_options(run) for run in runs]
    found = []
    for place, run in enumerate(runs):
        same = [
            other
            for other in range(len(runs))
            if other != place
            and (runs[other].run.model, tags[other]) == (run.run.model, tags[place])
            and runs[other].run.result.task == run.run.result.task
        ]
        apart = {fact for other in same for fact in options[place] - options[other]}
        alike = any(options[other] == options[place] for other in same)
        facts = [*tags[place], *sorted(apart), *([run.run.folder.name] if alike else [])]
        found.append(f"{run.run.model} [{', '.join(facts)}]" if facts else run.run.model)
    return found


def _tags(run: OpenedRun) -> tuple[str, ...]:
    (variant,) = variants_of([run.run])
    limit = run.run.options.get("limit")
    return (*variant.tags, *([f"limit={limit}"] if limit else []))


def _options(run: OpenedRun) -> set[str]:
    identity = run.manifest.get("identity", {})
    settings = {**identity.get("task_options", {}), **identity.get("prompt_settings", {})}
    return {f"{name}={value}" for name, value in settings.items()}


def open_run(path: Path) -> OpenedRun:
    """Return the only finished run in or below a folder.

    Raises:
        ResultsError: there is none, or several.
    """
    runs, warnings = finished_runs(path)
    if not runs:
        raise _nothing(path, warnings)
    if len(runs) > 1:
        listed = ", ".join(str(run.folder) for run in runs[:MAX_NAMED])
        more = ", …" if len(runs) > MAX_NAMED else ""
        raise ResultsError(f"{path} holds {len(runs)} finished runs; name one of {listed}{more}")
    return _open(runs[0])


def open_runs(paths: Iterable[Path]) -> tuple[list[OpenedRun], list[str]]:
    """Return all finished runs in or below folders, each once, and what was left out and why.

    Raises:
        ResultsError: a folder holds none.
    """
    found: dict[Path, OpenedRun] = {}
    left_out: list[str] = []
    for path in paths:
        runs, warnings = finished_runs(path)
        left_out += warnings
        if not runs:
            raise _nothing(path, warnings)
        for run in runs:
            if run.folder.resolve() not in found:
                found[run.folder.resolve()] = _open(run)
    return list(found.values()), left_out


def _nothing(path: Path, warnings: Sequence[str]) -> ResultsError:
    reason = f": {warnings[0]}" if warnings else "; `adem-bench run` makes runs"
    return ResultsError(f"no finished run in {path}{reason}")


def _open(run: FinishedRun) -> OpenedRun:
    """Return a run with its records.

    Raises:
        ResultsError: a file lacks what every later step needs.
    """
    manifest = read_json(run.folder / MANIFEST)
    if not isinstance(manifest.get("task", {}).get("kind"), str):
        raise unusable(run.folder, f"{MANIFEST} does not say the kind of task")
    result = run.result
    if result.headline not in {metric.name for metric in result.metrics}:
        raise unusable(run.folder, f"{METRICS} lacks its headline {result.headline!r}")
    records = RunFolder(run.folder).records()
    if not records and result.scored:
        raise unusable(run.folder, f"{SAMPLES} is missing or holds no record")
    return OpenedRun(run, manifest, records)


def letters(runs: Sequence[OpenedRun]) -> list[str]:
    """Return short names for runs, in order: A, B, and A1 after Z."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        alphabet[place % 26] + (str(place // 26) if place >= 26 else "")
        for place in range(len(runs))
    ]
