from __future__ import annotations

import json

import pytest

from adem_bench.records import Metric, Result
from support.run_writer import fingerprint_of

TASK = "quiz"
"""No card has this name: the leaderboard then shows the headline alone."""


@pytest.fixture
def run(tmp_path):
    """Writes run folders below the test's own as the runner leaves them."""
    numbers = iter(range(100))

    def write(model="m", value=0.5, task=TASK, scored=10, failed=0, low=None, high=None, **changes):
        folder = tmp_path / f"run-{next(numbers):02}"
        folder.mkdir(parents=True)
        how = {name: changes.pop(name) for name in ("interval", "units") if name in changes}
        metric = Metric("acc", value, "fraction", scored, low=low, high=high, **how)
        metrics = (metric, *changes.pop("further", ()))
        result = Result(task, 1, "test", "acc", metrics, scored, failed, max(10, scored))
        manifest = {
            "schema": 1,
            "model": {
                "name": model,
                "fingerprint": changes.pop("fingerprint", fingerprint_of(model)),
                "language_model": changes.pop("language_model", "LLaMA-7B"),
                "trainable_parameters": 4530432,
                "card": changes.pop("card", {}),
            },
            "task": {
                "name": task,
                "version": 1,
                "split": "test",
                "prompt_format": changes.pop("prompt_format", "QCM-A"),
                "data_fingerprint": "d" * 16,
            },
            "run": {"finished": changes.pop("finished", "2026-01-01T00:00:00+00:00")},
            "timing": {"samples_per_second": changes.pop("rate", None)},
            "options": {
                "blind": False,
                "limit": None,
                "seed": 0,
                "dtype": "auto",
                "batch_size": "auto",
            }
            | changes,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "metrics.json").write_text(json.dumps(result.to_json()))
        return folder

    return write
