"""Repeating a run from its manifest alone; the original is only read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from adem_bench.cards import find_card, load_model_card, model_card_of
from adem_bench.errors import AdemBenchError, CardError, CheckpointError, ResultsError, in_shell
from adem_bench.models.base import Model, ModelOptions, build_model
from adem_bench.records import Decoding
from adem_bench.results.rerun_diff import Differences, differences
from adem_bench.results.run_folder import MANIFEST, METRICS, SAMPLES, is_imported, read_run_file
from adem_bench.results.run_schema import ManifestFile, problems
from adem_bench.runner.distributed import Processes
from adem_bench.runner.evaluate import Progress, check_data, evaluate_model
from adem_bench.runner.judge import JudgeModel, check_use, judge_card
from adem_bench.runner.manifest import RunOptions, run_folder_path, run_identity
from adem_bench.schemas import CARD_FILE
from adem_bench.tasks.base import Task, task_of
from adem_bench.tasks.recorded import recorded_card

PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Rerun:
    """What is to be repeated, and what of it may be otherwise."""

    run: Path
    results: Path
    """Folder below which the repetition is kept."""
    data_root: Path | None = None
    model: str | None = None
    """Card whose folder holds the weights that the manifest's card names; None: looked for."""
    device: str | None = None
    """None: the CPU if the run was on one, else a GPU."""
    dtype: str | None = None
    """None: the precision that the run had."""
    quantization: str | None = None
    """None: as the run's weights were."""
    key_variable: str | None = None
    """Environment variable with the key of a served model; a manifest alone sends none."""
    fresh: bool = False
    """Whether an earlier repetition in the same folder is thrown away."""
    judge: str | None = None
    """Card of the judge; None: the one that the manifest has, if a judge read the answers."""


def rerun(job: Rerun, progress: Progress) -> Differences | None:
    """Repeat a run and compare.

    Args:
        job: What to repeat.
        progress: As for `evaluate`.

    Returns:
        Where the two runs part; None on every process but the first.

    Raises:
        AdemBenchError: the manifest is not as documented, or weights or data are not there.
    """
    manifest = _manifest(job.run)
    task = _task(job, manifest)
    options = _options(job, manifest)
    check_data(task, options.blind)
    processes = Processes()
    torch.manual_seed(options.seed)
    model = _model(job, manifest, task, processes)
    judge = _judge(job, manifest, task, processes)
    identity = run_identity(model, task, options, judge.name if judge else None)
    _check_place(job, run_folder_path(job.results, model, identity))
    outcomes = evaluate_model(model, [task], options, job.results, processes, progress, judge)
    outcome = next(outcomes, None)
    return None if outcome is None else differences(job.run, outcome.folder)


def _manifest(run: Path) -> Any:
    missing = [name for name in (MANIFEST, METRICS, SAMPLES) if not (run / name).is_file()]
    if missing:
        raise ResultsError(
            f"{run} is not a finished run: {', '.join(missing)} missing; expected a folder that "
            "`adem-bench run` wrote"
        )
    manifest = read_run_file(run / MANIFEST)
    wrong = next(problems(ManifestFile, manifest), None)
    if wrong:
        raise ResultsError(
            f"{run / MANIFEST}: {wrong}; `adem-bench validate {in_shell(run)}` says all"
        )
    if is_imported(manifest):
        raise ResultsError(
            f"{run} holds predictions of other code, so there is no model to ask again; "
            "`adem-bench validate` checks them"
        )
    return manifest


def _options(job: Rerun, manifest: Mapping[str, Any]) -> RunOptions:
    given = manifest["options"]
    rows = given["batch_size"]
    return RunOptions(
        limit=given["limit"],
        blind=given["blind"],
        batch_size=None if rows == "auto" else rows,
        seed=given["seed"],
        fresh=job.fresh,
        max_failed=given.get("max_failed", 0),
        reuse=False,
        decoding=Decoding(**given.get("decoding", {})),
        repeats=given.get("repeats", 1),
    )


