"""The vlm-evaluation suite's tasks: official files to figures, and predictions back to figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adem_bench.cli import main
from support.question_files import write_all

TASKS = ("vqav2", "refcoco", "tallyqa", "pope", "ai2d")
MODELS = ("adem-tiny", "majority")


@pytest.fixture(scope="module")
def results(tmp_path_factory, one_thread) -> Path:
    """Runs of the model that travels with the package and of a baseline; data lies beside them."""
    root = write_all(tmp_path_factory.mktemp("suite"))
    for model in MODELS:
        arguments = ["--model", model, "--tasks", ",".join(TASKS), "--data-root", str(root)]
        with pytest.raises(SystemExit) as stop:
            main(["run", *arguments, "--results", str(root / "results")])
        assert not stop.value.code
    return root / "results"


def run_of(results: Path, model: str, task: str) -> Path:
    (path,) = results.glob(f"{model}/{task}/*/metrics.json")
    return path.parent


def metrics_in(folder: Path) -> list[dict]:
    return json.loads((folder / "metrics.json").read_text())["metrics"]


@pytest.mark.parametrize("task", TASKS)
def test_every_answer_is_scored_and_the_predictions_score_the_same(
    task, results, adem_bench, tmp_path
):
    run = run_of(results, "adem-tiny", task)
    whole = json.loads((run / "metrics.json").read_text())
    assert (whole["failed"], whole["complete"]) == (0, False)
    given = ["--task", task, "--data-root", results.parent]
    done = adem_bench("score", *given, "--predictions", run / "predictions.json", "--output", "out")
    assert done.code == 0, done.err
    assert metrics_in(tmp_path / "out") == metrics_in(run)


@pytest.mark.parametrize("task", TASKS)
def test_runs_are_valid_and_compared_image_by_image(task, results, adem_bench):
    runs = [run_of(results, model, task) for model in MODELS]
    done = adem_bench("validate", runs[0], "--data-root", results.parent)
    assert done.code == 0, done.out + done.err
    done = adem_bench("compare", *runs)
    assert done.code == 0, done.err
    assert "differ on " in done.out
    assert " image" in done.out


@pytest.mark.parametrize("task", ["tallyqa", "ai2d"])
def test_the_baseline_scores_the_majority(task, results):
    found = {
        metric["name"]: metric["value"] for metric in metrics_in(run_of(results, "majority", task))
    }
    assert found["accuracy"] == pytest.approx(found["majority"])


def test_results_of_the_suite_and_their_mistakes(results, adem_bench, tmp_path):
    rows = {"30095774": {"question_id": 30095774, "mc_probabilities": [0, 0, 0, 1] + [0] * 12}}
    path = tmp_path / "full-results.json"
    path.write_text(json.dumps(rows))
    given = ["score", "--task", "tallyqa", "--data-root", results.parent, "--predictions"]
    done = adem_bench(*given, path)
    assert done.code == 0, done.err
    assert "SUBSET: 1 of 38589 expected samples" in done.out
    path.write_text(json.dumps({"1": rows["30095774"]}))
    done = adem_bench(*given, path)
    assert done.code == 2
    assert "1 of 1 questions are not in split test, the first is '1'" in done.err
