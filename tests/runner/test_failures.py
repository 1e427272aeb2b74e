"""Failing does not pay: figures say what they would be if every failed sample were wrong."""

from __future__ import annotations

import json

import pytest

from adem_bench.records import Response
from adem_bench.results.leaderboard.build import build_leaderboard
from adem_bench.results.runs import finished_runs
from adem_bench.results.validation.validate import validate_run
from adem_bench.runner.distributed import Processes
from adem_bench.runner.loop import run_task
from adem_bench.runner.manifest import RunOptions
from adem_bench.tasks.base import build_task
from support.answering import Answering, by_length

TASKS = ["mini_sqa", "mini_mme", "mini_caption"]


class Failing(Answering):
    """Answers, and fails every fourth request; or gives a wrong answer in its place."""

    def __init__(self, wrong: str | None = None) -> None:
        super().__init__(by_length)
        self._wrong, self._count = wrong, 0

    def generate(self, requests):
        found = []
        for response in super().generate(requests):
            self._count += 1
            if self._count % 4:
                found.append(response)
            elif self._wrong is None:
                found.append(Response("", finish_reason="filter"))
            else:
                found.append(Response(self._wrong))
        return found


def run(model, task, results, **options):
    built = build_task(task, None) if isinstance(task, str) else task
    return run_task(model, built, RunOptions(limit=24, **options), results, Processes())


@pytest.mark.parametrize("name", TASKS)
def test_failed_samples_count_as_wrong_at_worst(mini, tmp_path, name, monkeypatch):
    # METEOR's figures come as the others do, and captions are scored five times here.
    monkeypatch.setattr("adem_bench.tasks.coco_caption.java.shutil.which", lambda name: None)
    task = build_task(name, mini)
    failed = run(Failing(), task, tmp_path / "failed")
    wrong = run(Failing(""), task, tmp_path / "wrong")
    assert failed.result.failed == 6
    reasons = [
        text for text in failed.result.warnings if "6 of 24 samples failed: the answer" in text
    ]
    assert len(reasons) == 1
    assert wrong.result.failed == 0
    for metric in failed.result.metrics:
        if metric.if_wrong is not None:
            assert metric.if_wrong == pytest.approx(wrong.result.metric(metric.name).value)
    headline = failed.result.metric(failed.result.headline)
    assert headline.if_wrong is not None
    assert headline.if_wrong <= headline.value
    assert all(metric.if_wrong is None for metric in wrong.result.metrics)
    stored = json.loads((failed.folder / "metrics.json").read_text())["metrics"]
    assert any("if_wrong" in metric for metric in stored)
    assert validate_run(failed.folder, mini).issues == ()


def test_a_run_with_failures_ranks_by_its_worst_and_only_if_it_allows_them(mini, tmp_path):
    task = build_task("mini_sqa", mini)
    task.card = task.card.model_copy(update={"expected": {task.card.split: 24}})
    run(Failing(), task, tmp_path / "strict")
    lax = run(Failing(), task, tmp_path / "lax", max_failed=6)
    at_worst = 100 * lax.result.metric(lax.result.headline).if_wrong
    for folder, standing in (("strict", None), ("lax", round(at_worst, 2))):
        runs, _ = finished_runs(tmp_path / folder)
        (row,) = build_leaderboard(runs).rows
        (cell,) = row.cells.values()
        assert cell.standing == standing
        assert (row.rank is None) == (standing is None)
