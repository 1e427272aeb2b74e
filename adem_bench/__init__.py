"""Evaluation-first benchmark harness for ADEM-VL and efficient vision-language tuning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adem_bench.api import RunOptions, evaluate, train

__version__ = "0.1.0"
__all__ = ["RunOptions", "__version__", "evaluate", "train"]


def __getattr__(name: str) -> Any:
    """Import the functions when they are first asked for: the command line starts without torch."""
    if name in __all__:
        return getattr(import_module("adem_bench.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
