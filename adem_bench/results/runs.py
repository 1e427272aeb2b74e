"""Reading run folders back, in two stages.

A `FinishedRun` says what was run, how, and what came out: enough for tables of many runs. An
`OpenedRun` has manifest and records too, as `compare` and `report` take them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from adem_bench.cards import list_cards, load_task_card
from adem_bench.errors import AdemBenchError, ResultsError, in_shell
from adem_bench.files import open_bytes, open_text, sha256
from adem_bench.metrics.intervals import Statistics
from adem_bench.records import Record, Result
from adem_bench.results.run_folder import (
    MANIFEST,
    METRICS,
    SAMPLES,
    SHARD,
    RunFolder,
    read_run_file,
)
from adem_bench.results.run_schema import ManifestFile, problems
from adem_bench.schemas import TaskCard
from adem_bench.tasks.repeats import statistics_of

RESULT = TypeAdapter(Result)
"""Checks every type, so that no table meets a text where a number belongs."""
UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
    ResultsError,
)  # fmt: skip
"""What reading a file raises that no run of ours wrote."""
MAX_NAMED = 5
"""Runs that a message names."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """One run folder that holds metrics."""

    folder: Path
    model: str
    language_model: str
    trainable_parameters: str
    fingerprint: str
    """Of the model's weights and settings."""
    prompt: tuple[str, ...]
    """How samples were asked and answers read: the prompt format, then `captions=True`, …"""
    options: Mapping[str, Any]
    """How the task was run: blind, limit, seed, …"""
    card: Mapping[str, Any]
    """The model's card as it was used, overrides included."""
    finished: str
    """ISO 8601 time; the empty string sorts before every other."""
    result: Result
    samples_per_second: float | None = None
    """Of the run's last call; None if that answered nothing."""
    task_card: Mapping[str, Any] = field(default_factory=dict)
    """The task's card as it was used, overrides included."""
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """How tokens were chosen; empty if greedily, or in the model's own way."""
    card_name: str = ""
    """Of the model's card, where the user gave the model another name."""


def finished_runs(root: Path) -> tuple[list[FinishedRun], list[str]]:
    """Return the finished runs below a folder, and a warning per folder that cannot be read.

    Folders are visited in the order of their names; a run without metrics is not finished. What
    training left is not a run, and is passed over.

    Raises:
        ResultsError: the folder does not exist.
    """
    if not root.is_dir():
        raise ResultsError(
            f"{root} is not a folder with results; `adem-bench run` makes one, or name another one"
        )
    runs: list[FinishedRun] = []
    warnings: list[str] = []
    for name, folders, files in os.walk(root):
        folders.sort()
        folder = Path(name)
        if not {SAMPLES, METRICS} & set(files):
            continue
        if MANIFEST in files and METRICS not in files:
            warnings.append(
                f"{folder}: not scored, so left out; `adem-bench score {in_shell(folder)}` does it"
            )
            continue
        if not {MANIFEST, METRICS} <= set(files):
            warnings.append(f"{folder}: {unfinished(folder)}; left out")
            continue
        try:
            runs.append(_read(folder))
        except UNREADABLE as error:
            warnings.append(f"{folder}: cannot be read, so left out ({_reason(folder, error)})")
    return runs, warnings


