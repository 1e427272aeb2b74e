"""What the YAML of our tasks calls: samples as lmms-eval's documents, its answers as our records.

Every document names its task and sample; prompts, reading and scores are the task's own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adem_bench.errors import AdemBenchError, DataError, printable
from adem_bench.images import open_rgb
from adem_bench.integrations.lmms_eval.folder import metric_names
from adem_bench.models.vlmevalkit import FAILED
from adem_bench.records import Record, Request, Response, Sample
from adem_bench.runner.loop import record_of
from adem_bench.tasks.base import Task, build_task

if TYPE_CHECKING:
    from PIL.Image import Image

TASK = "adem_task"
"""The column by which a document of ours is known."""
Document = Mapping[str, Any]
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A task with its samples by id."""

    task: Task
    samples: Mapping[str, Sample]


@cache
def loaded(name: str, data_root: str) -> Loaded:
    """Return a task and its samples, read once.

    Raises:
        AdemBenchError: no such card, or its data is missing.
    """
    task = build_task(name, Path(data_root) if data_root else None)
    return Loaded(task, {sample.id: sample for sample in task.samples()})


def documents_of(seed: Any) -> Any:
    """Return a task's samples as a data set in place of the row that names the task.

    Raises:
        DataError: the task's data is missing, or has no samples.
    """
    from datasets import Dataset

    name, root = seed[0]["card"], seed[0]["data_root"]
    try:
        found = loaded(name, root)
    except AdemBenchError as error:
        LOG.error("task %s: %s", name, printable(str(error)))  # lmms-eval hides it in its retries
        raise
    for row in found.task.skipped_rows():
        LOG.warning("task %s leaves out %s: %s", name, row.id, printable(row.reason))
    rows = [_row(name, root, found.task, sample) for sample in found.samples.values()]
    if not rows:
        raise DataError(f"task {name} has no samples in split {found.task.card.split}")
    return Dataset.from_list(rows)


def _row(name: str, root: str, task: Task, sample: Sample) -> dict[str, Any]:
    return {
        TASK: name,
        "data_root": root,
        "id": sample.id,
        "prompt": task.request(sample).prompt,
        # As JSON, so that columns have one type whatever the task.
        "images": json.dumps([str(path) for path in sample.images]),
        "reference": json.dumps(sample.reference, ensure_ascii=False),
    }


def request_of(document: Document) -> Request:
    """Return the task's own request for a document."""
    found, sample = _found(document)
    return found.task.request(sample)


def images_of(document: Document) -> list[Image]:
    """Return the images of a document, for models that are not ours.

    Raises:
        UnreadableImageError: one is missing or broken.
    """
    return [open_rgb(Path(path)) for path in json.loads(document["images"])]


def results_of(document: Document, results: Sequence[str]) -> dict[str, Any]:
    """Return, for each metric, the record of one answer: only the whole set can be scored."""
    found, sample = _found(document)
    text = results[0]
    response = Response("", error=text) if text.startswith(FAILED) else Response(text)
    record = record_of(found.task, sample, found.task.request(sample), response).to_json()
    place = {TASK: document[TASK], "data_root": document["data_root"]}
    return {
        name: {**place, "metric": name, "record": record} for name in metric_names(found.task.card)
    }


def aggregated(results: Sequence[Mapping[str, Any]]) -> float:
    """Return the metric that the results belong to, not a number where it cannot be computed."""
    first = results[0]
    found = loaded(first[TASK], first["data_root"])
    records = [Record.from_json(result["record"]) for result in results]
    value = found.task.aggregate(records).metric(first["metric"]).value
    return float("nan") if value is None else value


def _found(document: Document) -> tuple[Loaded, Sample]:
    found = loaded(document[TASK], document["data_root"])
    return found, found.samples[document["id"]]
