"""The benchmark of the runner at a toy size."""

from __future__ import annotations

import json

import pytest

from benchmarks.runner import main


@pytest.mark.slow
def test_both_calls_are_measured_and_logged(tmp_path, capsys):
    main(["--samples", "30", "--batch-size", "4", "--log", str(tmp_path / "log.jsonl")])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["call"], row["samples"], row["batch_size"]) for row in rows] == [
        ("run", 30, 4),
        ("validate", 30, 4),
    ]
    assert all(row["records_per_second"] > 0 and row["peak_bytes"] > 1 << 20 for row in rows)
    assert all(row["cpu"] and row["python"] for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == 3
