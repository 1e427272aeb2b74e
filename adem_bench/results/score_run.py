"""Scoring a run again from its records, without its model: `adem-bench score RUN`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from adem_bench.cards import load_task_card
from adem_bench.errors import AdemBenchError, CardError, ResultsError, in_shell
from adem_bench.records import Json, Result
from adem_bench.results.judgements import KeptJudge, kept_judge
from adem_bench.results.run_folder import (
    MANIFEST,
    METRICS,
    NOT_SCORED,
    SAMPLES,
    RunFolder,
    read_run_file,
    run_place,
)
from adem_bench.results.run_schema import ManifestFile, problems
from adem_bench.results.runs import foreign_card, of_kept_records, unfinished
from adem_bench.tasks import repeats
from adem_bench.tasks.base import Judge, Task, judging_of, task_of
from adem_bench.tasks.recorded import recorded_card


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run that was scored from its records."""

    folder: Path
    model: str
    result: Result
    warnings: tuple[str, ...]
    """What could not be done, and why."""


class RunJudge(Judge, Protocol):
    """A judge of one run, to be closed, which knows what the manifest is to say of it."""

    def describe(self) -> dict[str, Json]:
        """Return what the manifest says: its card, questions, tokens, cost."""
        ...

    def close(self) -> None:
        """Write what is still to be kept."""
        ...


@dataclass(frozen=True, slots=True)
class NewJudge:
    """A judge that was named for a finished run."""

    name: str
    """Its name and fingerprint."""
    of_run: Callable[[Path], RunJudge]
    """Gives the judge of a run whose folder is named."""


def score_run(
    folder: Path, data_root: Path | None = None, judge: NewJudge | None = None
) -> ScoredRun:
    """Score the records of a run as its task does, and write metrics and manifest.

    Args:
        folder: Of a run that has answered all of its samples.
        data_root: As for `build_task`. Without the data figures are made of the records alone, and
            predictions in the benchmark's format are left as they are.
        judge: Reads the answers in place of the one that the run had. What another one judged is
            another run, next to this one; None: what the run's judge said is read again.

    Raises:
        CardError: the task asks no judge, or cannot be scored without one.
        ResultsError: not such a folder, another version's, or it cannot be written.
        AdemBenchError: the task needs its data for the figures, and they are missing.
    """
    manifest = _manifest(folder)
    task = _task(folder, manifest, data_root)
    said = _said(folder, manifest)
    if judge is None:
        return _score(folder, manifest, task, said, kept_judge(folder, manifest))
    if judging_of(task) == "no":
        raise CardError(f"{folder}: task {task.card.name} asks no judge; leave --judge out")
    place, manifest = _judged_by(folder, manifest, judge.name)
    if place != folder:
        _copy_records(folder, place)
    # What was said of answers that another judge read, or none.
    said = [text for text in said if not repeats.is_of_scoring(text)]
    said = [text for text in said if text not in getattr(task, "unjudged", ())]
    with closing(judge.of_run(place)) as asks:
        return _score(place, manifest, task, said, asks)


def _judged_by(folder: Path, manifest: Mapping[str, Any], name: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the manifest of a run with another judge.

    Args:
        folder: The run's.
        manifest: Its manifest.
        name: The judge's, with its fingerprint.
    """
    identity = {**manifest["identity"], "judge": name}
    options = {**manifest["options"], "judge": name}
    place = folder.parent / run_place("", identity).name
    return place, {**manifest, "identity": identity, "options": options}


def _copy_records(folder: Path, place: Path) -> None:
    """Give a run the records of another one with the same answers; errors and all.

    Raises:
        ResultsError: one of them is being written.
    """
    with RunFolder(folder) as source, RunFolder(place) as target:
        source.gather(fresh=False)
        target.gather(fresh=False)
        target.rewrite(source.records().values())


def _score(
    folder: Path,
    manifest: Mapping[str, Any],
    task: Task,
    said: Sequence[str],
    judge: RunJudge | KeptJudge | None,
) -> ScoredRun:
    """Score a run's records.

    Args:
        folder: The run's.
        manifest: To be written.
        task: As the run had it.
        said: Warnings that are to stay.
        judge: Reads the answers, where one does.
    """
    with RunFolder(folder) as run:
        run.gather(fresh=False)
        records = list(run.records().values())
        if not records:
            raise ResultsError(f"{folder / SAMPLES} holds no record; run it again")
        had = manifest["timing"]["answered"] + manifest["timing"]["resumed"]
        if len(records) < had:
            raise ResultsError(
                f"{folder / SAMPLES} holds {len(records):,} of the {had:,} records that the run "
                "had; the command that made it answers the others again"
            )
        with of_kept_records(folder):
            records, result = repeats.score(task, records, folder, judge)
        if judge is not None and not isinstance(judge, KeptJudge):
            manifest = {**manifest, "judge": judge.describe()}
        stay = [text for text in said if text not in result.warnings]
        result = replace(result, warnings=(*result.warnings, *stay))
        run.finish(records, result, {k: v for k, v in manifest.items() if k != NOT_SCORED})
        warnings = []
        try:
            if task.fingerprint() != manifest["task"]["data_fingerprint"]:
                raise ResultsError("the data here is not what the run answered")
            with of_kept_records(folder):
                repeats.export(task, records, folder)
        except AdemBenchError as error:
            warnings = [f"{folder}: files in the benchmark's own format are not written: {error}"]
    return ScoredRun(folder, str(manifest["model"]["name"]), result, tuple(warnings))


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
        raise ResultsError(f"{folder}: {foreign_card(error)}") from error
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
