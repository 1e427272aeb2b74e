"""What training leaves for people to watch: logs of steps and of events, scalars, a curve."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adem_bench.files import disk_error, finite, is_deep, write_atomically
from adem_bench.loggers.base import Logger
from adem_bench.records import Json
from adem_bench.results.progress import Pace, shown_rate, shown_time
from adem_bench.results.run_log import RunLog
from adem_bench.runner.manifest import peak_memory
from adem_bench.trainers.loop import StepReport

if TYPE_CHECKING:
    from adem_bench.trainers.prepare import Prepared
    from adem_bench.trainers.train import Callback

LOG_NAME, CURVE_NAME = "log.jsonl", "loss.png"
SCALARS = ("loss", "learning_rate", "grad_norm", "scale", "samples_per_second")
SMOOTHED_OVER = 0.02
"""Share of all steps that the curve's bold line averages over."""
MOST_STEPS = 1 << 53
"""That a log is believed: whole numbers above are not drawn as what they are."""


class TrainingLog:
    """The log of one output folder, written by the first process."""

    def __init__(self, output: Path, steps_done: int, logger: Logger) -> None:
        """Go on after `steps_done` optimizer steps; lines of later ones are dropped.

        Args:
            output: The folder.
            steps_done: Optimizer steps.
            logger: Is given the scalars; whoever made it closes it.

        Raises:
            ResultsError: the folder cannot be written.
        """
        self._path = output / LOG_NAME
        kept = [line for line in read_log(self._path) if line["step"] <= steps_done]
        write_atomically(self._path, "".join(map(_line, kept)))
        self._stream = self._path.open("a", encoding="utf-8")
        self._logger = logger

    def write(self, report: StepReport) -> None:
        """Add one optimizer step.

        Raises:
            ResultsError: no space is left.
        """
        line = asdict(report) | {"memory": peak_memory()}
        self._append(line)
        self._logger.log(report.step, {name: line[name] for name in SCALARS})

    def write_evaluation(self, evaluation: Mapping[str, Json]) -> None:
        """Add the figures of an evaluation: `step`, `epoch` and a value for each headline."""
        self._append(evaluation)
        step = evaluation["step"]
        assert isinstance(step, int)
        self._logger.log(step, _figures(evaluation))

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            self._stream.write(_line(line))
            self._stream.flush()
        except OSError as error:
            raise disk_error(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # which the line that was not written has told
            self._stream.close()


class LoggedCallback:
    """Writes what a training's callback is told into `run.log` of its output, and passes it on."""

    def __init__(self, callback: Callback, log: RunLog) -> None:
        """Take the callback and the log, which whoever made it closes."""
        self._callback, self._log = callback, log
        self._pace = Pace()
        self._total = self._first = 0
        self._batch = 1

    def begins(self, prepared: Prepared, output: Path, steps_done: int) -> None:
        """Write what is trained, unless all steps were made; arguments as for `Callback`."""
        sampler = prepared.sampler
        self._total, self._first = sampler.total_steps, steps_done
        self._batch = prepared.recipe.effective_batch
        if steps_done < self._total:
            begun = f"continues after step {steps_done:,}" if steps_done else "begins"
            self._log.info(
                f"{begun}: {len(prepared.dataset):,} samples, {prepared.recipe.epochs} epochs of "
                f"{sampler.steps:,} steps, {prepared.parameters[0]:,} trainable parameters"
            )
        self._callback.begins(prepared, output, steps_done)

    def step(self, report: StepReport) -> None:
        """Write a line for every 5% and every 30 seconds, for skipped steps, and at the end."""
        if report.skipped:
            self._log.warning(f"step {report.step:,} skipped: a gradient was not finite")
        is_last = report.step == self._total
        if self._pace.is_due(report.step, self._total) or is_last:
            rate = self._pace.rate(report.step - self._first)
            end = f"took {shown_time(self._pace.seconds())}"
            if not is_last:
                end = f"{shown_time((self._total - report.step) / rate)} left"
            self._log.info(
                f"step {report.step:,} of {self._total:,} ({report.step / self._total:.0%}), loss "
                f"{report.loss:.4f}, {shown_rate(rate * self._batch)} samples/s, {end}"
            )
        self._callback.step(report)

    def evaluated(self, evaluation: Mapping[str, Json]) -> None:
        """Write an evaluation's figures."""
        figures = (f"{n} {v:.4f}" for n, v in evaluation.items() if isinstance(v, float))
        self._log.info(f"epoch {evaluation['epoch']}: {', '.join(figures)}")
        self._callback.evaluated(evaluation)

    def warned(self, message: str) -> None:
        """Write a warning."""
        self._log.warning(message)
        self._callback.warned(message)


def last_logged(log: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the scalars that a log's lines stand for, each with the last step it has."""
    last: dict[str, int] = {}
    for line in log:
        for name in SCALARS if "loss" in line else _figures(line):
            last[name] = max(line["step"], last.get(name, 0))
    return last


def _figures(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Return an evaluation's figures under the names that loggers show."""
    return {
        f"evaluation/{name}": value
        for name, value in evaluation.items()
        if name not in ("step", "epoch") and isinstance(value, float)
    }


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a log; one torn by a kill is left out."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and _is_step(line.get("step")) and not is_deep(line):
            lines.append(line)
    return lines


def _is_step(value: object) -> bool:
    return type(value) is int and 0 < value < MOST_STEPS


def draw_loss_curve(log: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Write a PNG of loss and learning rate by optimizer step.

    Args:
        log: Lines from `read_log`.
        path: File to write.
        title: Shown above the curve.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figures = ("loss", "learning_rate")
    points = [line for line in log if all(isinstance(line.get(name), float) for name in figures)]
    steps = [line["step"] for line in points]
    losses = [line["loss"] for line in points]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color="#9db4d8", linewidth=0.8, label="loss of each step")
    window = max(1, round(len(losses) * SMOOTHED_OVER))
    axes.plot(steps, _smoothed(losses, window), color="#1f4e9c", label=f"mean of {window}")
    axes.set(xlabel="optimizer step", ylabel="loss", title=title)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    rates = axes.twinx()
    learning_rates = [line["learning_rate"] for line in points]
    rates.plot(steps, learning_rates, color="#c0702a", linewidth=1, label="learning rate")
    rates.set_ylabel("learning rate")
    rates.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _smoothed(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of each value and up to `window - 1` before it."""
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        means.append(total / min(index + 1, window))
    return means


def _line(line: Mapping[str, Any]) -> str:
    # Half precision meets what JSON has no word for now and then.
    return json.dumps(finite(dict(line)), allow_nan=False) + "\n"
