"""One finished run with its records, as `compare` and `report` take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adem_bench.errors import ResultsError
from adem_bench.records import Record
from adem_bench.results.finished import FinishedRun, finished_runs
from adem_bench.results.run_folder import MANIFEST, RunFolder, read_json
from adem_bench.results.variants import variants_of

MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run with all that its folder holds."""

    run: FinishedRun
    manifest: Mapping[str, Any]
    records: Mapping[str, Record]
    """By sample id, in the data set's order."""

    @property
    def label(self) -> str:
        """Return the model's name with what sets the run apart, such as `[blind]`."""
        (variant,) = variants_of([self.run])
        return f"{variant.model} [{', '.join(variant.tags)}]" if variant.tags else variant.model


def open_run(path: Path) -> OpenedRun:
    """Return the only finished run in or below a folder.

    Raises:
        ResultsError: there is none, or several.
    """
    runs, warnings = finished_runs(path)
    if not runs:
        reason = f": {warnings[0]}" if warnings else "; `adem-bench run` makes runs"
        raise ResultsError(f"no finished run in {path}{reason}")
    if len(runs) > 1:
        listed = ", ".join(str(run.folder) for run in runs[:MOST_NAMED])
        more = ", …" if len(runs) > MOST_NAMED else ""
        raise ResultsError(f"{path} holds {len(runs)} finished runs; name one of {listed}{more}")
    return _open(runs[0])


def open_runs(paths: Iterable[Path]) -> tuple[list[OpenedRun], list[str]]:
    """Return all finished runs in or below folders, each once, and what was left out and why.

    Raises:
        ResultsError: a folder holds none.
    """
    found: dict[Path, OpenedRun] = {}
    left_out: list[str] = []
    for path in paths:
        runs, warnings = finished_runs(path)
        left_out += warnings
        if not runs:
            raise ResultsError(f"no finished run in {path}; `adem-bench run` makes runs")
        for run in runs:
            if run.folder.resolve() not in found:
                found[run.folder.resolve()] = _open(run)
    return list(found.values()), left_out


def _open(run: FinishedRun) -> OpenedRun:
    return OpenedRun(run, read_json(run.folder / MANIFEST), RunFolder(run.folder).records())


def letters(runs: Sequence[OpenedRun]) -> list[str]:
    """Return short names for runs, in order: A, B, and A1 after Z."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        alphabet[place % 26] + (str(place // 26) if place >= 26 else "")
        for place in range(len(runs))
    ]
