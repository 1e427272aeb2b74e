"""Runs on disk as pandas frames: `adem_bench.runs`, `leaderboard` and `compare`; no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adem_bench.files import expand_home

if TYPE_CHECKING:
    import pandas as pd

    from adem_bench.results.runs import FinishedRun

__all__ = ["compare", "leaderboard", "runs"]


class InFolder(Protocol):
    """What an evaluation of one task returns."""

    @property
    def folder(self) -> Path:
        """Where its run is."""
        ...


def runs(results: str | Path = "results") -> pd.DataFrame:
    """Return every metric of every finished run below a folder, one row each.

    Values are as in `metrics.json`: fractions lie in [0, 1]. Folders that cannot be read are left
    out with a warning. The columns are those of `adem-bench leaderboard --format long`.

    Args:
        results: Folder with runs, or one run's.

    Raises:
        ResultsError: the folder does not exist.
    """
    from adem_bench.results.dataframe import metrics_frame

    return metrics_frame(_finished(results))


def leaderboard(
    results: str | Path = "results",
    *,
    tasks: str | Sequence[str] = (),
    models: str | Sequence[str] = (),
    sort: str = "",
    all_metrics: bool = False,
    published: bool = False,
) -> pd.DataFrame:
    """Return what `adem-bench leaderboard` shows: a row for each model, in rank order.

    Figures are unrounded and in the unit of the table (per cent for fractions). Each has its
    column, called `TASK/SPLIT METRIC`, and two of its 95% interval (`… low`, `… high`); each task
    has the samples scored (`TASK/SPLIT n`) and those of the whole split (`TASK/SPLIT expected`).

    Args:
        results: Folder with runs.
        tasks: Only these, in this order; groups are known too.
        models: Only rows of these names; `*` and `?` stand for any letters.
        sort: Column to rank by; the first measured headline if empty.
        all_metrics: Every metric of the tasks' cards, or one per task.
        published: Whether figures from papers are shown too.

    Raises:
        ResultsError: the folder does not exist, or there is no such task, model or column.
    """
    from adem_bench.results.leaderboard.build import View, build_leaderboard
    from adem_bench.results.leaderboard.formats.frame import leaderboard_frame
    from adem_bench.results.leaderboard.published_figures import published_rows

    view = View(all_metrics, _names(tasks), _names(models), sort)
    rows = published_rows() if published else ()
    return leaderboard_frame(build_leaderboard(_finished(results), rows, view))


def compare(
    *runs: str | Path | InFolder,
    results: str | Path = "results",
    tasks: str | Sequence[str] = (),
    force: bool = False,
) -> pd.DataFrame:
    """Return what `adem-bench compare` finds: a row for each task, pair of runs and metric.

    Values and differences are as in `metrics.json` (fractions lie in [0, 1]); `p` is that of no
    difference, `holm_p` is adjusted by Holm's method: headlines over all tasks, other metrics
    within their task. `n_needed` is how many units would show a difference of `size`, where none
    was shown. What a reader must know of them (samples left out, other prompts) is in the frame's
    `attrs["remarks"]`; runs are called A, B, … there.

    Args:
        runs: Two or more: folders (of one run, of a model's runs, of many), models below `results`
            as the leaderboard calls them, or outcomes of `evaluate`. The first is the baseline.
        results: Where names are looked for.
        tasks: Only these; groups are known too.
        force: Compare although data or task version differ.

    Raises:
        ResultsError: there is nothing of a name, or the runs cannot be compared.
    """
    from adem_bench.results.comparison_frame import comparison_frame
    from adem_bench.results.comparison_sides import find_sides
    from adem_bench.results.comparison_suite import compare_suite

    given = [str(run if isinstance(run, str | Path) else run.folder) for run in runs]
    sides, problems = find_sides(given, expand_home(results))
    _warn(problems)
    return comparison_frame(compare_suite(sides, _names(tasks), force))


def _finished(results: str | Path) -> list[FinishedRun]:
    from adem_bench.results.runs import finished_runs

    found, problems = finished_runs(expand_home(results))
    _warn(problems)
    return found


def _warn(problems: Iterable[str]) -> None:
    for problem in problems:
        warnings.warn(problem, stacklevel=4)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return names; a text is one."""
    return (given,) if isinstance(given, str) else tuple(given)
