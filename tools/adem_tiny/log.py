"""A log of JSON lines, echoed to the terminal, and a learning-rate schedule for all stages."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path


class Log:
    """Appends one JSON object per event; a new log replaces the old one."""

    def __init__(self, path: Path, stage: str) -> None:
        """Start an empty log of a stage."""
        self._path, self._stage = path, stage
        self._start = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")

    def write(self, **values: object) -> None:
        """Add one line: the stage, seconds since its start, and the values."""
        seconds = round(time.monotonic() - self._start, 1)
        line = json.dumps({"stage": self._stage, "seconds": seconds} | values)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        print(line, flush=True)


def warm_cosine(step: int, steps: int, warm_up: int) -> float:
    """Return the share of the peak learning rate: linear warm-up, then a half cosine to 0.

    Args:
        step: From 0.
        steps: Number of all steps.
        warm_up: Number of steps of the linear part.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
