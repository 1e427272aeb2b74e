"""What training leaves for people to watch: a JSON-lines log, scalars for loggers, a curve."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adem_bench.files import disk_error, is_deep, write_atomically
from adem_bench.loggers.base import Logger
from adem_bench.records import Json
from adem_bench.runner.manifest import peak_memory
from adem_bench.trainers.loop import StepReport

LOG_NAME, CURVE_NAME = "log.jsonl", "loss.png"
SCALARS = ("loss", "learning_rate", "grad_norm", "scale", "samples_per_second")
SMOOTHED_OVER = 0.02
"""Share of all steps that the curve's bold line averages over."""


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
        self._stream.close()


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
        if isinstance(line, dict) and isinstance(line.get("step"), int) and not is_deep(line):
            lines.append(line)
    return lines


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
    plain = {
        # JSON has no word for what half precision meets now and then.
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }
    return json.dumps(plain, allow_nan=False) + "\n"
