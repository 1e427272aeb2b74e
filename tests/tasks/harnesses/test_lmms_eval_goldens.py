"""Questions and figures of lmms-eval's own evaluation, from what its processes handed over once.

`tools/lmms_eval_goldens.py` made the files, with lmms-eval 0.7.3.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adem_bench.tasks.base import build_task
from adem_bench.tasks.harnesses import task as module

FILES = sorted((Path(__file__).parents[2] / "fixtures" / "lmms_eval").glob("*.json"))


@pytest.fixture
def known(request, stand_ins, tmp_path, monkeypatch):
    """What a file holds, and the task whose processes hand it over."""
    kept = json.loads(request.param.read_text())
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in kept["rows"]))
    built = {**kept["built"], "samples": str(samples), "reads": []}

    def run_job(harness, job, *rest):
        return built if job["do"] == "build" else kept["scored"]

    monkeypatch.setattr(module, "run_job", run_job)
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module.LmmsEvalTask, "judging", "no")
    found = build_task("lmms_eval:mini_yes_no", None)
    found.options = found.options.model_copy(update={"source": request.param.stem})
    return kept, found


def test_there_are_files():
    assert len(FILES) == 4


@pytest.mark.parametrize("known", FILES, indirect=True, ids=lambda path: path.stem)
def test_questions_and_figures_are_those_of_its_own_run(known, tmp_path):
    kept, task = known
    samples = list(task.samples())
    for sample in samples:
        asked = kept["own"]["asked"][sample.id]
        request = task.request(sample)
        images = iter(request.images)
        parts = [
            [next(images).stem] if "image" in part else part["text"]
            for part in sample.fields["parts"]
        ]
        assert parts == asked["parts"]
        assert list(request.stop) == asked["settings"]["until"]
        assert asked["settings"].get("max_new_tokens") in (None, request.max_new_tokens)
    file = tmp_path / "predictions.jsonl"
    rows = zip(samples, kept["answers"], strict=True)
    lines = (json.dumps({"id": sample.id, "response": text}) + "\n" for sample, text in rows)
    file.write_text("".join(lines))
    found = task.score_set(task.import_predictions(file), tmp_path / "scoring")
    figures = kept["own"]["figures"]
    numbers = {key: value for key, value in figures.items() if isinstance(value, float)}
    assert {metric.name: metric.value for metric in found.metrics} == numbers
    means = {name for scores in found.figures.values() for name in scores}
    assert means
    for name in means:
        parts = [scores[name] for scores in found.figures.values() if name in scores]
        assert sum(parts) / len(parts) == pytest.approx(numbers[name], rel=1e-12)
