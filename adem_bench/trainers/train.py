"""A recipe on a model, by their names: what `adem-bench train` does, as a function."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from adem_bench.cards import MODEL_CARD_NAME, expand_tasks
from adem_bench.errors import CardError
from adem_bench.files import write_json
from adem_bench.models.adem.disk.adapter_files import write_adapter
from adem_bench.models.adem.frozen import pick_device
from adem_bench.models.adem.model import AdemModel
from adem_bench.models.base import ModelOptions
from adem_bench.records import Json
from adem_bench.runner.evaluate import evaluate_model, own_device
from adem_bench.runner.identity import RunOptions
from adem_bench.runner.loop import Outcome
from adem_bench.runner.processes import Processes
from adem_bench.schemas import RecipeCard
from adem_bench.tasks.base import Task, build_task
from adem_bench.trainers.checkpoints import Checkpoints, Counts
from adem_bench.trainers.collective import Collective
from adem_bench.trainers.journal import CURVE_NAME, LOG_NAME, Journal, draw_loss_curve, read_log
from adem_bench.trainers.loop import StepReport, Training
from adem_bench.trainers.manifest import training_manifest
from adem_bench.trainers.output import ADAPTER, BEST, Output, training_identity
from adem_bench.trainers.prepare import Prepared, TrainingJob, prepare, read_recipe, shard
from adem_bench.trainers.reading import BatchReader, worker_count

TOKENS_AT_ONCE = {"cpu": 1024}
"""More rows at a time are no faster there, and take memory and padding (benchmarks/README.md)."""


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What a finished training made."""

    output: Path
    """Folder that `--model` takes."""
    steps: int
    """Optimizer steps of the whole training."""
    resumed_from: int
    """Step of the checkpoint that this call went on from; 0 for none."""
    loss: float | None
    """Of the last optimizer step; None if there was nothing left to do."""
    counts: Counts
    evaluations: tuple[Mapping[str, Json], ...]
    """Headline figures of every evaluation."""
    outcomes: tuple[Outcome, ...]
    """The final evaluation."""


class Watcher(Protocol):
    """Whoever wants to be told how training goes; the first process alone has one."""

    def begins(self, prepared: Prepared, output: Path, steps_done: int) -> None:
        """Training is about to begin, or to go on after `steps_done` steps."""
        ...

    def step(self, report: StepReport) -> None:
        """An optimizer step was made."""
        ...

    def evaluated(self, evaluation: Mapping[str, Json]) -> None:
        """An evaluation was made."""
        ...


class Silent:
    """A watcher that says nothing."""

    def begins(self, prepared: Prepared, output: Path, steps_done: int) -> None:
        """Say nothing."""

    def step(self, report: StepReport) -> None:
        """Say nothing."""

    def evaluated(self, evaluation: Mapping[str, Json]) -> None:
        """Say nothing."""


def train(job: TrainingJob, watcher: Watcher | None = None) -> TrainingOutcome:
    """Train an adapter, or go on with a training that was interrupted.

    Args:
        job: What to do.
        watcher: Is told of every step.

    Raises:
        AdemBenchError: a card, the data, the weights, the output or the disk are at fault.
    """
    recipe = read_recipe(job)
    tasks = _tasks(job, recipe)
    processes = Processes()
    device = pick_device(own_device(job.device, processes))
    collective = Collective(processes, device)
    try:
        prepared = prepare(job, recipe, processes, device)
        shard(prepared, collective, device)
        name = f"{prepared.frozen.card.name}-{recipe.name}"
        with Output(job.output or Path("results") / "train" / name) as output:
            run = _Run(job, prepared, tasks, processes, collective, output)
            return run.train(watcher or Silent())
    finally:
        collective.close()


def _tasks(job: TrainingJob, recipe: RecipeCard) -> list[Task]:
    """Return the tasks to evaluate on, their data checked.

    Raises:
        CardError: an unknown task, or a sharded model, which cannot generate.
    """
    if job.tasks and recipe.shard_frozen_weights:
        raise CardError(
            "a model with shard_frozen_weights cannot be evaluated while it trains; leave --eval "
            "out and run `adem-bench run` on the output"
        )
    tasks = [build_task(name, job.data_root) for name in expand_tasks(job.tasks)]
    for task in tasks:
        task.fingerprint()
    return tasks


