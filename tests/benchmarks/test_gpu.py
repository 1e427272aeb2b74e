"""The benchmark of a GPU at a toy size on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
MEASURED = [
    "machine", "prompt", "prompt", "new token", "new token", "new token", "sqa", "coco_caption",
    "mme", "sqa as in float32", "coco_caption as in float32", "mme as in float32",
    "training, published", "training, adem-bench", "training, checkpoint_activations",
    "hf: LLaVA-1.5",
]  # fmt: skip


@pytest.mark.slow
def test_everything_is_measured_printed_and_logged(tmp_path):
    log = tmp_path / "log.jsonl"
    options = ["--shapes", "toy", "--dtypes", "float32", "--samples", "2", "--log", log]
    printed = subprocess.run(
        [sys.executable, SCRIPT, "--device", "cpu", "--published-samples", "2", *options],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["measured"] for row in rows] == MEASURED
    assert len(printed.splitlines()) == len(rows)
    assert all(row["device"] and row["torch"] for row in rows)
    same = {row["measured"]: row.get("same_as_published", row.get("same")) for row in rows}
    assert all(same[name] == 1 for name in ("sqa", "coco_caption", "mme", "hf: LLaVA-1.5"))
