"""What a run is made of: what makes two runs the same run, and what `manifest.json` says.

Only runs of one identity may continue each other's records; the manifest says more, so that a
run can be judged and repeated.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import torch

import adem_bench
from adem_bench.cards import as_mapping
from adem_bench.digests import stable_fields
from adem_bench.errors import CardError
from adem_bench.models.base import Model, Priced
from adem_bench.records import Decoding, Json
from adem_bench.results.run_folder import run_place
from adem_bench.schemas import MOST_SEED
from adem_bench.tasks.base import Task

SCHEMA = 1
PACKAGES = (
    "torch", "transformers", "open_clip_torch", "sentencepiece", "safetensors",
    "numpy", "pillow", "pycocoevalcap", "pandas", "bitsandbytes", "ms-vlmeval", "lmms-eval",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a task is to be run."""

    FIRST_FIELDS: ClassVar = frozenset({"limit", "blind"})
    """Always in a run's identity; a later field only off its default (`digests.py`)."""
    WITHOUT_EFFECT: ClassVar = frozenset(
        {"batch_size", "seed", "fresh", "decoding", "reuse", "max_failed", "predict_only", "judge"}
    )
    """Not by themselves in it: records do not depend on them, or `run_identity` says how."""
    limit: int | None = None
    """Only the first so many samples; the result is then marked as a subset."""
    blind: bool = False
    """Whether images are withheld from the model."""
    batch_size: int | None = None
    """Rows answered together; None lets the model's budget decide."""
    seed: int = 0
    """Of models that sample."""
    fresh: bool = False
    """Whether earlier records of the same run are thrown away."""
    decoding: Decoding = field(default_factory=Decoding)
    """How tokens are to be chosen, before what the task and the model's card say."""
    reuse: bool = True
    """Whether answers of other runs below the same folder to the same questions are used, and this
    run's are kept for them (`runner/answers.py`)."""
    max_failed: int = 0
    """Failed samples up to which the result still has a rank, by what it is if they were wrong."""
    repeats: int = 1
    """How often each sample is asked; figures are then means (`tasks/repeats.py`)."""
    predict_only: bool = False
    """Whether answers are kept and not scored; `adem-bench score RUN` does so later."""
    judge: str | None = None
    """Name or path of the model card that judges answers, of tasks that ask one."""

    def __post_init__(self) -> None:
        """Refuse a seed that no generator takes.

        Raises:
            CardError: it is one.
        """
        if abs(self.seed) > MOST_SEED:
            raise CardError(f"the seed is too large; expected one of up to {MOST_SEED}")


def run_identity(
    model: Model, task: Task, options: RunOptions, judge: str | None = None
) -> Mapping[str, Json]:
    """Return everything that records depend on; processes are not among it.

    How tokens are chosen is part of it where the model samples, and the size of batches where its
    answers depend on them.

    Runs are found again by it, also by later versions. What follows belongs to it for good, in
    this form; more comes in through `RunOptions`, a card's options or a fingerprint, and only
    where it is off its default.

    Args:
        model: With the task's weights in use.
        task: With its data.
        options: As given.
        judge: Name and fingerprint of the judge, where one reads the answers.
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
        **_sampling(model, options),
        **({"judge": judge} if judge else {}),
    }


def decoding_of(model: Model, options: RunOptions) -> Decoding:
    """Return how a model chooses tokens in a run, where a task does not say it.

    Raises:
        CardError: the options ask for what the model does not offer.
    """
    return model.decoding(replace(options.decoding, seed=options.seed))


def _sampling(model: Model, options: RunOptions) -> dict[str, Json]:
    found: dict[str, Json] = {}
    decoding = decoding_of(model, options)
    if decoding.samples or decoding.num_beams:
        found["decoding"] = stable_fields(decoding)
    budget = model.budget()
    if budget.in_order:
        found["batch_size"] = options.batch_size or budget.rows
    return found


def run_folder_path(root: Path, model: Model, identity: Mapping[str, Json]) -> Path:
    """Return `ROOT/MODEL/TASK/SPLIT[-blind][-limitN]-DIGEST`.

    Args:
        root: Folder below which runs are kept.
        model: What answers.
        identity: From `run_identity`.
    """
    return root / run_place(model.card.name, identity)


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def build_manifest(
    model: Model,
    task: Task,
    options: RunOptions,
    identity: Mapping[str, Json],
    run: Mapping[str, Json],
    timing: Mapping[str, Json],
) -> dict[str, Any]:
    """Return the manifest of a run.

    Args:
        model: With the weights that answered.
        task: As it was scored.
        options: As given.
        identity: From `run_identity`.
        run: When it started and finished, and on how many processes.
        timing: Seconds, samples answered, of these from other runs, rate.
    """
    return {
        "schema": SCHEMA,
        "adem_bench_version": adem_bench.__version__,
        "model": {
            "name": model.card.name,
            "fingerprint": model.fingerprint(),
            **model.describe(),
            "card": as_mapping(model.card),
            "card_digest": model.card.digest(),
            **({"card_name": model.card.card_name} if model.card.card_name else {}),
            "training_prompts": dict(model.training_prompts(task.card.kind)),
        },
        "task": {
            "name": task.card.name,
            "kind": task.card.kind,
            "version": task.card.version,
            "split": task.card.split,
            "prompt_format": task.prompt_format,
            "prompt_settings": dict(task.prompt_settings()),
            "data_fingerprint": identity["data"],
            "card": as_mapping(task.card),
            "card_digest": task.card.digest(),
        },
        "options": {
            "limit": options.limit,
            "blind": options.blind,
            "batch_size": options.batch_size or "auto",
            "seed": options.seed,
            **({"decoding": asked} if (asked := stable_fields(options.decoding)) else {}),
            **({"max_failed": options.max_failed} if options.max_failed else {}),
            **({"repeats": options.repeats} if options.repeats > 1 else {}),
            **({"judge": identity["judge"]} if "judge" in identity else {}),
        },
        "decoding": stable_fields(decoding_of(model, options)),
        "identity": dict(identity),
        "run": dict(run),
        "timing": dict(timing),
        "memory": peak_memory(),
        "hardware": hardware(),
        "versions": {**versions(), **getattr(task, "packages", dict)()},
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],  # noqa: PTH119
    }


def spent(model: Model, tokens: Iterable[tuple[int, int] | None]) -> dict[str, Json]:
    """Return the tokens that a server counted, and their cost where the model knows prices.

    Args:
        model: Whose.
        tokens: Of prompt and answer, of each answer; None where they were not counted.
    """
    counted = [pair for pair in tokens if pair]
    if not counted:
        return {}
    prompt, answer = sum(pair[0] for pair in counted), sum(pair[1] for pair in counted)
    cost = model.cost(prompt, answer) if isinstance(model, Priced) else None
    return {"prompt_tokens": prompt, "answer_tokens": answer, "cost": cost}


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that can change an answer."""
    found = {package: _version(package) for package in PACKAGES}
    known = {package: version for package, version in found.items() if version}
    return {"python": platform.python_version(), **known}


@cache
def _version(package: str) -> str | None:
    """Return the version of an installed package: of the one that this process imports."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def hardware() -> dict[str, Json]:
    """Return the machine in words and numbers."""
    gpus: list[Json] = [
        torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
    ]
    return {
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def peak_memory() -> dict[str, Json]:
    """Return this process's peak memory in bytes, on the host and on its GPU."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak: dict[str, Json] = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peak["gpu"] = torch.cuda.max_memory_allocated()
    return peak


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
