"""A finished run's figures to the loggers that `adem-bench run --log-to` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from adem_bench.loggers.base import Ledger, LoggedRun
from adem_bench.loggers.multi import Loggers
from adem_bench.records import Result
from adem_bench.results.run_folder import MANIFEST, read_run_file

OF_MODEL = (
    "name", "fingerprint", "language_model", "trainable_parameters", "total_parameters", "dtype",
    "quantization", "device", "fusion",
)  # fmt: skip
OF_TASK = ("name", "kind", "version", "split", "prompt_settings", "data_fingerprint")


def log_run(
    folder: Path, result: Result, names: Sequence[str], warn: Callable[[str], None]
) -> list[str]:
    """Log the metrics of a finished run; a logger that has the same already is left alone.

    Args:
        folder: Of the run.
        result: Its metrics.
        names: Of the loggers.
        warn: Called with what went wrong.

    Returns:
        The loggers without those that failed, which would keep the next run waiting as well.
    """
    scalars = dict(_scalars(result))
    ledger = Ledger(folder)
    new = [name for name in names if ledger.final_scalars(name) != scalars]
    manifest = read_run_file(folder / MANIFEST)
    title = f"{manifest['model']['name']} {result.task} {folder.name}"
    loggers = Loggers(new, LoggedRun(folder, title, _facts(manifest)), warn)
    with closing(loggers):
        loggers.log(0, scalars)
    for name in loggers.working:
        ledger.keep_scalars(name, scalars)
    return [name for name in names if name in loggers.working or name not in new]


def _scalars(result: Result) -> Iterator[tuple[str, float]]:
    """Yield the headline, then every metric with its interval, in the unit of `metrics.json`."""
    headline = result.metric(result.headline).value
    if headline is not None:
        yield "headline", headline
    for metric in (metric.without_false_interval() for metric in result.metrics):
        # No slash: MLflow's folders take `accuracy` for a file.
        found = {"": metric.value, " low": metric.low, " high": metric.high}
        for suffix, value in found.items():
            if value is not None:
                yield f"{metric.name}{suffix}", value
    yield "scored", result.scored
    yield "failed", result.failed


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what identifies the run; its cards and command hold places on this machine."""
    model, task = manifest["model"], manifest["task"]
    return {
        "model": {name: model[name] for name in OF_MODEL if name in model},
        "task": {name: task[name] for name in OF_TASK if name in task},
        **{name: manifest[name] for name in ("options", "identity", "hardware", "versions")},
        "adem_bench_version": manifest["adem_bench_version"],
    }