def unfinished(folder: Path) -> str:
    """Return that a run is not finished, how far it is, and what continues it."""
    answered: set[str] = set()
    for path in (folder / SAMPLES, *folder.glob(SHARD.format(rank="*"))):
        with contextlib.suppress(OSError), open_text(path, errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
                    answered.add(str(json.loads(line)["sample_id"]))
    whole = expected_samples(folder.parent.name, folder.name)
    of_whole = f" of {whole:,}" if whole and len(answered) <= whole else ""
    plural = "" if len(answered) == 1 and not of_whole else "s"
    return (
        f"not finished ({len(answered):,}{of_whole} sample{plural}): the same `adem-bench run` "
        "command continues it"
    )


def expected_samples(task: str, folder: str) -> int | None:
    """Return how many samples a run asks; None if it is not known.

    Args:
        task: Name of the folder that the run's is in: the task's.
        folder: Name of the run's folder.
    """
    parts = folder.split("-")
    limits = [int(part[5:]) for part in parts if part[:5] == "limit" and part[5:].isdecimal()]
    whole = None
    with contextlib.suppress(AdemBenchError):
        if task in list_cards("tasks"):
            whole = load_task_card(task).expected.get(parts[0])
    return min([*limits, *([whole] if whole else [])], default=None)


def _read(folder: Path) -> FinishedRun:
    manifest = read_run_file(folder / MANIFEST)
    text = json.dumps(read_run_file(folder / METRICS), ensure_ascii=False)
    # pydantic takes no half characters, which a warning may have from a name that is not UTF-8.
    result = RESULT.validate_json(text.encode(errors="replace"), strict=True)
    shown = tuple(metric.without_false_interval() for metric in result.metrics)
    result = replace(result, metrics=shown)
    _check_belongs(folder, manifest, result)
    model = manifest["model"]
    task_card = dict(manifest["task"].get("card") or {})
    kind, options = task_card.get("kind", ""), task_card.get("options") or {}
    if not isinstance(kind, str) or not isinstance(options, Mapping):
        raise ResultsError(f"{MANIFEST}: task.card is not a task's card")
    return FinishedRun(
        folder=folder,
        model=str(model["name"]),
        language_model=str(model.get("language_model") or ""),
        trainable_parameters=_millions(model.get("trainable_parameters")),
        fingerprint=str(model["fingerprint"]),
        prompt=_prompt(manifest["task"], manifest.get("identity", {}).get("task_options", {})),
        options=dict(manifest.get("options", {})),
        card=dict(model.get("card", {})),
        finished=str(manifest.get("run", {}).get("finished") or ""),
        result=result,
        samples_per_second=_rate(manifest.get("timing", {})),
        task_card=task_card,
        decoding=dict(manifest.get("decoding") or {}),
        card_name=str(model.get("card_name") or ""),
    )


def _check_belongs(folder: Path, manifest: Mapping[str, Any], result: Result) -> None:
    """Refuse figures that were not made of the records next to them.

    So they are where a run was begun anew or goes on, or a file was edited. Manifests that are
    older than digests of files say how many records there are.
    """
    samples = folder / SAMPLES
    files = manifest.get("files") or {}
    if not samples.is_file():
        return
    if not files:
        with open_bytes(samples) as lines:
            belongs = sum(1 for _ in lines) >= result.scored + result.failed
    else:
        belongs = all(files.get(n) in (None, sha256(folder / n)) for n in (SAMPLES, METRICS))
    if not belongs:
        raise ResultsError(
            f"{METRICS} was not made of the records in {SAMPLES}: run it again to continue, or see "
            f"`adem-bench validate {in_shell(folder)}`"
        )


def _reason(folder: Path, error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{METRICS}: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
    if isinstance(error, ResultsError):
        return str(error)
    wrong = next(problems(ManifestFile, read_run_file(folder / MANIFEST)), None)
    return f"{MANIFEST}: {wrong}" if wrong else f"{type(error).__name__}: {error}"


def _rate(timing: Mapping[str, Any]) -> float | None:
    rate = timing.get("samples_per_second")
    return float(rate) if isinstance(rate, int | float) and math.isfinite(rate) else None


def _prompt(task: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, ...]:
    settings = {**options, **task.get("prompt_settings", {})}
    form = settings.pop("prompt_format", None) or task.get("prompt_format") or ""
    return (str(form), *(f"{name}={value}" for name, value in sorted(settings.items())))


def _millions(parameters: int | None) -> str:
    """Return a count as papers print it: `4.5M`."""
    if not parameters:
        return "" if parameters is None else "0"
    if parameters < 10**6:
        return f"{parameters / 1e6:.2f}M"
    return f"{parameters / 1e6:.1f}M" if parameters < 10**9 else f"{parameters / 1e9:.1f}B"


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run with all that its folder holds."""

    run: FinishedRun
    manifest: Mapping[str, Any]
    records: Mapping[str, Record]
    """By their keys (sample ids, unless samples were asked several times), in the data's order."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.folder

    @property
    def model(self) -> str:
        """The model's name."""
        return self.run.model

    @property
    def result(self) -> Result:
        """What came out."""
        return self.run.result

    @property
    def kind(self) -> str:
        """The kind of the run's task."""
        return str(self.manifest["task"]["kind"])


def own_statistics(
    run: OpenedRun, records: Sequence[Record], repeats: int | None = None
) -> Statistics:
    """Return what a run's metrics rest on.

    Args:
        run: Whose task says it.
        records: Of the run, all or some.
        repeats: As for `statistics_of`.

    Raises:
        ResultsError: the manifest or the records are not what the task wrote.
    """
    with of_kept_records(run.folder):
        card = TaskCard.model_validate(run.manifest["task"]["card"])
        return statistics_of(card, records, repeats)


def foreign_card(error: ValidationError) -> str:
    """Return what is wrong with the task's card that a manifest has."""
    field = ".".join(map(str, error.errors()[0]["loc"]))
    return f"the manifest's task card is of another version (field {field!r})"


@contextlib.contextmanager
def of_kept_records(folder: Path) -> Iterator[None]:
    """Say that a run's records are at fault if a task's code cannot read them: they were edited.

    Raises:
        ResultsError: it cannot.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if isinstance(error, ValidationError):
            raise unusable(folder, foreign_card(error)) from error
        raise unusable(folder, f"{type(error).__name__}: {error}") from error


def unusable(folder: Path, reason: str) -> ResultsError:
    """Return the error for a run whose files cannot be what its task wrote."""
    return ResultsError(f"{folder}: {reason}; `adem-bench validate {in_shell(folder)}` says more")


def open_run(path: Path) -> OpenedRun:
    """Return the only finished run in or below a folder.

    Raises:
        ResultsError: there is none, or several.
    """
    runs, warnings = finished_runs(path)
    if not runs:
        raise nothing_finished(path, warnings)
    if len(runs) > 1:
        listed = ", ".join(str(run.folder) for run in runs[:MAX_NAMED])
        more = ", …" if len(runs) > MAX_NAMED else ""
        raise ResultsError(f"{path} holds {len(runs)} finished runs; name one of {listed}{more}")
    return open_finished(runs[0])


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
            raise nothing_finished(path, warnings)
        for run in runs:
            if run.folder.resolve() not in found:
                found[run.folder.resolve()] = open_finished(run)
    return list(found.values()), left_out


def nothing_finished(path: Path, warnings: Sequence[str]) -> ResultsError:
    """Return the error for a folder without a finished run; `warnings` are of its reading."""
    reason = f": {warnings[0]}" if warnings else "; `adem-bench run` makes runs"
    return ResultsError(f"no finished run in {path}{reason}")


def open_finished(run: FinishedRun) -> OpenedRun:
    """Return a run with its records.

    Raises:
        ResultsError: a file lacks what every later step needs.
    """
    manifest = read_run_file(run.folder / MANIFEST)
    if not isinstance(manifest.get("task", {}).get("kind"), str):
        raise unusable(run.folder, f"{MANIFEST} does not say the kind of task")
    result = run.result
    if result.headline not in {metric.name for metric in result.metrics}:
        raise unusable(run.folder, f"{METRICS} lacks its headline {result.headline!r}")
    records = RunFolder(run.folder).records()
    if not records and result.scored:
        raise unusable(run.folder, f"{SAMPLES} is missing or holds no record")
    return OpenedRun(run, manifest, records)
