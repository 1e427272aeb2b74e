"""Runs as pandas tables, for notebooks, plots and one's own statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adem_bench.records import Record, Result
from adem_bench.results.runs import FinishedRun
from adem_bench.results.variants import run_labels

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "model", "fingerprint", "task", "split", "metric", "value", "unit", "count",
    "scored", "failed", "expected", "complete", "blind", "finished", "folder",
    "low", "high", "interval", "samples_per_second", "label",
)  # fmt: skip
TEXTS = (
    "model", "fingerprint", "task", "split", "metric", "unit", "finished", "folder", "interval",
    "label",
)  # fmt: skip
"""Columns of text, which a spreadsheet might take for formulas."""


def metrics_frame(
    runs: Sequence[FinishedRun], labels: Mapping[Path, str] | None = None
) -> pd.DataFrame:
    """Return every metric of every run; the columns are `COLUMNS`, in this order.

    Labels are those of the runs' rows in a leaderboard, from `run_labels`; by default one of these
    runs alone. Values are as in metrics.json: fractions lie in [0, 1]; an unavailable metric's is
    missing.
    """
    import pandas as pd

    names = run_labels(runs) if labels is None else labels
    rows = [
        (
            run.model, run.fingerprint, run.result.task, run.result.split,
            metric.name, metric.value, metric.unit, metric.count,
            run.result.scored, run.result.failed, run.result.expected, run.result.complete,
            bool(run.options.get("blind")), run.finished, str(run.folder),
            metric.low, metric.high, metric.interval, run.samples_per_second,
            names[run.folder],
        )
        for run in runs
        for metric in run.result.metrics
    ]  # fmt: skip
    # Half a surrogate in a name has no UTF-8, and pandas keeps texts so where PyArrow is installed.
    whole = [[_encodable(cell) for cell in row] for row in rows]
    return pd.DataFrame(whole, columns=list(COLUMNS))


RECORD_COLUMNS = (
    "task", "split", "sample_id", "repeat", "prediction", "reference", "score", "response",
    "groups", "cluster", "error", "finish_reason", "notes",
)  # fmt: skip


class HasRecords(Protocol):
    """A run whose records can be read."""

    @property
    def result(self) -> Result:
        """What came out."""
        ...

    @property
    def records(self) -> Sequence[Record]:
        """Its records."""
        ...


def records_frame(runs: Sequence[HasRecords]) -> pd.DataFrame:
    """Return every record of every run, one row each; the columns are `RECORD_COLUMNS`."""
    import pandas as pd

    rows = [
        [
            _encodable(cell)
            for cell in (
                run.result.task,
                run.result.split,
                *(getattr(record, name) for name in RECORD_COLUMNS[2:]),
            )
        ]
        for run in runs
        for record in run.records
    ]
    return pd.DataFrame(rows, columns=list(RECORD_COLUMNS))


def _encodable(cell: object) -> object:
    if isinstance(cell, str):
        return cell.encode("utf-8", errors="backslashreplace").decode()
    return cell
