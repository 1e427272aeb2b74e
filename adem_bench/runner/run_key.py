"""What makes two runs the same run: only then may one continue the other's records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adem_bench.models.base import Model
from adem_bench.records import Json
from adem_bench.results.run_folder import run_place
from adem_bench.tasks.base import Task


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a task is to be run."""

    limit: int | None = None
    """Only the first so many samples; the result is then marked as a subset."""
    blind: bool = False
    """Whether images are withheld from the model."""
    batch_size: int | None = None
    """Rows answered together; None lets the model's budget decide."""
    seed: int = 0
    fresh: bool = False
    """Whether earlier records of the same run are thrown away."""


def run_identity(model: Model, task: Task, options: RunOptions) -> Mapping[str, Json]:
    """Return everything that records depend on; batch size and processes are not among it."""
    return {
        "model": model.fingerprint(),
        "task": task.card.name,
        "task_kind": task.card.kind,
        "task_version": task.card.version,
        "task_options": dict(task.card.options),
        "split": task.card.split,
        "prompt_settings": dict(task.prompt_settings()),
        "data": task.fingerprint(),
        "blind": options.blind,
        "limit": options.limit,
    }


def run_folder_path(root: Path, model: Model, identity: Mapping[str, Json]) -> Path:
    """Return `ROOT/MODEL/TASK/SPLIT[-blind][-limitN]-DIGEST`."""
    return root / run_place(model.card.name, identity)
