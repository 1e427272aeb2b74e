"""`adem-bench train`: make an adapter by a recipe."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import data_root_option, log_to_option, recipe_set_option, warn
from adem_bench.errors import printable

if TYPE_CHECKING:
    from adem_bench.trainers.train import TrainingOutcome


@click.command()
@click.option("--recipe", required=True, metavar="NAME|CARD", help="Recipe to train by.")
@click.option(
    "--model",
    metavar="NAME|CARD",
    help="Model whose frozen parts are used [default: the recipe's].",
)
@data_root_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write  [default: results/train/MODEL-RECIPE].",
)
@click.option(
    "--eval",
    "tasks",
    metavar="A,B",
    help="Tasks to evaluate on at each epoch's end; the best stays.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where the final evaluation is kept.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option(
    "--overwrite", is_flag=True, help="Start anew, removing what a training left in the output."
)
@log_to_option("tensorboard")
@recipe_set_option
def train(**given: Any) -> int:
    """Make an adapter by a recipe; started again, the same command goes on where it stopped.

    Several processes: torchrun --nproc-per-node 8 -m adem_bench train --recipe sqa …
    """
    from adem_bench.cli.training_progress import TrainingProgress
    from adem_bench.results.table import console, show_result

    tasks = tuple(name.strip() for name in (given.pop("tasks") or "").split(",") if name.strip())
    with TrainingProgress() as watcher:
        try:
            from adem_bench.trainers.prepare import TrainingJob
            from adem_bench.trainers.train import train as train_adapter

            outcome = train_adapter(TrainingJob(tasks=tasks, **given), watcher)
        except KeyboardInterrupt as stop:
            raise click.Abort(watcher.interrupted()) from stop
    if not watcher.began:  # another process tells of it
        return 0
    out = console()
    for evaluated in outcome.outcomes:
        show_result(evaluated.result, out, outcome.output.name)
        click.echo()
    _report(outcome)
    return 0


def _report(outcome: TrainingOutcome) -> None:
    if outcome.loss is None:
        click.echo(f"{outcome.output}: all {outcome.steps} steps were done before")
    else:
        resumed = f" (went on from step {outcome.resumed_from})" if outcome.resumed_from else ""
        click.echo(f"{outcome.steps} steps done{resumed}, last loss {outcome.loss:.4f}")
    if outcome.loss is not None and math.isnan(outcome.loss):
        warn(["the last loss is not a number: training diverged; lower base_learning_rate"])
    counts = outcome.counts
    if counts.skipped_steps:
        click.echo(f"{counts.skipped_steps} steps skipped: a gradient was not finite")
    if counts.unreadable_images:
        named = f": {'; '.join(outcome.unreadable)}" if outcome.unreadable else ""
        more = "; …" if 0 < len(outcome.unreadable) < counts.unreadable_images else ""
        left_out = f"{counts.unreadable_images} samples left out: their image cannot be read"
        click.echo(printable(f"{left_out}{named}{more}"))
    best = outcome.output / "best"
    if best.is_dir():
        click.echo(f"the best evaluation's adapter: {best} (--adapter {best})")
    click.echo(f"wrote {outcome.output}/adapter, model.yaml, log.jsonl, loss.png, manifest.json")
    click.echo(f"`adem-bench run --model {outcome.output} --tasks …` evaluates it")
