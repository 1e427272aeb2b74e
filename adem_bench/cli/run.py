"""`adem-bench run`: evaluate a model on tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from adem_bench.cli.dry_run import show_dry_run
from adem_bench.cli.options import (
    NamedPath,
    NumberOr,
    Part,
    Samples,
    cards_set_option,
    complete,
    data_root_option,
    decoding_options,
    format_option,
    harness_python_option,
    judge_option,
    log_to_option,
    name_option,
    quantization_option,
    split_names,
    split_option,
    warn,
)
from adem_bench.cli.run_file import ONLY, read_run_file
from adem_bench.cli.run_output import run_output
from adem_bench.cli.watching import chosen_progress, watching_options

if TYPE_CHECKING:
    from adem_bench.runner.evaluate import Evaluation
    from adem_bench.runner.loop import Outcome

FAILED = 1


@click.command()
@click.option(
    "--model",
    "models",
    shell_complete=complete("models"),
    multiple=True,
    metavar="NAME|CARD",
    help="Model to evaluate, or a pattern (adem-*); several are evaluated one after the other.",
)
@name_option(True, " [default: the card's]; one for each --model")
@click.option(
    "--tasks",
    shell_complete=complete("tasks", several=True),
    metavar="A,B",
    help="Tasks, groups or patterns (mini_*), comma-separated.",
)
@data_root_option
@harness_python_option
@click.option(
    "--results",
    type=NamedPath(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where runs are kept.",
)
@click.option("--limit", type=Samples(), metavar="N", help="First N samples only.")
@split_option
@click.option(
    "--batch-size",
    type=NumberOr("auto", least=1),
    metavar="N|auto",
    default="auto",
    help="Requests answered together [default: auto].",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
    help="Precision of the frozen weights [default: the card's].",
)
@quantization_option("the card's")
@click.option(
    "--prompt-format", metavar="F", help="A format of the task, or `matched`: the weights' own."
)
@click.option(
    "--num-fewshot",
    type=click.IntRange(0, 64),
    metavar="N",
    help="Examples of the task's train split before each question, drawn by --seed "
    "[default: the card's, else 0].",
)
@click.option("--adapter", metavar="PATH", help="Adapter to use; `none`: the plain language model.")
@click.option("--blind", is_flag=True, help="Withhold every image from the model.")
@decoding_options
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of models that draw tokens."
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="K",
    help="Ask every sample K times; figures are means, with pass@K, majority vote and agreement.",
)
@click.option(
    "--predict-only",
    is_flag=True,
    help="Keep the answers, also in the benchmark's own format, and leave the scoring to "
    "`adem-bench score RUN`.",
)
@judge_option("")
@click.option("--fresh", is_flag=True, help="Discard earlier records and ask everything anew.")
@click.option(
    "--reuse/--no-reuse",
    default=True,
    show_default=True,
    help="Use the answers of other runs in the same folder to the same questions.",
)
@click.option(
    "--max-failed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Failed samples per task up to which the exit code stays 0 and the run has a rank.",
)
@click.option(
    "--config",
    type=NamedPath(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Run file in YAML: models, tasks and settings; options given here go before it.",
)
@click.option("--skip-missing", is_flag=True, help="Leave out tasks whose data is not on disk.")
@click.option(
    "--part",
    type=Part(),
    metavar="K/N",
    help="Do the K-th of N parts of all models, settings and tasks: for arrays of jobs.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show a prompt of each task, what is on disk, and estimates; load and write nothing.",
)
@format_option("text", "json")
@log_to_option("none")
@cards_set_option
@watching_options
def run(**given: Any) -> int:
    """Evaluate models on tasks; run again, the same command resumes where it stopped.

    Exit codes: 0 done, 1 more failed samples than --max-failed, 2 a mistake in the call, the data
    or the weights, 3 interrupted.
    """
    from adem_bench.runner.evaluate import evaluate_prepared, prepare_all

    calls = _calls(given)
    common = calls[0]
    evaluations = list(dict.fromkeys(one for call in calls for one in _evaluations(call)))
    if given["part"]:
        evaluations = _part(evaluations, given["part"])
    if given["dry_run"]:
        return show_dry_run(evaluations, common["skip_missing"], given["form"])
    prepared, skipped = prepare_all(evaluations, common["skip_missing"])
    warn(f"skipped {reason}" for reason in skipped)
    progress = chosen_progress(common["quiet"], common["verbose"])
    output = run_output(given["form"], common["quiet"], common["results"])
    loggers, failed = common["loggers"], False
    for evaluation, outcome in evaluate_prepared(prepared, progress):
        output.add(evaluation, outcome)
        if loggers and outcome.result.metrics:
            loggers = _log(outcome, loggers)
        failed = failed or outcome.result.failed > evaluation.options.max_failed
    output.end()
    return FAILED if failed else 0


def _calls(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of every call that a run file stands for; of none, the given ones."""
    if given["config"] is None:
        return [given]
    context = click.get_current_context()
    typed = [
        name for name in given if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    return read_run_file(given["config"], context.command, given, typed)


def evaluations_of_file(path: Path) -> tuple[list[Evaluation], dict[str, Any]]:
    """Return what a run file asks for, as far as the file alone says it, for programs.

    Args:
        path: The file.

    Returns:
        The evaluations, and the parameters of the command that are the same for all.

    Raises:
        CardError: it cannot be read, or a key or a value is wrong; file and place are named.
    """
    from adem_bench.errors import CardError

    with run.make_context("run", []) as context:
        calls = read_run_file(path, run, {**context.params, "config": path}, [])
        try:
            evaluations = dict.fromkeys(one for call in calls for one in _evaluations(call))
        except click.UsageError as error:
            raise CardError(f"{path}: {error.format_message()}") from error
    return list(evaluations), calls[0]


def _matching(models: Sequence[str]) -> list[str]:
    """Return models with patterns expanded; what matches nothing stays, to be reported with all."""
    from adem_bench.cards import matching_names
    from adem_bench.errors import CardError

    found: list[str] = []
    for model in models:
        try:
            found += matching_names("models", [model])
        except CardError:
            found.append(model)
    return found


def _expanded(tasks: Sequence[str]) -> tuple[str, ...]:
    """Return tasks with groups expanded; unknown names stay, to be reported with all."""
    from adem_bench.cards import expand_tasks
    from adem_bench.errors import CardError

    try:
        return tuple(expand_tasks(tasks))
    except CardError:
        return tuple(tasks)


def _part(evaluations: Sequence[Evaluation], part: tuple[int, int]) -> list[Evaluation]:
    """Return a share of all evaluations' tasks: as many as every other, and in a row."""
    number, parts = part
    cells = [
        (each, name)
        for each in evaluations
        for name in _expanded(each.tasks)
        if each.only is None or name in each.only
    ]
    mine = cells[len(cells) * (number - 1) // parts : len(cells) * number // parts]
    if not mine:
        warn([f"part {number} of {parts} has nothing to do: there are {len(cells)} runs"])
    shares: dict[Evaluation, list[str]] = {}
    for each, name in mine:
        shares.setdefault(each, []).append(name)
    return [replace(each, only=tuple(names)) for each, names in shares.items()]


def _log(outcome: Outcome, loggers: Sequence[str]) -> Sequence[str]:
    """Log a run; return the loggers that are good for another one."""
    from adem_bench.results.log_run import log_run

    return log_run(outcome.folder, outcome.result, loggers, lambda warning: warn([warning]))


def _evaluations(given: dict[str, Any]) -> list[Evaluation]:
    """Return what is to be done: one evaluation for each model, in order, none twice."""
    from adem_bench.records import Decoding
    from adem_bench.runner.evaluate import Evaluation
    from adem_bench.runner.manifest import RunOptions
    from adem_bench.runner.settings import few_shot_settings

    few_shot = few_shot_settings(given["num_fewshot"], given["seed"])
    tasks = split_names(given["tasks"])
    for names, option in ((given["models"], "--model"), (tasks, "--tasks")):
        if not names:
            where = " in the run file" if given["config"] else ", or --config a run file"
            raise click.UsageError(f"name something to run: {option}{where}")
    chosen = (
        "limit", "blind", "batch_size", "seed", "fresh", "reuse", "max_failed", "repeats",
        "predict_only", "judge",
    )  # fmt: skip
    options = {name: given[name] for name in chosen}
    passed = (
        "data_root", "results", "device", "dtype", "adapter", "quantization", "split",
    )  # fmt: skip
    only = split_names(given.get(ONLY))
    evaluation = Evaluation(
        model="",
        tasks=tasks,
        only=_expanded(only) if only else None,
        prompt_format=given["prompt_format"],
        overrides=(*few_shot, *given["overrides"]),
        options=RunOptions(
            **options,
            decoding=Decoding(temperature=given["temperature"], top_p=given["top_p"]),
        ),
        **{name: given[name] for name in passed},
    )
    names = given["names"]
    models = given["models"] if names else _matching(given["models"])
    if names and len(names) != len(models):
        raise click.UsageError(
            f"--name is given {len(names)} times and --model {len(models)} times; give one for each"
        )
    if len(set(names)) < len(names):
        raise click.UsageError("--name: a name stands for one model; give each another")
    pairs = dict.fromkeys(zip(models, names or [None] * len(models), strict=True))
    return [replace(evaluation, model=model, name=name) for model, name in pairs]
