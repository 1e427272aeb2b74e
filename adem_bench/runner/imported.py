"""Predictions that other code made as a run: a folder that every verb takes that reads runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from adem_bench.errors import CardError, PredictionsError, ResultsError
from adem_bench.files import sha256
from adem_bench.models.base import Model, ModelOptions
from adem_bench.records import Record, Request, Response
from adem_bench.results.names import check_name, check_name_is_free
from adem_bench.results.run_folder import IMPORTED, RunFolder
from adem_bench.runner.judge import JudgeModel
from adem_bench.runner.loop import Outcome
from adem_bench.runner.manifest import (
    RunOptions,
    build_manifest,
    now,
    run_folder_path,
    run_identity,
)
from adem_bench.schemas import ModelCard
from adem_bench.tasks import repeats
from adem_bench.tasks.base import Task

AS_RUN = "--as-run"
UNKNOWN = "these are predictions of other code: how it asked is not known"


class _Answered(Model):
    """A model that is known by its name and by what it answered."""

    def __init__(self, name: str, source: Path) -> None:
        super().__init__(ModelCard(name=name, kind=IMPORTED), ModelOptions())
        self._source = source

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        raise CardError(f"model {self.card.name}: its answers are known, there is nothing to ask")

    def fingerprint(self) -> str:
        # Of the name alone: its predictions for several tasks are one model's.
        return hashlib.sha256(f"{IMPORTED} {self.card.name}".encode()).hexdigest()[:16]

    def describe(self) -> Mapping[str, Any]:
        digest = {"sha256": sha256(self._source)} if self._source.is_file() else {}
        return {**super().describe(), "predictions": {"file": self._source.name, **digest}}


def keep_as_run(
    task: Task,
    records: Sequence[Record],
    name: str,
    source: Path,
    results: Path,
    fresh: bool,
    judge: JudgeModel | None = None,
) -> Outcome:
    """Write the folder of a run whose answers are predictions of other code.

    How the samples were asked is not known, so the run says nothing of it: its requests have no
    digest, and its identity no prompt settings.

    Args:
        task: With its data, by which runs are paired.
        records: Of the predictions; samples may be missing, which makes the run a subset.
        name: What the model is called in tables.
        source: Where the predictions come from.
        results: Folder below which runs are kept.
        fresh: Whether other predictions under the same name are replaced.
        judge: Reads the answers, of a task that asks one.

    Raises:
        PredictionsError: there is no record.
        ResultsError: the name cannot be one, another model has runs under it, other predictions
            are kept under it, or the folder cannot be written.
        DataError: the task's data is missing.
    """
    check_name(name, AS_RUN)
    if not records:
        raise PredictionsError(f"{source} holds no prediction of task {task.card.name}")
    model, options = _Answered(name, source), RunOptions()
    check_name_is_free(results, name, task.card.name, model.fingerprint(), AS_RUN)
    judged_by = judge.name if judge else None
    identity = {**run_identity(model, task, options, judged_by), "prompt_settings": {}}
    path = run_folder_path(results, model, identity)
    ordered = _in_order(task, records)
    with RunFolder(path) as folder:
        folder.gather(fresh)
        with closing(judge.of_run(path, results, fresh)) if judge else nullcontext() as asks:
            scored, result = repeats.score(task, ordered, path, asks)
            about_judge = {"judge": asks.describe()} if asks else {}
        kept = [json.dumps(record.to_json()) for record in folder.records().values()]
        if kept and kept != [json.dumps(record.to_json()) for record in scored]:
            raise ResultsError(
                f"{path} holds other predictions under the name {name!r}; choose another name, or "
                "--fresh replaces them"
            )
        # Of requests without a digest it is not known which failed, and which were never made.
        result = replace(result, warnings=(*result.warnings, UNKNOWN), unusable=0)
        started = now()
        manifest = build_manifest(
            model,
            task,
            options,
            identity,
            run={"started": started, "finished": started, "processes": 1},
            timing={"seconds": 0.0, "answered": 0, "resumed": 0, "samples_per_second": None},
        )
        manifest["task"] |= {"prompt_format": "", "prompt_settings": {}}
        manifest |= about_judge
        folder.finish(scored, result, manifest)
        repeats.export(task, scored, path)
    return Outcome(path, result, len(kept))


def _in_order(task: Task, records: Sequence[Record]) -> list[Record]:
    """Return the records in the order of the task's samples, then those of malformed rows.

    Raises:
        PredictionsError: a sample was answered twice.
    """
    found = {record.sample_id: record for record in records}
    if len(found) < len(records):
        names = [record.sample_id for record in records]
        twice = next(name for name in names if names.count(name) > 1)
        raise PredictionsError(f"sample {twice!r} of task {task.card.name} is answered twice")
    ordered = [found.pop(sample.id) for sample in task.samples() if sample.id in found]
    return [replace(record, request_digest="") for record in (*ordered, *found.values())]
