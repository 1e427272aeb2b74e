"""What a training step and an answer cost: one short run, printed as JSON.

    python tools/method_comparison/probe.py step RECIPE
    python tools/method_comparison/probe.py answers MODEL

Seconds are those that the processor worked for this process, which runs on one thread: other work
on the machine changes them less than a clock's. Peak memory is the whole process's, libraries
included, so each probe is a process of its own.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import adem_bench

LIMITS = (512, 512, 256)
"""Samples of each source of the recipe: its own shares, 20 steps of 64 rows."""
WARM_UP = 4
"""Steps that are not timed."""
ANSWERS = 100
"""Of each task, that are timed."""


class Clock:
    """A callback that keeps the time at every step's end."""

    def __init__(self) -> None:
        """Start with none."""
        self.ends: list[float] = []
        self.parameters = 0

    def begins(self, prepared: Any, output: Path, steps_done: int) -> None:
        """Note what is trained.

        Args:
            prepared: The training.
            output: Unused.
            steps_done: Unused.
        """
        self.parameters = prepared.parameters[0]

    def step(self, report: Any) -> None:
        """Note the time."""
        self.ends.append(time.process_time())

    def evaluated(self, evaluation: Mapping[str, Any]) -> None:
        """Do nothing."""

    def warned(self, message: str) -> None:
        """Do nothing."""


def step(recipe: str) -> dict[str, float]:
    """Return the mean seconds of a training step, and how many parameters are tuned."""
    clock = Clock()
    settings: dict[str, Any] = {f"data.{n}.limit": limit for n, limit in enumerate(LIMITS)}
    settings |= {"epochs": 1, "workers": 0}
    with tempfile.TemporaryDirectory() as output:
        adem_bench.train(recipe, output=output, settings=settings, callback=clock)
    timed = clock.ends[WARM_UP:]
    seconds = (timed[-1] - timed[0]) / (len(timed) - 1)
    return {"parameters": clock.parameters, "seconds_per_step": seconds}


def answers(model: str) -> dict[str, float]:
    """Return the answers per second of a model on the mini tasks, reading of images included."""
    spent, given = [], []
    # The first run also imports; the second only loads, and is taken off the third.
    for limit in (1, 1, 1 + ANSWERS):
        started = time.process_time()
        with tempfile.TemporaryDirectory() as results:
            options = adem_bench.RunOptions(limit=limit)
            outcomes = adem_bench.evaluate(model, ["mini"], results=results, options=options)
        spent.append(time.process_time() - started)
        given.append(sum(outcome.result.scored for outcome in outcomes))
    return {"answers_per_second": (given[2] - given[1]) / (spent[2] - spent[1])}


def main() -> None:
    """Run one probe."""
    what, name = sys.argv[1:]
    found = {"step": step, "answers": answers}[what](name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**found, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
