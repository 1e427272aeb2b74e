"""What a logger does, what it is given of the run that it logs, and what the run's folder keeps.

`loggers.json` of a run's folder holds under which ids loggers know the run and what they were
given, so that a resumed run goes on under the same id and no figure is logged twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

from adem_bench.files import read_json, write_json
from adem_bench.records import Json

LEDGER_NAME = "loggers.json"


class Logger(Protocol):
    """Where scalars go."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add scalars by name, at a step."""
        ...

    def close(self) -> None:
        """Hand over what is still held; nothing is logged afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """What is logged."""

    folder: Path
    """Where the run is kept; what a logger must find again lies there too."""
    name: str
    facts: Mapping[str, Json]
    """What the run was made of. It may leave this machine: see `shareable`."""
    steps_done: int = 0
    """Steps from which the run goes on; later ones are made again."""
    logged: Mapping[str, int] = field(default_factory=dict)
    """Scalars logged before, each with the last step it was logged at."""


def shareable(facts: Json) -> Json:
    """Return facts with every absolute path replaced by the name of what it leads to."""
    if isinstance(facts, dict):
        return {name: shareable(value) for name, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [shareable(value) for value in facts]
    if not isinstance(facts, str):
        return facts
    windows = PureWindowsPath(facts)
    is_path = PurePosixPath(facts).is_absolute() or windows.is_absolute() or facts[:1] == "~"
    return windows.name if is_path else facts  # a Windows path's parts may end in either slash


class Ledger:
    """`loggers.json` of one folder; a file that cannot be read is as good as none."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is touched before something is kept."""
        self._path = folder / LEDGER_NAME

    def run_id(self, logger: str) -> str | None:
        """Return the id under which a logger knows the run."""
        found = self._entry(logger).get("id")
        return found if isinstance(found, str) else None

    def final_scalars(self, logger: str) -> Mapping[str, Any]:
        """Return the final scalars that a logger was given last."""
        found = self._entry(logger).get("scalars")
        return found if isinstance(found, dict) else {}

    def keep_id(self, logger: str, run_id: str) -> None:
        """Keep the id of a run."""
        self._keep(logger, {"id": run_id})

    def keep_scalars(self, logger: str, scalars: Mapping[str, float]) -> None:
        """Keep the final scalars that a logger was given."""
        self._keep(logger, {"scalars": dict(scalars)})

    def _keep(self, logger: str, more: Mapping[str, Any]) -> None:
        entry = {**self._entry(logger), **more}
        write_json(self._path, {**self._entries(), logger: entry})

    def _entry(self, logger: str) -> dict[str, Any]:
        entry = self._entries().get(logger)
        return entry if isinstance(entry, dict) else {}

    def _entries(self) -> dict[str, Any]:
        try:
            entries = read_json(self._path)
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}
