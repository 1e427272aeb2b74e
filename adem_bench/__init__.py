"""Evaluation-first benchmark harness for ADEM-VL and efficient vision-language tuning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adem_bench.api import RunOptions, evaluate, run_file, train
    from adem_bench.errors import AdemBenchError
    from adem_bench.frames import compare, leaderboard, runs
    from adem_bench.records import Prediction, Sample
    from adem_bench.tasks.benchmark import Benchmark

__version__ = "0.1.0"
__all__ = [
    "AdemBenchError",
    "Benchmark",
    "Prediction",
    "RunOptions",
    "Sample",
    "__version__",
    "compare",
    "evaluate",
    "leaderboard",
    "run_file",
    "runs",
    "train",
]
HOMES = {
    "AdemBenchError": "adem_bench.errors",
    "Benchmark": "adem_bench.tasks.benchmark",
    "Prediction": "adem_bench.records",
    "RunOptions": "adem_bench.api",
    "Sample": "adem_bench.records",
    "compare": "adem_bench.frames",
    "evaluate": "adem_bench.api",
    "leaderboard": "adem_bench.frames",
    "run_file": "adem_bench.api",
    "runs": "adem_bench.frames",
    "train": "adem_bench.api",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: the command line starts without torch."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return what there is to use, imported or not."""
    return sorted(__all__)
