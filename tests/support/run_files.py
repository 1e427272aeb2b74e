"""Reading back the only run below a results folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_records(results: Path) -> list[dict[str, Any]]:
    """Return the lines of the only run below a results folder."""
    (path,) = results.rglob("samples.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_manifest(results: Path) -> dict[str, Any]:
    """Return the manifest of the only run below a results folder."""
    (path,) = results.rglob("manifest.json")
    return json.loads(path.read_text())
