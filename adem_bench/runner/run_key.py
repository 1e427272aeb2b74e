"""What makes two runs the same run: only then may one continue the other's records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from adem_bench.digests import stable_fields
from adem_bench.models.base import Model
from adem_bench.records import Json
from adem_bench.results.run_folder import run_place
from adem_bench.tasks.base import Task


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a task is to be run."""

    FIRST_FIELDS: ClassVar = frozenset({"limit", "blind"})
    """Always in a run's identity; a later field only off its default (`digests.py`)."""
    WITHOUT_EFFECT: ClassVar = frozenset({"batch_size", "seed", "fresh"})
    """Never in it: records do not depend on them."""
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
    """Return everything that records depend on; batch size and processes are not among it.

    Runs are found again by it, also by later versions. What follows belongs to it for good, in
    this form; more comes in through `RunOptions`, a card's options or a fingerprint, and only
    where it is off its default.
    """
    chosen = stable_fields(options)
    return {
        "model": model.fingerprint(),
        "task": task.card.name,
        "task_kind": task.card.kind,
        "task_version": task.card.version,
        "task_options": dict(task.card.options),
        "split": task.card.split,
        "prompt_settings": dict(task.prompt_settings()),
        "data": task.fingerprint(),
        **{name: chosen[name] for name in chosen if name not in options.WITHOUT_EFFECT},
    }


def run_folder_path(root: Path, model: Model, identity: Mapping[str, Json]) -> Path:
    """Return `ROOT/MODEL/TASK/SPLIT[-blind][-limitN]-DIGEST`."""
    return root / run_place(model.card.name, identity)
