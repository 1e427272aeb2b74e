"""A recipe on a model, by their names: what `adem-bench train` does, as a function."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from adem_bench.cards import MODEL_CARD_NAME, expand_tasks
from adem_bench.errors import CardError, CheckpointError, DivergedError, system_errors
from adem_bench.files import write_json
from adem_bench.loggers.base import LoggedRun
from adem_bench.loggers.multi import Loggers, check_loggers
from adem_bench.models.base import ModelOptions
from adem_bench.models.device import pick_device
from adem_bench.models.fused.card import AdapterSource
from adem_bench.models.fused.model import FusedModel
from adem_bench.models.fused.weights.adapter import write_adapter
from adem_bench.records import Json
from adem_bench.results.names import check_name, check_name_is_free, runs_named
from adem_bench.results.progress import no_progress
from adem_bench.results.run_folder import model_folder
from adem_bench.results.run_log import RunLog
from adem_bench.runner.distributed import Processes
from adem_bench.runner.evaluate import Progress, check_evaluation, evaluate_model, task_for
from adem_bench.runner.loop import Outcome
from adem_bench.runner.manifest import RunOptions
from adem_bench.schemas import RecipeCard
from adem_bench.signals import Ending, noted
from adem_bench.tasks.base import Task
from adem_bench.trainers.checkpoints import Checkpoints, Counts, unreadable
from adem_bench.trainers.data_loader import BatchLoader, worker_count
from adem_bench.trainers.distributed import ProcessGroup
from adem_bench.trainers.loop import StepReport, Training
from adem_bench.trainers.output import (
    ADAPTER,
    BEST,
    TRAINED,
    OutputFolder,
    name_of_output,
    training_facts,
    training_identity,
    training_manifest,
)
from adem_bench.trainers.prepare import (
    Prepared,
    TrainingJob,
    base_card,
    outline,
    prepare,
    read_recipe,
    shard,
)
from adem_bench.trainers.training_log import (
    CURVE_NAME,
    LOG_NAME,
    LoggedCallback,
    TrainingLog,
    draw_loss_curve,
    last_logged,
    read_log,
)

TOKENS_AT_ONCE = {"cpu": 1024}
"""There, more tokens at once are not faster, and take memory and padding (benchmarks/README.md)."""

MAX_SKIPPED = 20
"""Steps skipped in a row at which training ends; a loss scale that has to come down from 65,536 to
1 costs 16."""


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
    unreadable: tuple[str, ...]
    """What is wrong with the first few images that this call could not read."""
    evaluations: tuple[Mapping[str, Json], ...]
    """Headline figures of every evaluation."""
    outcomes: tuple[Outcome, ...]
    """The final evaluation."""


class Callback(Protocol):
    """Notified of how training goes; only the first process calls it."""

    def begins(self, prepared: Prepared, output: Path, steps_done: int) -> None:
        """Training is about to begin or to go on.

        Args:
            prepared: What is trained, and on what.
            output: The output folder.
            steps_done: Optimizer steps made before; 0 at a new beginning.
        """
        ...

    def step(self, report: StepReport) -> None:
        """An optimizer step was made."""
        ...

    def evaluated(self, evaluation: Mapping[str, Json]) -> None:
        """An evaluation was made."""
        ...

    def warned(self, message: str) -> None:
        """Something went wrong that does not end the training."""
        ...


class NullCallback:
    """A callback that does nothing."""

    def begins(self, prepared: Prepared, output: Path, steps_done: int) -> None:
        """Do nothing; arguments as for `Callback`."""

    def step(self, report: StepReport) -> None:
        """Do nothing."""

    def evaluated(self, evaluation: Mapping[str, Json]) -> None:
        """Do nothing."""

    def warned(self, message: str) -> None:
        """Leave it to Python's own warnings."""
        warnings.warn(message, stacklevel=2)


