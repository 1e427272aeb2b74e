"""`adem-bench train`: train an adapter with a recipe, and what is shown meanwhile."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import (
    NamedPath,
    complete,
    data_root_option,
    log_to_option,
    name_option,
    quantization_option,
    recipe_set_option,
    split_names,
    warn,
)
from adem_bench.cli.watching import quiet_option
from adem_bench.errors import in_shell, printable
from adem_bench.results.progress import OnProgress, Pace, no_progress, run_progress, shown_time

if TYPE_CHECKING:
    from adem_bench.records import Json
    from adem_bench.trainers.loop import StepReport
    from adem_bench.trainers.prepare import Prepared
    from adem_bench.trainers.train import TrainingOutcome

SMOOTHING = 0.98


class TrainingProgress:
    """Watches a training: prints what it works on, then how far it has come."""

    def __init__(self, quiet: bool = False) -> None:
        self.began = False
        """Whether this process was given anything to show: the first one alone is."""
        self._quiet = quiet
        self._total = self._batch = 0
        self._pace = Pace()
        self._first_step = self._skipped = 0
        self._loss: float | None = None
        self._output: Path | None = None
        self._bar: Any = None
        self._task: Any = None

    def begins(self, prepared: Prepared, output: Path, steps_done: int) -> None:
        """Print the facts and start the bar.

        Args:
            prepared: What is trained, and on what.
            output: Where the adapter goes.
            steps_done: Optimizer steps of earlier calls.
        """
        from adem_bench.models.device import name_of
        from adem_bench.trainers.optimizer import peak_learning_rate

        recipe, sampler, dataset = prepared.recipe, prepared.sampler, prepared.dataset
        left_over = sampler.left_over
        warn(prepared.warnings())
        tuned, total = prepared.parameters
        lines = [
            f"recipe {recipe.name} on {prepared.frozen.card.name}, output {output}",
            f"{len(dataset):,} samples, {dataset.with_image:,} with an image; epochs: "
            f"{recipe.epochs}, of {sampler.steps:,} steps; {recipe.effective_batch} samples per "
            f"step ({recipe.batch_size} rows x {sampler.accumulation} accumulated per process)"
            + (f"; {left_over:,} samples left over at the end of each epoch" if left_over else ""),
            f"trainable parameters {tuned:,} of {total:,} ({tuned / total:.3%}); peak learning "
            f"rate {peak_learning_rate(recipe):.4g}; {prepared.frozen.dtype} on "
            f"{name_of(prepared.network.device)}".replace("torch.", ""),
        ]
        lines += [f"continues after step {steps_done:,}"] if steps_done else []
        for line in () if self._quiet else lines:
            click.echo(printable(line))
        self.began = True
        self._output = output
        self._batch = recipe.effective_batch
        self._total, self._first_step = sampler.total_steps, steps_done
        self._pace = Pace()
        if sys.stderr.isatty() and not self._quiet:
            self._start_bar(steps_done)

    def step(self, report: StepReport) -> None:
        """Move the bar, or print a line for every 5% and every 30 seconds."""
        self._skipped += report.skipped
        if not math.isnan(report.loss):
            before = report.loss if self._loss is None else self._loss
            self._loss = SMOOTHING * before + (1 - SMOOTHING) * report.loss
        if self._bar is not None:
            self._bar.update(self._task, completed=report.step, facts=self._facts(report))
        elif not self._quiet and self._pace.is_due(report.step, self._total):
            place = f"step {report.step:,} of {self._total:,} ({report.step / self._total:.0%})"
            left = shown_time((self._total - report.step) / self._pace.rate(self._steps(report)))
            click.echo(f"{place}  {self._facts(report)}  {left} left", err=True)

    def evaluated(self, evaluation: Mapping[str, Json]) -> None:
        """Print an evaluation's figures."""
        figures = ", ".join(
            f"{name} {value:.4f}" for name, value in evaluation.items() if isinstance(value, float)
        )
        line = f"epoch {evaluation['epoch']}: {figures}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line)

    @contextmanager
    def evaluating(self, task: str) -> Iterator[OnProgress]:
        """Yield what shows how far an evaluation has come; nothing below a bar."""
        hidden = self._quiet or self._bar is not None
        with (no_progress if hidden else run_progress)(task) as update:
            yield update

    def interrupted(self) -> str:
        """Return what becomes of a training that ends here."""
        if self._output is None:
            return "interrupted before training began: the same command starts it"
        from adem_bench.trainers.checkpoints import FOLDER

        steps = sorted((self._output / FOLDER).glob("step-*"))
        if not steps:
            return "interrupted before the first checkpoint: the same command starts from step 0"
        done = int(steps[-1].name.removeprefix("step-"))
        return f"interrupted: the same command continues after step {done:,}"

    def warned(self, message: str) -> None:
        """Print a warning, above the bar if there is one."""
        if self._bar is None:
            warn([message])
        else:
            line = printable(f"warning: {message}")
            self._bar.console.print(line, markup=False, highlight=False)

    def _facts(self, report: StepReport) -> str:
        from adem_bench.runner.manifest import peak_memory

        memory = peak_memory()
        used = memory.get("gpu", memory["host"])
        assert isinstance(used, int)
        samples = self._pace.rate(self._steps(report) * self._batch)
        loss = math.nan if self._loss is None else self._loss
        skipped = f"  {self._skipped:,} skipped" if self._skipped else ""
        return (
            f"epoch {report.epoch:.2f}  loss {loss:.4f}  lr {report.learning_rate:.3g}  "
            f"{samples:.1f} samples/s  {used / 2**30:.1f} GiB{skipped}"
        )

    def _steps(self, report: StepReport) -> int:
        """Return how many steps this call has made."""
        return max(report.step - self._first_step, 1)

    def _start_bar(self, steps_done: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=self._total, completed=steps_done, facts="")
        self._bar.start()

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


