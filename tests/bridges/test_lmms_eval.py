"""lmms-eval itself: questions and scores here equal those of its own run, to the last digit.

`make test-bridges` runs this; `$ADEM_BENCH_HARNESS_PYTHON` names the environment.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adem_bench.cli import main
from adem_bench.errors import CardError
from adem_bench.records import Response
from adem_bench.results.validation.validate import validate_run
from adem_bench.tasks.base import build_task
from adem_bench.tasks.harnesses import task as harness_task
from adem_bench.tasks.harnesses.catalogue import catalogue
from adem_bench.tasks.harnesses.process import LMMS_EVAL, find
from bridges import judge_stub, lmms_eval_rows
from bridges.harness_jobs import Server

try:
    find(LMMS_EVAL)
except CardError as error:
    pytest.skip(str(error), allow_module_level=True)

HERE = Path(__file__).parent
EXPLODED = {"refcoco_bbox_rec_val": 60}
"""Questions of tasks that ask several for a row."""


@pytest.fixture(scope="module", autouse=True)
def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of the hub with all miniatures."""
    folder = tmp_path_factory.mktemp("hub")
    lmms_eval_rows.write_requests(folder / "rows.json")
    script = [find(LMMS_EVAL).python, HERE / "hub_cache.py", folder / "rows.json", folder / "kept"]
    subprocess.run(script, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(folder / "kept"))
        patch.setenv("ADEM_BENCH_CACHE", str(folder / "cache"))
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        yield folder


@pytest.fixture(scope="module")
def server(hub: Path) -> Any:
    """A process that has imported lmms-eval, for the jobs of all tasks."""
    found = Server(LMMS_EVAL)
    yield found
    found.close()


class Judge:
    """The judge that lmms-eval's own run asks, too."""

    name, at_once = "stub", 4

    def ask(self, questions):
        return [Response(judge_stub.answer_to(one.request.prompt)) for one in questions]


@pytest.fixture(scope="module")
def own_runs(hub: Path) -> Path:
    """A folder with what lmms-eval's own runs asked and found, a file for each task."""
    folder = hub / "own"
    folder.mkdir()
    names = list(lmms_eval_rows.TASKS)
    answers = {name: dict(enumerate(answers_to(name))) for name in names}
    files = {name: catalogue(LMMS_EVAL)[name].file for name in names}
    chat = lmms_eval_rows.CHAT
    job = {"answers": answers, "files": files, "chat": chat, "folder": str(folder)}
    script = [find(LMMS_EVAL).python, HERE / "own_lmms_eval.py"]
    subprocess.run(script, check=True, input=json.dumps(job).encode())
    return folder


def answers_to(name: str) -> list[str]:
    return lmms_eval_rows.answers(name, EXPLODED.get(name, lmms_eval_rows.ROWS))


@pytest.mark.parametrize("name", lmms_eval_rows.TASKS)
def test_questions_and_scores_are_those_of_its_own_run(
    name, own_runs, server, tmp_path, monkeypatch
):
    monkeypatch.setattr(harness_task, "run_job", server.run_job)
    own = json.loads((own_runs / f"{name}.json").read_text())
    overrides = ["options.messages=true"] if name in lmms_eval_rows.CHAT else []
    task = build_task(f"lmms_eval:{name}", None, overrides=overrides)
    samples = list(task.samples())
    assert len(samples) == len(own["asked"])
    for sample in samples:
        asked = own["asked"][sample.id]
        request = task.request(sample)
        images = iter(sample.images)
        parts = [
            [next(images).stem] if "image" in part else part["text"]
            for part in sample.fields["parts"]
        ]
        assert parts == asked["parts"]
        settings = asked["settings"]
        assert list(request.stop) == settings["until"]
        assert settings.get("max_new_tokens") in (None, request.max_new_tokens)
        assert not request.decoding.samples
    file = tmp_path / "predictions.jsonl"
    lines = [
        json.dumps({"id": sample.id, "response": text}) + "\n"
        for sample, text in zip(samples, answers_to(name), strict=True)
    ]
    file.write_text("".join(lines))
    judge = Judge() if name in lmms_eval_rows.JUDGED else None
    found = task.score_set(task.import_predictions(file), tmp_path / "scoring", judge)
    assert not found.unjudged
    figures = {metric.name: metric.value for metric in found.metrics}
    numbers = {key: value for key, value in own["figures"].items() if isinstance(value, float)}
    assert figures == numbers
    assert numbers
    for figure in {key for scores in found.figures.values() for key in scores}:
        parts = [scores[figure] for scores in found.figures.values() if figure in scores]
        assert sum(parts) / len(parts) == pytest.approx(numbers[figure], rel=1e-12)


def test_a_run_is_resumed_compared_and_validated(hub, server, tmp_path, monkeypatch):
    monkeypatch.setattr(harness_task, "run_job", server.run_job)
    runs = []
    for model in ("constant:yes", "constant:no"):
        command = ["run", "--model", model, "--tasks", "lmms_eval:pope", "--results"]
        command += [str(tmp_path / model[-2:])]
        for _ in range(2):
            with pytest.raises(SystemExit) as stop:
                main(command)
            assert not stop.value.code
            [run] = (path.parent for path in (tmp_path / model[-2:]).rglob("manifest.json"))
            lines = (run / "samples.jsonl").read_text().splitlines(keepends=True)
            assert len(lines) == lmms_eval_rows.ROWS
            if run in runs:
                assert json.loads((run / "manifest.json").read_text())["timing"]["resumed"] == 5
                continue
            # As if it had been killed after five answers.
            (run / "samples.jsonl").write_text("".join(lines[:5]))
            (run / "manifest.json").unlink()
            runs.append(run)
        assert not validate_run(run).issues
    with pytest.raises(SystemExit) as stop:
        main(["compare", *map(str, runs)])
    assert not stop.value.code
