"""`adem-bench run`: evaluate a model on tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import (
    NumberOr,
    cards_set_option,
    data_root_option,
    decoding_options,
    harness_python_option,
    log_to_option,
    name_option,
    quantization_option,
    split_names,
    split_option,
    warn,
)
from adem_bench.cli.watching import chosen_progress, watching_options
from adem_bench.errors import in_shell, printable

if TYPE_CHECKING:
    from adem_bench.runner.evaluate import Evaluation
    from adem_bench.runner.loop import Outcome

FAILED = 1


@click.command()
@click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    metavar="NAME|CARD",
    help="Model to evaluate; several are evaluated one after the other.",
)
@name_option(True, " [default: the card's]; one for each --model")
@click.option(
    "--tasks",
    required=True,
    metavar="A,B",
    help="Tasks, groups or patterns (mini_*), comma-separated.",
)
@data_root_option
@harness_python_option
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where runs are kept.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="First N samples only.")
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
@log_to_option("none")
@cards_set_option
@watching_options
def run(**given: Any) -> int:
    """Evaluate models on tasks; run again, the same command resumes where it stopped."""
    from adem_bench.results.console import console, show_result, show_results
    from adem_bench.runner.evaluate import evaluate_each

    evaluations, most_failed = _evaluations(given), given["max_failed"]
    outcomes: list[tuple[str, Outcome]] = []
    loggers = given["loggers"]
    out = console()
    quiet = given["quiet"]
    progress = chosen_progress(quiet, given["verbose"])
    for evaluation, outcome in evaluate_each(evaluations, progress):
        scored = bool(outcome.result.metrics)
        label = _label(outcome.folder) if scored else evaluation.name or evaluation.model
        if scored:
            show_result(outcome.result, out, label)
        else:
            click.echo(_answered(label, outcome))
        if outcome.resumed and not quiet:
            click.echo(f"{outcome.resumed} records were already there")
        if outcome.reused and not quiet:
            click.echo(f"{outcome.reused} answers were known from other runs")
        if loggers and scored:
            loggers = _log(outcome, loggers)
        click.echo()
        outcomes.append((label, outcome))
    with_figures = [(label, done.result) for label, done in outcomes if done.result.metrics]
    if len(with_figures) > 1:
        show_results(with_figures, out)
        click.echo()
    for _, outcome in () if quiet else outcomes:
        names = ("samples.jsonl", *(["metrics.json"] if outcome.result.metrics else []))
        click.echo(f"wrote {outcome.folder}/{', '.join(names)}, manifest.json")
    if with_figures and not quiet:
        click.echo(f"`adem-bench leaderboard {in_shell(given['results'])}` tabulates all runs")
    failed = any(outcome.result.failed > most_failed for _, outcome in outcomes)
    return FAILED if failed else 0


def _answered(heading: str, outcome: Outcome) -> str:
    """Return what is said of a run that is to be scored later."""
    result, folder = outcome.result, in_shell(outcome.folder)
    return printable(
        f"{heading}: {result.task}, split {result.split}: {result.scored:,} samples answered, "
        f"{result.failed:,} failed; not scored, `adem-bench score {folder}` does it"
    )


def _label(folder: Path) -> str:
    """Return what the run in a folder is called in tables."""
    from adem_bench.results.runs import finished_runs
    from adem_bench.results.variants import run_labels

    (label,) = run_labels(finished_runs(folder)[0]).values()
    return label


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
    if not tasks:
        raise click.UsageError("--tasks names no task")
    chosen = (
        "limit", "blind", "batch_size", "seed", "fresh", "reuse", "max_failed", "repeats",
        "predict_only",
    )  # fmt: skip
    options = {name: given[name] for name in chosen}
    passed = (
        "data_root", "results", "device", "dtype", "adapter", "quantization", "split",
    )  # fmt: skip
    evaluation = Evaluation(
        model="",
        tasks=tasks,
        prompt_format=given["prompt_format"],
        overrides=(*few_shot, *given["overrides"]),
        options=RunOptions(
            **options,
            decoding=Decoding(temperature=given["temperature"], top_p=given["top_p"]),
        ),
        **{name: given[name] for name in passed},
    )
    models, names = given["models"], given["names"]
    if names and len(names) != len(models):
        raise click.UsageError(
            f"--name is given {len(names)} times and --model {len(models)} times; give one for each"
        )
    if len(set(names)) < len(names):
        raise click.UsageError("--name: a name stands for one model; give each another")
    pairs = dict.fromkeys(zip(models, names or [None] * len(models), strict=True))
    return [replace(evaluation, model=model, name=name) for model, name in pairs]