@click.command()
@click.option(
    "--recipe",
    shell_complete=complete("trainers"),
    required=True,
    metavar="NAME|CARD",
    help="Recipe to train with.",
)
@click.option(
    "--model",
    shell_complete=complete("models"),
    metavar="NAME|CARD",
    help="Model whose frozen parts are used [default: the recipe's].",
)
@data_root_option
@click.option(
    "--output",
    type=NamedPath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write  [default: results/train/MODEL-RECIPE].",
)
@name_option(False, " [default: as --output, else MODEL-RECIPE]")
@click.option(
    "--eval",
    "tasks",
    shell_complete=complete("tasks", several=True),
    metavar="A,B",
    help="Tasks to evaluate on at the end of each epoch; the best adapter is kept too.",
)
@click.option(
    "--results",
    type=NamedPath(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where the final evaluation is kept.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …")
@quantization_option("the recipe's, else the model card's")
@click.option(
    "--overwrite", is_flag=True, help="Start again, removing what a training left in the output."
)
@log_to_option("tensorboard")
@recipe_set_option
@quiet_option
def train(quiet: bool, **given: Any) -> int:
    """Train an adapter with a recipe; run again, the same command continues where it stopped.

    Several processes: torchrun --nproc-per-node 8 -m adem_bench train --recipe sqa …
    """
    from adem_bench.results.console import console
    from adem_bench.results.result_tables import show_result

    tasks = split_names(given.pop("tasks"))
    with TrainingProgress(quiet) as callback:
        try:
            from adem_bench.trainers.prepare import TrainingJob
            from adem_bench.trainers.train import train as train_adapter

            job = TrainingJob(tasks=tasks, **given)
            outcome = train_adapter(job, callback, callback.evaluating)
        except KeyboardInterrupt as stop:
            raise click.Abort(callback.interrupted()) from stop
    if not callback.began:  # another process reports it
        return 0
    for evaluated in outcome.outcomes:
        show_result(evaluated.result, console(), outcome.output.name)
        click.echo()
    if not quiet:
        _report(outcome)
    return 0


def _report(outcome: TrainingOutcome) -> None:
    if outcome.loss is None:
        click.echo(f"{outcome.output}: all {outcome.steps} steps were already done")
    else:
        resumed = f" (continued from step {outcome.resumed_from})" if outcome.resumed_from else ""
        click.echo(f"{outcome.steps} steps done{resumed}, last loss {outcome.loss:.4f}")
    if outcome.loss is not None and math.isnan(outcome.loss):
        warn(["the last loss is not a number: training diverged; lower base_learning_rate"])
    counts = outcome.counts
    if counts.skipped_steps:
        steps = "step" if counts.skipped_steps == 1 else "steps"
        click.echo(f"{counts.skipped_steps} {steps} skipped: a gradient was not finite")
    if counts.unreadable_images:
        named = f": {'; '.join(outcome.unreadable)}" if outcome.unreadable else ""
        more = "; …" if 0 < len(outcome.unreadable) < counts.unreadable_images else ""
        left_out = f"{counts.unreadable_images} samples left out: their image cannot be read"
        click.echo(printable(f"{left_out}{named}{more}"))
    best = outcome.output / "best"
    if best.is_dir():
        click.echo(f"the best evaluation's adapter: {best} (--adapter {in_shell(best)})")
    click.echo(f"wrote {outcome.output}/adapter, model.yaml, log.jsonl, loss.png, manifest.json")
    click.echo(f"`adem-bench run --model {in_shell(outcome.output)} --tasks …` evaluates it")
