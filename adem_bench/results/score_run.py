"""Scoring a run again from its records, without its model: `adem-bench score RUN`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adem_bench.cards import load_task_card
from adem_bench.errors import AdemBenchError, CardError, ResultsError, in_shell
from adem_bench.records import Result
from adem_bench.results.run_folder import (
    MANIFEST,
    METRICS,
    NOT_SCORED,
    SAMPLES,
    RunFolder,
    read_run_file,
)
from adem_bench.results.runs import unfinished
from adem_bench.results.validation.schema import ManifestFile, problems
from adem_bench.tasks import repeats
from adem_bench.tasks.base import Task, task_of
from adem_bench.tasks.recorded import recorded_card


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run that was scored from its records."""

    model: str
    result: Result
    warnings: tuple[str, ...]
    """What could not be done, and why."""


def score_run(folder: Path, data_root: Path | None = None) -> ScoredRun:
    """Score the records of a run as its task does, and write metrics and manifest.

    Args:
        folder: Of a run that has answered all of its samples.
        data_root: As for `build_task`. Without the data figures are made of the records alone, and
            predictions in the benchmark's format are left as they are.

    Raises:
        ResultsError: not such a folder, another version's, or it cannot be written.
        AdemBenchError: the task needs its data for the figures, and they are missing.
    """
    manifest = _manifest(folder)
    task = _task(folder, manifest, data_root)
    with RunFolder(folder) as run:
        run.gather(fresh=False)
        records = list(run.records().values())
        if not records:
            raise ResultsError(f"{folder / SAMPLES} holds no record; run it again")
        records, result = repeats.score(task, records, folder)
        said = [text for text in _said(folder, manifest) if text not in result.warnings]
        result = replace(result, warnings=(*result.warnings, *said))
        run.finish(records, result, {k: v for k, v in manifest.items() if k != NOT_SCORED})
        warnings = []
        try:
            if task.fingerprint() != manifest["task"]["data_fingerprint"]:
                raise ResultsError("the data here is not what the run answered")
            repeats.export(task, records, folder)
        except AdemBenchError as error:
            warnings = [f"{folder}: files in the benchmark's own format are not written: {error}"]
    return ScoredRun(str(manifest["model"]["name"]), result, tuple(warnings))


def _manifest(folder: Path) -> Any:
    if not (folder / MANIFEST).is_file():
        if (folder / SAMPLES).exists():
            raise ResultsError(f"{folder} is {unfinished(folder)}")
        below = sorted(path.parent for path in folder.rglob(MANIFEST))
        others = f" and {len(below) - 1:,} more" if len(below) > 1 else ""
        raise ResultsError(
            f"{folder} is not a run folder; below it is the run {below[0]}{others}"
            if below
            else f"{folder} is not a run folder: expected {SAMPLES} and {MANIFEST} in it, as "
            "`adem-bench run --predict-only` makes them"
        )
    manifest = read_run_file(folder / MANIFEST)
    wrong = next(problems(ManifestFile, manifest), None)
    if wrong:
        raise ResultsError(
            f"{folder / MANIFEST}: {wrong}; `adem-bench validate {in_shell(folder)}` says all"
        )
    return manifest


def _task(folder: Path, manifest: Mapping[str, Any], data_root: Path | None) -> Task:
    """Return the task as the run had it.

    Raises:
        ResultsError: it was another version's.
    """
    try:
        card = recorded_card(manifest)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise ResultsError(
            f"{folder / MANIFEST}: the task's card is of another version (field {field!r})"
        ) from error
    try:
        here = load_task_card(card.name).version
    except CardError:
        here = card.version  # a card of the user's, which is not included now
    if here != card.version:
        raise ResultsError(
            f"{folder}: the run has version {card.version} of task {card.name}, this package has "
            f"{here}; the same `adem-bench run` begins a run of it, and asks no question again "
            "whose answer was kept"
        )
    return task_of(card, data_root)


def _said(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Return the warnings that the runner had for the result, which no record holds."""
    if NOT_SCORED in manifest:
        return list(manifest[NOT_SCORED]["warnings"])
    if not (folder / METRICS).is_file():
        return []
    try:
        earlier = Result.from_json(read_run_file(folder / METRICS))
    except (ResultsError, LookupError, TypeError, AttributeError):
        return []  # damaged, and about to be made anew
    # What a figure lacked then, it may have now.
    notes = [metric.note for metric in earlier.metrics]
    return [text for text in earlier.warnings if isinstance(text, str) and text not in notes]
