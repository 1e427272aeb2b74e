"""What the commands do, for Python: `adem_bench.train(...)` and `adem_bench.evaluate(...)`."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from math import inf
from pathlib import Path
from typing import Any, Never

from adem_bench.errors import nearest_hint, system_errors
from adem_bench.files import expand_home
from adem_bench.records import Decoding
from adem_bench.results.progress import no_progress, run_progress
from adem_bench.runner.evaluate import Evaluation, evaluate_prepared, prepare_all
from adem_bench.runner.evaluate import evaluate as evaluate_all
from adem_bench.runner.manifest import RunOptions
from adem_bench.runner.outcome import Outcomes
from adem_bench.runner.settings import few_shot_settings
from adem_bench.trainers.prepare import TrainingJob
from adem_bench.trainers.train import Callback, TrainingOutcome
from adem_bench.trainers.train import train as train_adapter

__all__ = ["RunOptions", "evaluate", "run_file", "train"]

LEAST = {
    "limit": 1, "batch_size": 1, "repeats": 1, "num_fewshot": 0, "max_failed": 0, "temperature": 0,
}  # fmt: skip
"""The least value of keywords that are numbers."""
SWITCHES = ("blind", "fresh", "reuse", "predict_only", "progress")
"""Keywords that are true or false."""


def train(  # noqa: PLR0913 - one for each option of the command
    recipe: str | Path,
    *,
    model: str | Path | None = None,
    tasks: str | Path | Sequence[str | Path] = (),
    data_root: str | Path | None = None,
    output: str | Path | None = None,
    results: str | Path = "results",
    device: str = "auto",
    quantization: str | None = None,
    overwrite: bool = False,
    name: str | None = None,
    loggers: str | Sequence[str] = ("tensorboard",),
    settings: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    watcher: Callback | None = None,
    **unknown: Never,
) -> TrainingOutcome:
    """Train an adapter, as `adem-bench train` does.

    Args:
        recipe: Name or path of a recipe card.
        model: Name or path of the model card whose frozen parts are used; None: the recipe's.
        tasks: Tasks to evaluate on at each epoch's end (`--eval`); a text is one.
        data_root: Folder with data sets and `weights/`; None: `$ADEM_BENCH_DATA`, else `./data`.
        output: Folder to write; None: `results/train/MODEL-RECIPE`.
        results: Where the final evaluation's runs are kept.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        quantization: Of the frozen weights; None leaves it to the recipe.
        overwrite: Whether to start from scratch, removing what a training left in the output.
        name: What the adapter is called in tables; None: the output's name.
        loggers: Where scalars go besides the log: `tensorboard`, `wandb`, `mlflow`.
        settings: Recipe fields to override, by dotted name (`--set`).
        callback: Notified of every step, evaluation and warning, on the first process only.
        watcher: The former name of `callback`.
        unknown: Nothing: another keyword is an error that names the nearest.

    Returns:
        The output folder, which `evaluate` takes as a model, and the figures.

    Raises:
        AdemBenchError: a card, the data, the weights, the output or the disk are at fault.
        TypeError: there is no such keyword.
    """
    _check_keywords(train, unknown)
    job = TrainingJob(
        recipe=str(recipe),
        model=_text(model),
        data_root=_path(data_root),
        output=_path(output),
        results=expand_home(results),
        tasks=_names("tasks", tasks),
        device=device,
        overrides=_overrides(settings),
        quantization=quantization,
        overwrite=overwrite,
        name=name,
        loggers=_names("loggers", loggers),
    )
    return train_adapter(job, callback or watcher)


def evaluate(  # noqa: PLR0913 - one for each option of the command
    model: str | Path,
    tasks: str | Path | Sequence[str | Path],
    *,
    limit: int | None = None,
    blind: bool = False,
    split: str | None = None,
    prompt_format: str | None = None,
    num_fewshot: int | None = None,
    adapter: str | Path | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    results: str | Path = "results",
    batch_size: int | None = None,
    seed: int = 0,
    repeats: int = 1,
    temperature: float | None = None,
    top_p: float | None = None,
    fresh: bool = False,
    reuse: bool = True,
    max_failed: int = 0,
    predict_only: bool = False,
    judge: str | Path | None = None,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    options: RunOptions | None = None,
    progress: bool = False,
    **unknown: Never,
) -> Outcomes:
    """Evaluate a model on tasks, as `adem-bench run` does.

    Args:
        model: Name or path of a model card, or a folder that `train` made.
        tasks: Names or paths of tasks or groups; a text is one.
        limit: First samples only, so many; the result is then marked as a subset.
        blind: Whether images are withheld from the model.
        split: Replaces the split of the tasks' cards.
        prompt_format: A format of the tasks, or `matched`: the weights' own.
        num_fewshot: Examples of the train split before each question; None leaves it to the cards.
        adapter: Adapter to use; `none`: the plain language model; None leaves it to the card.
        dtype: Precision of the frozen weights; None leaves it to the card.
        quantization: How the frozen weights are kept; None leaves it to the card.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        data_root: Folder with data sets and `weights/`; None: `$ADEM_BENCH_DATA`, else `./data`.
        results: Where runs are kept.
        batch_size: Requests answered together; None lets the model's budget decide.
        seed: Of models that draw tokens.
        repeats: How often every sample is asked.
        temperature: At which tokens are drawn; 0: the most probable; None leaves it to the card.
        top_p: Share of the probability to draw from, above 0; None leaves it to the card.
        fresh: Whether earlier records of the same run are thrown away.
        reuse: Whether answers of other runs in the same folder are used.
        max_failed: Failed samples up to which the result still has a rank.
        predict_only: Whether answers are kept and not scored.
        judge: Name or path of the model card that reads the answers, of tasks that ask a judge.
        name: What the model is called in tables; None: as its card says.
        settings: Card fields to override, by dotted name (`--set`).
        options: Several of these at once, as `RunOptions`; the others then stay as they are.
        progress: Whether to show on standard error how far each task has come.
        unknown: Nothing: another keyword is an error that names the nearest.

    Returns:
        One outcome per task, in a list that has `metric`, `records` and `to_frame` itself; empty on
        any process but the first.

    Raises:
        AdemBenchError: a card, the data, the weights or the disk are at fault.
        TypeError: there is no such keyword, or `options` is given with one that it has.
        ValueError: a keyword's value is out of its range.
    """
    given = {**locals(), "judge": _text(judge)}
    _check_keywords(evaluate, unknown)
    _check_values(given)
    evaluation = Evaluation(
        model=str(model),
        tasks=_names("tasks", tasks),
        data_root=_path(data_root),
        results=expand_home(results),
        device=device,
        dtype=dtype,
        adapter=_text(adapter),
        quantization=quantization,
        split=split,
        prompt_format=prompt_format,
        name=name,
        overrides=(*few_shot_settings(num_fewshot, seed), *_overrides(settings)),
        options=_options(given),
    )
    with system_errors():
        return Outcomes(evaluate_all(evaluation, run_progress if progress else no_progress))


def run_file(path: str | Path, *, progress: bool = False) -> Outcomes:
    """Do what a run file says, as `adem-bench run --config` does; see docs/run-files.md.

    Tasks that its `skip-missing` leaves out are warned of; `quiet`, `verbose` and `log-to` are for
    the command line and do nothing here.

    Args:
        path: The file, in YAML.
        progress: Whether to show on standard error how far each task has come.

    Returns:
        One outcome per model, setting and task, in the order in which the command runs them; empty
        on any process but the first.

    Raises:
        AdemBenchError: the file, a card, the data, the weights or the disk are at fault; several
            problems are raised together, before anything is loaded.
    """
    # Its keys are the command's options, which no other function needs.
    from adem_bench.cli.run import evaluations_of_file

    with system_errors():
        evaluations, common = evaluations_of_file(expand_home(path))
        prepared, skipped = prepare_all(evaluations, common["skip_missing"])
        for reason in skipped:
            warnings.warn(f"skipped {reason}", stacklevel=2)
        shown = run_progress if progress else no_progress
        return Outcomes(outcome for _, outcome in evaluate_prepared(prepared, shown))


def _options(given: Mapping[str, Any]) -> RunOptions:
    """Return how tasks are run, from the keywords of `evaluate`."""
    names = [field.name for field in fields(RunOptions) if field.name in given]
    decoding = Decoding(temperature=given["temperature"], top_p=given["top_p"])
    said = replace(RunOptions(**{name: given[name] for name in names}), decoding=decoding)
    options: RunOptions | None = given["options"]
    if options is None:
        return said
    both = [name for name in names if getattr(said, name) != getattr(RunOptions(), name)]
    both += ["temperature or top_p"] if said.decoding != Decoding() else []
    if both:
        raise TypeError(
            f"evaluate() got {both[0]} as a keyword and options too; put it into the options, or "
            "leave these out"
        )
    return options


def _check_keywords(function: Callable[..., Any], unknown: Mapping[str, Any]) -> None:
    for name in unknown:
        known = [key for key in inspect.signature(function).parameters if key != "unknown"]
        raise TypeError(
            f"{function.__name__}() got an unexpected keyword argument {name!r}"
            f"{nearest_hint(name, known, f'help(adem_bench.{function.__name__})')}"
        )


def _check_values(given: Mapping[str, Any]) -> None:
    if not _names("tasks", given["tasks"]):
        raise ValueError("tasks is empty; name one, or several in a list")
    for name in SWITCHES:
        if not isinstance(given[name], bool):
            raise ValueError(f"{name}={given[name]!r}: expected True or False")
    for name, least in LEAST.items():
        value = given[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = name == "temperature" or isinstance(value, int)
        if value is not None and not (is_number and whole and least <= value < inf):
            what = "number" if name == "temperature" else "whole number"
            raise ValueError(f"{name}={value!r}: expected a {what} of at least {least}")
    share = given["top_p"]
    if share is not None and not (isinstance(share, int | float) and 0 < share <= 1):
        raise ValueError(f"top_p={share!r}: expected a share above 0, at most 1")


def _overrides(settings: Mapping[str, Any] | None) -> tuple[str, ...]:
    # JSON is YAML, which values of `--set` are read as.
    return tuple(f"{name}={json.dumps(value)}" for name, value in (settings or {}).items())


def _names(keyword: str, given: object) -> tuple[str, ...]:
    """Return the names that a keyword was given; a text is one.

    Raises:
        TypeError: it was given something else.
    """
    names = (given,) if isinstance(given, str | Path) else given
    if isinstance(names, Iterable) and not isinstance(names, bytes):
        found = tuple(names)
        if all(isinstance(name, str | Path) for name in found):
            return tuple(map(str, found))
    raise TypeError(f"{keyword} must be a name or several, not {given!r}")


def _text(given: str | Path | None) -> str | None:
    return None if given is None else str(given)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else expand_home(given)