def train(
    job: TrainingJob, callback: Callback | None = None, progress: Progress = no_progress
) -> TrainingOutcome:
    """Train an adapter, or go on with a training that was interrupted.

    Args:
        job: What to do.
        callback: Notified of every step, evaluation and warning, on the first process only.
        progress: Of the evaluations, as for `evaluate`.

    Raises:
        AdemBenchError: a card, the data, the weights, the output or the disk are at fault.
        DivergedError: too many steps in a row had gradients that are not finite.
    """
    with system_errors():
        return _train(job, callback or NullCallback(), progress)


def _train(job: TrainingJob, callback: Callback, progress: Progress) -> TrainingOutcome:
    if job.name is not None:
        check_name(job.name)
    recipe = read_recipe(job)
    check_loggers(job.loggers)
    tasks = _tasks(job, recipe)
    processes = Processes()
    device = pick_device(processes.own_device(job.device))
    group = ProcessGroup(processes, device)
    try:
        outlined = outline(job, recipe, processes, device)
        place = job.output or TRAINED / f"{outlined.card.name}-{recipe.name}"
        with OutputFolder(place) as output:
            if output.is_new(job.overwrite) and group.is_main_process:
                _check_name(job, place, callback)
            if group.is_main_process:
                identity = training_identity(recipe, outlined.model, outlined.data)
                output.claim(identity, job.overwrite)
            prepared = prepare(job, outlined, processes, device)
            shard(prepared, group, device)
            run = _TrainingRun(job, prepared, tasks, processes, group, output)
            run.progress = progress
            return run.train(callback)
    finally:
        group.close()


def _check_name(job: TrainingJob, output: Path, callback: Callback) -> None:
    """Refuse a name that another model has; say so where it is only that of the output.

    Raises:
        ResultsError: the name was given, and another model has it.
    """
    if job.name is not None:
        check_name_is_free(job.results, job.name)
        return
    name = name_of_output(output)
    if runs_named(job.results, name):
        callback.warned(
            f"{model_folder(job.results, name)} has runs of an earlier training called {name}; "
            "tables will tell the two apart by their fingerprints, --name by a name"
        )


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
    card, names = base_card(recipe), expand_tasks(job.tasks)
    check_evaluation(card, names)
    tasks = [task_for(card, name, job.data_root) for name in names]
    for task in tasks:
        task.fingerprint()
    return tasks


