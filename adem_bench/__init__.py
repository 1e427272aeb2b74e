"""Evaluation-first benchmark harness for ADEM-VL and efficient vision-language tuning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adem_bench.api import RunOptions, evaluate, train
    from adem_bench.records import Prediction, Sample
    from adem_bench.tasks.benchmark import Benchmark

__version__ = "0.1.0"
__all__ = ["Benchmark", "Prediction", "RunOptions", "Sample", "__version__", "evaluate", "train"]
HOMES = {
    "Benchmark": "adem_bench.tasks.benchmark",
    "Prediction": "adem_bench.records",
    "RunOptions": "adem_bench.api",
    "Sample": "adem_bench.records",
    "evaluate": "adem_bench.api",
    "train": "adem_bench.api",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: the command line starts without torch."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
