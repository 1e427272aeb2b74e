"""Cost of the methods by short runs that alternate, each in a process of its own on one thread."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from adem_bench.runner.manifest import hardware, versions
from method_comparison.tunings import METHODS

PROBE = Path(__file__).parent / "probe.py"
QUIET = 0.5
"""Load of other processes below which a machine counts as quiet."""


def measure(models: Mapping[str, Path], rounds: int) -> list[dict[str, Any]]:
    """Return the medians over the rounds, a line per method.

    Args:
        models: Recipe to a tuned model.
        rounds: Each runs every method once.
    """
    loads: list[float] = []
    found: dict[str, dict[str, list[float]]] = {recipe: defaultdict(list) for recipe in models}
    for _ in range(rounds):
        for what, names in (("step", {r: r for r in models}), ("answers", models)):
            for recipe, name in names.items():
                loads.append(os.getloadavg()[0])
                for key, value in _probe(what, str(name)).items():
                    found[recipe][f"{what} {key}" if key == "peak_bytes" else key].append(value)
    # Before the first probe the load is that of others alone; later ones hold the probes' own.
    is_quiet = loads[0] < QUIET and max(loads) < 1 + QUIET
    return [
        {
            "date": date.today().isoformat(),
            "method": METHODS[recipe],
            **{key: statistics.median(values) for key, values in measured.items()},
            "seconds_per_step of rounds": [round(x, 4) for x in measured["seconds_per_step"]],
            "rounds": rounds,
            "quiet": is_quiet,
            "load": [round(min(loads), 1), round(max(loads), 1)],
            "torch": versions()["torch"],
            "cpu": hardware()["cpu"],
            "threads": 1,
        }
        for recipe, measured in found.items()
    ]


def _probe(what: str, name: str) -> dict[str, float]:
    """Return what one process measured.

    Args:
        what: `step` or `answers`.
        name: A recipe or a model.
    """
    done = subprocess.run(
        [sys.executable, str(PROBE), what, name],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured
