"""`loggers.json` of a run's folder: under which ids others know the run, and what they were told.

With it a resumed run goes on under the same id, and no figure is logged twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adem_bench.files import write_json

LEDGER_NAME = "loggers.json"


class Ledger:
    """The ledger of one folder; one that cannot be read is as good as none."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is touched before something is kept."""
        self._path = folder / LEDGER_NAME

    def run_id(self, logger: str) -> str | None:
        """Return the id under which a logger knows the run."""
        found = self._entry(logger).get("id")
        return found if isinstance(found, str) else None

    def told(self, logger: str) -> Mapping[str, Any]:
        """Return the final scalars that a logger was told last."""
        found = self._entry(logger).get("scalars")
        return found if isinstance(found, dict) else {}

    def keep_id(self, logger: str, run_id: str) -> None:
        """Keep the id of a run."""
        self._keep(logger, {"id": run_id})

    def keep_told(self, logger: str, scalars: Mapping[str, float]) -> None:
        """Keep the final scalars that a logger was told."""
        self._keep(logger, {"scalars": dict(scalars)})

    def _keep(self, logger: str, more: Mapping[str, Any]) -> None:
        entry = {**self._entry(logger), **more}
        write_json(self._path, {**self._entries(), logger: entry})

    def _entry(self, logger: str) -> dict[str, Any]:
        entry = self._entries().get(logger)
        return entry if isinstance(entry, dict) else {}

    def _entries(self) -> dict[str, Any]:
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}
