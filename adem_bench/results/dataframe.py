"""Runs as a pandas table, one row a metric: for notebooks, plots and one's own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adem_bench.results.runs import FinishedRun

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "model", "fingerprint", "task", "split", "metric", "value", "unit", "count",
    "scored", "failed", "expected", "complete", "blind", "finished", "folder",
    "low", "high", "interval", "samples_per_second",
)  # fmt: skip
TEXTS = (
    "model", "fingerprint", "task", "split", "metric", "unit", "finished", "folder", "interval",
)  # fmt: skip
"""Columns of text, which a spreadsheet might take for formulas."""


def metrics_frame(runs: Sequence[FinishedRun]) -> pd.DataFrame:
    """Return every metric of every run; the columns are `COLUMNS`, in this order.

    Values are as in metrics.json: fractions lie in [0, 1]; an unavailable metric's is missing.
    """
    import pandas as pd

    rows = [
        (
            run.model, run.fingerprint, run.result.task, run.result.split,
            metric.name, metric.value, metric.unit, metric.count,
            run.result.scored, run.result.failed, run.result.expected, run.result.complete,
            bool(run.options.get("blind")), run.finished, str(run.folder),
            metric.low, metric.high, metric.interval, run.samples_per_second,
        )
        for run in runs
        for metric in run.result.metrics
    ]  # fmt: skip
    # Half a surrogate in a name has no UTF-8, and pandas keeps texts so where PyArrow is installed.
    whole = [[_encodable(cell) for cell in row] for row in rows]
    return pd.DataFrame(whole, columns=list(COLUMNS))


def _encodable(cell: object) -> object:
    if isinstance(cell, str):
        return cell.encode("utf-8", errors="backslashreplace").decode()
    return cell
