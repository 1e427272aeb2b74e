"""What the commands do, for Python: `adem_bench.train(...)` and `adem_bench.evaluate(...)`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adem_bench.runner.evaluate import Evaluation
from adem_bench.runner.evaluate import evaluate as evaluate_all
from adem_bench.runner.loop import Outcome
from adem_bench.runner.manifest import RunOptions
from adem_bench.trainers.prepare import TrainingJob
from adem_bench.trainers.train import Callback, TrainingOutcome
from adem_bench.trainers.train import train as train_adapter

__all__ = ["RunOptions", "evaluate", "train"]


def train(
    recipe: str | Path,
    *,
    tasks: Sequence[str] = (),
    settings: dict[str, Any] | None = None,
    callback: Callback | None = None,
    watcher: Callback | None = None,
    **job: Any,
) -> TrainingOutcome:
    """Train an adapter, as `adem-bench train` does.

    Args:
        recipe: Name or path of a recipe card.
        tasks: Tasks to evaluate on at each epoch's end (`--eval`).
        settings: Recipe fields to override, by dotted name (`--set`).
        callback: Notified of every step, evaluation and warning, on the first process only.
        watcher: The former name of `callback`.
        job: `model`, `data_root`, `output`, `results`, `device`, `quantization`, `overwrite`, as
            for `TrainingJob`.

    Returns:
        The output folder, which `evaluate` takes as a model, and the figures.

    Raises:
        AdemBenchError: a card, the data, the weights, the output or the disk are at fault.
    """
    return train_adapter(
        TrainingJob(
            recipe=str(recipe),
            tasks=tuple(tasks),
            overrides=_overrides(settings),
            **{name: _argument(name, value) for name, value in job.items()},
        ),
        callback or watcher,
    )


def evaluate(
    model: str | Path,
    tasks: Sequence[str],
    *,
    settings: dict[str, Any] | None = None,
    options: RunOptions | None = None,
    **evaluation: Any,
) -> list[Outcome]:
    """Evaluate a model on tasks, as `adem-bench run` does.

    Args:
        model: Name or path of a model card, or a folder that `train` made.
        tasks: Names or paths of tasks or groups.
        settings: Card fields to override, by dotted name (`--set`).
        options: Limit, blind, batch size, seed, fresh, repeats.
        evaluation: `data_root`, `results`, `device`, `dtype`, `adapter`,
            `quantization`, `split`, `prompt_format`, as for `Evaluation`.

    Returns:
        One outcome per task; none on any process but the first.

    Raises:
        AdemBenchError: a card, the data, the weights or the disk are at fault.
    """
    return list(
        evaluate_all(
            Evaluation(
                model=str(model),
                tasks=tuple(tasks),
                overrides=_overrides(settings),
                options=options or RunOptions(),
                **{name: _argument(name, value) for name, value in evaluation.items()},
            )
        )
    )


def _overrides(settings: dict[str, Any] | None) -> tuple[str, ...]:
    import json

    # JSON is YAML, which values of `--set` are read as.
    return tuple(f"{name}={json.dumps(value)}" for name, value in (settings or {}).items())


def _argument(name: str, value: Any) -> Any:
    """Return an argument as the type that jobs expect, whether text or a path was given."""
    if value is None:
        return None
    if name in ("data_root", "output", "results"):
        return Path(value)
    return str(value) if isinstance(value, Path) else value