def _task(job: Rerun, manifest: Mapping[str, Any]) -> Task:
    try:
        card = recorded_card(manifest)
    except ValidationError as error:
        raise _foreign_card(job, "task", error) from error
    return task_of(card, job.data_root)


def _model(job: Rerun, manifest: Mapping[str, Any], task: Task, processes: Processes) -> Model:
    """Return the model with the task's weights in use."""
    stated = manifest["model"]
    dtype = job.dtype or stated.get("dtype")
    path = _card_path(job, manifest)
    try:
        card = model_card_of({**stated["card"], CARD_FILE: path})
        if stated.get("card_name"):
            card = card.renamed(card.name, stated["card_name"])
    except ValidationError as error:
        raise _foreign_card(job, "model", error) from error
    if job.key_variable is not None:
        card = card.model_copy(
            update={"options": {**card.options, "key_variable": job.key_variable}}
        )
        card.note_given(["options.key_variable"])
    if dtype in PRECISIONS and "dtype" in type(card).model_fields:
        # `auto` on another device would be another precision.
        card = card.model_copy(update={"dtype": dtype})
    if job.quantization is not None:
        if "quantization" not in type(card).model_fields:
            raise CardError(
                f"--quantization: the run's model is of kind {card.kind}, which has no "
                "quantization; leave the option out"
            )
        card = card.model_copy(update={"quantization": job.quantization})
    device = job.device or ("cpu" if stated.get("device") == "cpu" else "auto")
    try:
        model = build_model(card, ModelOptions(processes.own_device(device), job.data_root))
        model.load_adapter_for(task.card.name, task.card.kind)
    except CheckpointError as error:
        if path is not None:
            raise
        raise CheckpointError(
            f"{error}; no card {card.name} was found here, and --model CARD names the one next "
            "to the weights"
        ) from error
    return model


def _judge(
    job: Rerun, manifest: Mapping[str, Any], task: Task, processes: Processes
) -> JudgeModel | None:
    """Return the judge of the repetition; None where none reads the answers."""
    stated = manifest.get("judge", {}).get("card")
    if job.judge is not None:
        card = judge_card(job.judge, job.data_root)
        check_use(card, [task])
    elif isinstance(stated, Mapping) and "judge" in manifest["identity"]:
        try:
            card = model_card_of({**stated, CARD_FILE: _path_of(str(stated.get("name", "")))})
        except ValidationError as error:
            raise _foreign_card(job, "judge", error) from error
    else:
        return None
    device = job.device or "auto"
    return JudgeModel.load(card, processes.own_device(device), job.data_root)


def _path_of(name: str) -> Path | None:
    with suppress(CardError):
        return find_card("models", name).resolve()
    return None


def _card_path(job: Rerun, manifest: Mapping[str, Any]) -> Path | None:
    """Return the card in whose folder weights are looked for: named, as then, or of that name."""
    if job.model:
        return find_card("models", job.model).resolve()
    model, command = manifest["model"], manifest["command"]
    own = model.get("card_name") or str(model["card"].get("name", ""))  # not validated yet
    given = [name for option, name in pairwise(command) if option == "--model"]
    for name in (*given, own):
        try:
            path = find_card("models", name).resolve()
            # Of several models that one command named, one was this run's.
            if len(given) < 2 or name == own or load_model_card(name).name == own:
                return path
        except CardError:
            continue
    return None


def _foreign_card(job: Rerun, kind: str, error: ValidationError) -> AdemBenchError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return ResultsError(
        f"{job.run / MANIFEST}: the {kind}'s card does not fit this version of adem-bench: field "
        f"{field!r}: {first['msg'].lower()}; the manifest's adem_bench_version can repeat it"
    )


def _check_place(job: Rerun, folder: Path) -> None:
    """Refuse to write where a run already is.

    Raises:
        ResultsError: the original is there, or another finished run.
    """
    if folder.resolve() == job.run.resolve():
        raise ResultsError(
            f"--results {in_shell(job.results)} is where the run itself is; name another folder"
        )
    if (folder / MANIFEST).exists() and not job.fresh:
        raise ResultsError(
            f"{folder} holds a finished run; --results names another folder, --fresh discards it"
        )