class _TrainingRun:
    """The parts of `train` that share what was prepared."""

    def __init__(
        self,
        job: TrainingJob,
        prepared: Prepared,
        tasks: Sequence[Task],
        processes: Processes,
        group: ProcessGroup,
        output: OutputFolder,
    ) -> None:
        self.job, self.prepared, self.tasks = job, prepared, tasks
        self.processes, self.group, self.output = processes, group, output
        recipe = prepared.recipe
        self.training = Training(
            prepared.network, prepared.image_tokens_at, recipe, prepared.sampler, group
        )
        self.checkpoints = Checkpoints(output.path, prepared.settings, recipe.keep_checkpoints)
        self.evaluations: list[Mapping[str, Json]] = []
        self.outcomes: tuple[Outcome, ...] = ()
        self.progress: Progress = no_progress
        self.name = job.name or name_of_output(output.path)

    def train(self, callback: Callback) -> TrainingOutcome:
        with self._run_log() as log:
            if self.group.is_main_process:
                callback = LoggedCallback(callback, log)
            return self._train(callback)

    def _run_log(self) -> RunLog:
        recipe, frozen = self.prepared.recipe, self.prepared.frozen
        about = f"recipe {recipe.name} on model {frozen.card.name} ({frozen.fingerprint})"
        processes = self.processes
        return RunLog(self.output.path, about, processes.rank, processes.world_size)

    def _train(self, callback: Callback) -> TrainingOutcome:
        done = self._resume()
        clock = time.perf_counter()
        # Loggers close last: what they still have to send may take long, or be interrupted.
        with closing(self._loggers(done, callback)) as loggers:
            with ExitStack() as stack:
                log = None
                if self.group.is_main_process:
                    log = TrainingLog(self.output.path, done, loggers)
                    stack.enter_context(closing(log))
                    callback.begins(self.prepared, self.output.path, done)
                # Closed on any error too: it ends the processes that load ahead.
                steps = stack.enter_context(closing(self._steps()))
                loss = self._go(steps, log, callback)
            is_new = loss is not None or not (self.output.path / MODEL_CARD_NAME).is_file()
            if self.group.is_main_process and is_new:
                self._finish(done, time.perf_counter() - clock)
            elif self.group.is_main_process and self.job.name:
                self._write_card()
            self.group.barrier()
        return TrainingOutcome(
            self.output.path,
            self.prepared.sampler.total_steps,
            done,
            loss,
            self.training.counts,
            tuple(self.training.unreadable),
            tuple(self.evaluations),
            self.outcomes,
        )

    def _loggers(self, done: int, callback: Callback) -> Loggers:
        """Return the loggers that the job names."""
        path = self.output.path
        facts = training_facts(self.prepared, self.processes.world_size)
        logged = last_logged(read_log(path / LOG_NAME))
        run = LoggedRun(path, self.name, facts, done, logged)
        return Loggers(self.job.loggers, run, callback.warned)

    def _go(
        self, steps: Iterator[StepReport], log: TrainingLog | None, callback: Callback
    ) -> float | None:
        """Take all steps; return the loss of the last one.

        Raises:
            DivergedError: no step can be made any more.
        """
        with noted() as ending:
            self.training.is_asked_to_end = lambda: bool(ending.asked)
            return self._take(steps, ending, log, callback)

    def _take(
        self,
        steps: Iterator[StepReport],
        ending: Ending,
        log: TrainingLog | None,
        callback: Callback,
    ) -> float | None:
        """Take all steps, or those up to the one by which a process is asked to end.

        Args:
            steps: What is left.
            ending: Says whether this process was asked to.
            log: Of the first process.
            callback: Notified of every step.

        Raises:
            DivergedError: no step can be made any more.
            KeyboardInterrupt: a process was asked to end; there is a checkpoint.
        """
        loss, skipped = None, 0
        self._evaluate_if_due(ending, log, callback)
        for report in steps:
            loss = report.loss
            if log:
                log.write(report)
                callback.step(report)
            skipped = skipped + 1 if report.skipped else 0
            if skipped == MAX_SKIPPED:
                raise self._diverged(report.step - skipped, skipped)
            ends_epoch = report.position.step == 0
            is_due = report.step % self.prepared.recipe.checkpoint_steps == 0
            # Weights that perhaps no step can be made from do not push good ones out.
            if ends_epoch or ((is_due or self.training.ends) and not report.skipped):
                self._save(report.step, drop=not report.skipped)
            if self.training.ends:
                raise KeyboardInterrupt(ending.asked or "a signal to another process")
            self._evaluate_if_due(ending, log, callback)
        if skipped and self.training.counts.skipped_steps >= self.prepared.sampler.total_steps:
            raise self._diverged(0, skipped)
        return loss

    def _diverged(self, last_step: int, skipped: int) -> DivergedError:
        """Return the error of a training that made no step after `last_step`, and skipped some."""
        good = self.checkpoints.folder_until(last_step)
        kept = f"; the checkpoint {good} is from before that" if good else ""
        return DivergedError(
            f"training diverged: {skipped} steps in a row were skipped because a gradient was "
            f"not finite{kept}; lower base_learning_rate, or try --set max_grad_norm=1, with "
            "another --output"
        )

    def _resume(self) -> int:
        """Take up the output's last checkpoint; return the steps it had done."""
        state = self.checkpoints.latest() if self.group.is_main_process else None
        state = self.group.broadcast(state)
        if state is not None:
            try:
                self.training.load(state)
            except CheckpointError as error:
                raise unreadable(self.checkpoints.folders()[-1], error) from error
            self.evaluations = list(state.evaluations)
        return self.prepared.sampler.steps_before(self.training.position)

    def _steps(self) -> Generator[StepReport, None, None]:
        recipe, prepared = self.prepared.recipe, self.prepared
        loader = BatchLoader(
            prepared.dataset,
            prepared.network.vision.image_size,
            recipe.seed,
            self._tokens_at_once(),
        )
        workers = worker_count(recipe.workers, self.processes.local_world_size)
        return self.training.steps(loader, workers)

    def _tokens_at_once(self) -> int | None:
        recipe, prepared = self.prepared.recipe, self.prepared
        if recipe.shard_frozen_weights or prepared.network.method.depends_on_batch:
            return None  # all processes must take as many steps; parts would be other batches
        if recipe.tokens_at_once is not None:
            return recipe.tokens_at_once or None
        return TOKENS_AT_ONCE.get(self.prepared.network.device.type)

    def _save(self, step: int, drop: bool) -> None:
        if self.group.is_main_process:
            state = replace(self.training.state(), evaluations=tuple(self.evaluations))
            self.checkpoints.save(state, step, drop)

    def _evaluate_if_due(self, ending: Ending, log: TrainingLog | None, callback: Callback) -> None:
        """Evaluate at the end of an epoch, also of one whose evaluation was interrupted."""
        position = self.training.position
        headlines = {f"{task.card.name} {task.card.headline}" for task in self.tasks}
        is_known = any(
            figures["epoch"] == position.epoch and headlines <= set(figures)
            for figures in self.evaluations
        )
        if not self.tasks or position.step or not position.epoch or is_known:
            return
        folders = self.checkpoints.folders() if log else []
        checkpoint = self.group.broadcast(folders[-1] if folders else None)
        assert checkpoint is not None
        adapter = self._adapter_to_evaluate(checkpoint)
        ending.at_once = True  # runs keep what they have, and the checkpoint is there
        figures = self.group.broadcast(self._evaluate(adapter))
        ending.at_once = False
        self.evaluations.append(figures)
        if log:
            self.checkpoints.note(checkpoint, self.evaluations)
            log.write_evaluation(figures)
            callback.evaluated(figures)

    def _adapter_to_evaluate(self, checkpoint: Path) -> Path:
        """Return the checkpoint, or, after the last epoch, the same as the final adapter."""
        if self.training.position.epoch < self.prepared.recipe.epochs:
            return checkpoint
        if self.group.is_main_process:
            self._write_adapter()
        self.group.barrier()
        return self.output.path / ADAPTER

    def _evaluate(self, adapter: Path) -> Mapping[str, Json]:
        """Run the harness with an adapter; keep it if it is the best so far."""
        frozen, position = self.prepared.frozen, self.training.position
        is_last = position.epoch == self.prepared.recipe.epochs
        name = self.name if is_last else f"{self.name}-epoch{position.epoch}"
        # As the output's card says: one that names its adapter, not one of whom another is asked.
        adapters = {"default": AdapterSource(path=str(adapter.resolve()))}
        changed = {"name": name, "adapters": adapters, "adapter": "", "prompts": {}}
        card = frozen.card.model_copy(update=changed)
        model = FusedModel(card, ModelOptions(data_root=self.job.data_root), frozen)
        root = self.job.results if is_last else self.output.path / "results"
        # No other run has these weights: what they answer is not worth keeping.
        options = RunOptions(reuse=False)
        outcomes = tuple(
            evaluate_model(model, self.tasks, options, root, self.processes, self.progress)
        )
        step = self.prepared.sampler.steps_before(position)
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
        self._write_adapter()
        draw_loss_curve(read_log(path / LOG_NAME), path / CURVE_NAME, self.name)
        timing = {"seconds": round(seconds, 3), "resumed_from": done}
        counts = asdict(self.training.counts)
        manifest = training_manifest(prepared, timing, counts, self.processes.world_size)
        write_json(path / "manifest.json", manifest)
        self._write_card()

    def _write_card(self) -> None:
        prepared = self.prepared
        # The adapter belongs to weights as they were kept here.
        trained = {name: getattr(prepared.frozen.card, name) for name in ("fusion", "quantization")}
        base = prepared.base.model_copy(update=trained)
        self.output.write_model_card(base, self.name, prepared.frozen.files, prepared.parameters[0])

    def _write_adapter(self) -> None:
        adapter = self.training.state().adapter
        write_adapter(self.output.path / ADAPTER, adapter, self.prepared.settings)


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else -math.inf