class _Run:
    """The parts of `train` that share what was prepared."""

    def __init__(
        self,
        job: TrainingJob,
        prepared: Prepared,
        tasks: Sequence[Task],
        processes: Processes,
        collective: Collective,
        output: Output,
    ) -> None:
        self.job, self.prepared, self.tasks = job, prepared, tasks
        self.processes, self.collective, self.output = processes, collective, output
        recipe = prepared.recipe
        self.training = Training(
            prepared.network, prepared.class_token_at, recipe, prepared.plan, collective
        )
        self.checkpoints = Checkpoints(output.path, prepared.settings, recipe.keep_checkpoints)
        self.evaluations: list[Mapping[str, Json]] = []
        self.outcomes: tuple[Outcome, ...] = ()
        self.name = f"{prepared.frozen.card.name}-{recipe.name}"

    def train(self, watcher: Watcher) -> TrainingOutcome:
        done = self._resume()
        clock = time.perf_counter()
        with ExitStack() as stack:
            journal = None
            if self.collective.is_first:
                journal = stack.enter_context(closing(Journal(self.output.path, done)))
                watcher.begins(self.prepared, self.output.path, done)
            # Closed on any error too: it ends the processes that read ahead.
            steps = stack.enter_context(closing(self._steps()))
            loss = self._go(steps, journal, watcher)
        is_new = loss is not None or not (self.output.path / MODEL_CARD_NAME).is_file()
        if self.collective.is_first and is_new:
            self._finish(done, time.perf_counter() - clock)
        self.collective.barrier()
        return TrainingOutcome(
            self.output.path,
            self.prepared.plan.total_steps,
            done,
            loss,
            self.training.counts,
            tuple(self.evaluations),
            self.outcomes,
        )

    def _go(
        self, steps: Iterator[StepReport], journal: Journal | None, watcher: Watcher
    ) -> float | None:
        """Take all steps; return the loss of the last one."""
        loss = None
        self._evaluate_if_due(journal, watcher)
        for report in steps:
            loss = report.loss
            if journal:
                journal.write(report)
                watcher.step(report)
            ends_epoch = report.position.step == 0
            if ends_epoch or report.step % self.prepared.recipe.checkpoint_steps == 0:
                self._save(report.step)
            self._evaluate_if_due(journal, watcher)
        return loss

    def _resume(self) -> int:
        """Claim the output and take up its last checkpoint; return the steps it had done."""
        state = None
        if self.collective.is_first:
            frozen = self.prepared.frozen
            model = {"name": frozen.card.name, "fingerprint": frozen.fingerprint}
            identity = training_identity(self.prepared.recipe, model, self.prepared.data)
            self.output.claim(identity, self.job.overwrite)
            state = self.checkpoints.latest()
        state = self.collective.from_first(state)
        if state is not None:
            self.training.load(state)
            self.evaluations = list(state.evaluations)
        return self.prepared.plan.steps_before(self.training.position)

    def _steps(self) -> Generator[StepReport, None, None]:
        recipe, prepared = self.prepared.recipe, self.prepared
        reader = BatchReader(
            prepared.examples,
            prepared.network.vision.image_size,
            recipe.seed,
            self._tokens_at_once(),
        )
        workers = worker_count(recipe.workers, self.processes.local_world_size)
        return self.training.steps(reader, workers)

    def _tokens_at_once(self) -> int | None:
        recipe = self.prepared.recipe
        if recipe.shard_frozen_weights:
            return None  # all processes must take as many steps
        if recipe.tokens_at_once is not None:
            return recipe.tokens_at_once or None
        return TOKENS_AT_ONCE.get(self.prepared.network.device.type)

    def _save(self, step: int) -> None:
        if self.collective.is_first:
            state = replace(self.training.state(), evaluations=tuple(self.evaluations))
            self.checkpoints.save(state, step)

    def _evaluate_if_due(self, journal: Journal | None, watcher: Watcher) -> None:
        """Evaluate at the end of an epoch, also of one whose evaluation was interrupted."""
        position = self.training.position
        wanted = {f"{task.card.name} {task.card.headline}" for task in self.tasks}
        known = any(
            figures["epoch"] == position.epoch and wanted <= set(figures)
            for figures in self.evaluations
        )
        if not self.tasks or position.step or not position.epoch or known:
            return
        folders = self.checkpoints.folders() if journal else []
        folder = self.collective.from_first(folders[-1] if folders else None)
        assert folder is not None
        figures = self.collective.from_first(self._evaluate(folder))
        self.evaluations.append(figures)
        if journal:
            self.checkpoints.note(folder, self.evaluations)
            journal.write_evaluation(figures)
            watcher.evaluated(figures)

    def _evaluate(self, adapter: Path) -> Mapping[str, Json]:
        """Run the harness with a checkpoint's adapter; keep it if it is the best so far."""
        frozen, position = self.prepared.frozen, self.training.position
        is_last = position.epoch == self.prepared.recipe.epochs
        name = self.name if is_last else f"{self.name}-epoch{position.epoch}"
        card = frozen.card.model_copy(update={"name": name, "adapter": str(adapter.resolve())})
        model = AdemModel(card, ModelOptions(data_root=self.job.data_root), frozen)
        root = self.job.results if is_last else self.output.path / "results"
        outcomes = tuple(evaluate_model(model, self.tasks, RunOptions(), root, self.processes))
        step = self.prepared.plan.steps_before(position)
        figures: dict[str, Json] = {"step": step, "epoch": position.epoch}
        for outcome in outcomes:
            result = outcome.result
            figures[f"{result.task} {result.headline}"] = result.metric(result.headline).value
        if is_last:
            self.outcomes = outcomes
        if outcomes:
            self._keep_best(figures)
        return figures

    def _keep_best(self, figures: Mapping[str, Json]) -> None:
        """Copy the adapter to `best/` if no evaluation's first figure was as high."""
        first = next(name for name in figures if name not in ("step", "epoch"))
        earlier = [_number(figures.get(first)) for figures in self.evaluations]
        if _number(figures[first]) > max(earlier, default=-math.inf):
            folder = self.output.path / BEST
            write_adapter(folder, self.training.state().adapter, self.prepared.settings)
            write_json(folder / "evaluation.json", dict(figures))

    def _finish(self, done: int, seconds: float) -> None:
        """Write the adapter, the curve, the manifest and, last of all, the model card."""
        path, prepared = self.output.path, self.prepared
        write_adapter(path / ADAPTER, self.training.state().adapter, prepared.settings)
        draw_loss_curve(read_log(path / LOG_NAME), path / CURVE_NAME, self.name)
        timing = {"seconds": round(seconds, 3), "resumed_from": done}
        counts = asdict(self.training.counts)
        manifest = training_manifest(prepared, timing, counts, self.processes.world_size)
        write_json(path / "manifest.json", manifest)
        self.output.write_model_card(
            prepared.base, self.name, prepared.frozen.files, prepared.parameters[0]
        )


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else -math.inf
