"""Names that users give to models: what may be one, and that each stands for one model."""

from __future__ import annotations

import re
from pathlib import Path

from adem_bench.errors import ResultsError, printable
from adem_bench.results.run_folder import model_folder
from adem_bench.results.runs import FinishedRun, finished_runs
from adem_bench.results.variants import has_one_adapter

MAX_LENGTH = 100


def check_name(name: str, option: str = "--name") -> None:
    """Check that a text can be a model's name, given by an option.

    Raises:
        ResultsError: it is empty, long, reads as another folder, or holds what no table can show.
    """
    if not name.strip() or name != name.strip() or printable(name) != name:
        raise ResultsError(f"{option} {printable(name)!r}: expected visible characters on one line")
    if {".", ".."} & set(re.split(r"[/\\]", name)):
        raise ResultsError(f"{option} {name!r}: no part of a name may be `.` or `..`; leave it out")
    if len(name) > MAX_LENGTH:
        raise ResultsError(f"{option} has {len(name)} characters; at most {MAX_LENGTH} fit tables")


def check_name_is_free(
    results: Path,
    name: str,
    task: str | None = None,
    fingerprint: str = "",
    option: str = "--name",
) -> None:
    """Check that no other model has runs under a name.

    Args:
        results: Folder below which runs are kept.
        name: To be used.
        task: That is asked; None for whatever is there.
        fingerprint: Of the model that asks for the name, on that task; empty for a new one.
        option: That gives the name, for the message.

    Raises:
        ResultsError: another one has.
    """
    for run in runs_named(results, name):
        if _is_other(run, task, fingerprint):
            raise ResultsError(
                f"{option} {name}: {run.folder} is of another model (fingerprint {run.fingerprint}"
                f"{f', here {fingerprint}' if fingerprint else ''}), and a name stands for one; "
                "choose another, or remove those runs"
            )


def runs_named(results: Path, name: str) -> list[FinishedRun]:
    """Return the finished runs of models of a name below a results folder."""
    folder = model_folder(results, name)
    runs = finished_runs(folder)[0] if folder.is_dir() else []
    return [run for run in runs if run.model == name]


def _is_other(run: FinishedRun, task: str | None, fingerprint: str) -> bool:
    """Return whether a run is of another model; a card may name an adapter for each task."""
    if run.fingerprint == fingerprint:
        return False
    return task is None or run.result.task == task or has_one_adapter(run)
