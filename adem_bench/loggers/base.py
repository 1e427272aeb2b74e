"""What a logger does, and what it is told of the run that it logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from adem_bench.records import Json


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
