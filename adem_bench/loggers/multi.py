"""The loggers that a command chose: checked before anything is loaded, and unable to end a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from adem_bench.errors import AdemBenchError, nearest_hint
from adem_bench.loggers.base import LoggedRun, Logger, shareable

NONE = "none"
MAX_REASON_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Known:
    """A logger that can be chosen."""

    place: str
    """Its `module:Class`."""
    package: str
    """What it needs to import; an extra of the same name as the logger brings it."""


KNOWN = {
    "tensorboard": Known("adem_bench.loggers.tensorboard:TensorBoard", "tensorboard"),
    "wandb": Known("adem_bench.loggers.wandb:WeightsAndBiases", "wandb"),
    "mlflow": Known("adem_bench.loggers.mlflow:MLflow", "mlflow"),
}


def check_loggers(names: Sequence[str]) -> None:
    """Check that loggers exist and that their packages are installed, without importing those.

    Raises:
        AdemBenchError: one does not.
    """
    for name in names:
        if name not in KNOWN:
            hint = nearest_hint(name, [*KNOWN, NONE])
            raise AdemBenchError(f"--log-to {name}: there is no such logger{hint}")
        spec = find_spec(KNOWN[name].package)
        # A folder of that name, which wandb leaves where it runs, is found too, without an origin.
        if spec is None or spec.origin is None:
            raise AdemBenchError(
                f"--log-to {name}: the package {KNOWN[name].package} is not installed; "
                f"`pip install 'adem-bench[{name}]'` brings it, or leave {name} out"
            )


class Loggers:
    """The chosen loggers as one.

    What goes wrong in one (no network, no space, no account) is reported once, and that logger is
    left out from then on: the figures are in the run's own files.
    """

    def __init__(self, names: Sequence[str], run: LoggedRun, warn: Callable[[str], None]) -> None:
        """Choose; nothing is opened before there is something to log.

        Args:
            names: Of `KNOWN`.
            run: What is logged.
            warn: Called with what went wrong.
        """
        facts = {name: shareable(value) for name, value in run.facts.items()}
        self._run = replace(run, facts=facts)
        self._warn = warn
        self._waiting = list(names)
        self._open: dict[str, Logger] = {}

    @property
    def working(self) -> list[str]:
        """Names of those that nothing went wrong with."""
        return [*self._waiting, *self._open]

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add scalars to all."""
        while self._waiting:
            name = self._waiting.pop(0)
            logger = self._guarded(name, partial(_opened, KNOWN[name].place, self._run))
            if logger is not None:
                self._open[name] = logger
        for name, logger in list(self._open.items()):
            self._guarded(name, partial(logger.log, step, scalars))

    def close(self) -> None:
        """Close all; those that did not fail stay `working`."""
        for name, logger in list(self._open.items()):
            self._guarded(name, logger.close)

    def _guarded(self, name: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - no stranger's package may end hours of work
            self._open.pop(name, None)
            reason = (str(error) or type(error).__name__)[:MAX_REASON_LENGTH]
            self._warn(f"--log-to {name} failed, nothing more is logged there: {reason}")
            return None


def _opened(place: str, run: LoggedRun) -> Logger:
    module, _, name = place.partition(":")
    logger: Logger = getattr(import_module(module), name)(run)
    return logger
