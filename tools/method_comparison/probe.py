"""How long a training step and an answer take, and how much memory: one short run, printed as JSON.

    python tools/method_comparison/probe.py step RECIPE
    python tools/method_comparison/probe.py answers MODEL

Peak memory is the whole process's, libraries included, so each probe is a process of its own.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import adem_bench
from adem_bench.results.runs import finished_runs

LIMITS = (960, 960, 480)
"""Samples of each source of the recipe: its own shares, 37 steps."""
WARM_UP = 5
"""Steps that are not timed."""


class Clock:
    """A callback that keeps the seconds of every step."""

    def __init__(self) -> None:
        """Start with none."""
        self.seconds: list[float] = []
        self.parameters = self.rows = 0

    def begins(self, prepared: Any, output: Path, steps_done: int) -> None:
        """Note what is trained.

        Args:
            prepared: The training.
            output: Unused.
            steps_done: Unused.
        """
        self.parameters, self.rows = prepared.parameters[0], prepared.recipe.effective_batch

    def step(self, report: Any) -> None:
        """Note a step's seconds."""
        self.seconds.append(self.rows / report.samples_per_second)

    def evaluated(self, evaluation: Mapping[str, Any]) -> None:
        """Do nothing."""

    def warned(self, message: str) -> None:
        """Do nothing."""


def step(recipe: str) -> dict[str, float]:
    """Return the mean seconds of a training step, and what is tuned."""
    clock = Clock()
    settings: dict[str, Any] = {f"data.{n}.limit": limit for n, limit in enumerate(LIMITS)}
    settings |= {"epochs": 1, "workers": 0}
    with tempfile.TemporaryDirectory() as output:
        adem_bench.train(recipe, output=output, settings=settings, callback=clock)
    timed = clock.seconds[WARM_UP:]
    return {"parameters": clock.parameters, "seconds_per_step": sum(timed) / len(timed)}


def answers(model: str) -> dict[str, float]:
    """Return the answers per second of a model on the mini tasks, reading of images included."""
    with tempfile.TemporaryDirectory() as results:
        adem_bench.evaluate(model, ["mini"], results=results)
        runs, _ = finished_runs(Path(results))
    seconds = sum(run.result.scored / (run.samples_per_second or 1) for run in runs)
    return {"answers_per_second": sum(run.result.scored for run in runs) / seconds}


def main() -> None:
    """Run one probe."""
    what, name = sys.argv[1:]
    found = {"step": step, "answers": answers}[what](name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**found, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
