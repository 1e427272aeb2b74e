"""Small TSVs in VLMEvalKit's format."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support.tsv_files import Row


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the user's data and cache out of the tests."""
    (tmp_path / "lmu").mkdir()
    monkeypatch.setenv("LMUData", str(tmp_path / "lmu"))
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as `NAME.tsv` below the data root; the columns are those of all rows."""

    def put(name: str, rows: Sequence[Row]) -> Path:
        path = tmp_path / "root" / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns, delimiter="\t", restval="")
            writer.writeheader()
            writer.writerows(rows)
        return path

    return put
