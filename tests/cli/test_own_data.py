"""A data set that a card alone describes, from rows to figures and back, with each metric."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adem_bench.cli import main
from adem_bench.tasks.coco_caption import java
from support.own_data import CARDS, write_own_data

BASELINES = ("majority", "constant:yes")
RUNS = [*((model, task) for model in BASELINES for task in CARDS), ("adem-tiny", "choice")]


@pytest.fixture(scope="module", autouse=True)
def without_java():
    """Java takes seconds for each set of captions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java.shutil, "which", lambda name: None)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory, one_thread, without_java) -> Path:
    """Cards, data, and runs of all cards in `results`, two rows of each refused."""
    home = tmp_path_factory.mktemp("own")
    data = write_own_data(home)
    for model in (*BASELINES, "adem-tiny"):
        tasks = ",".join(str(home / f"{name}.yaml") for of, name in RUNS if of == model)
        arguments = ["--model", model, "--tasks", tasks, "--data-root", str(data)]
        with pytest.raises(SystemExit) as stop:
            main(["run", *arguments, "--results", str(home / "results"), "--max-failed", "2"])
        assert not stop.value.code
    return home


def run_of(home: Path, model: str, task: str) -> Path:
    folder = home / "results" / model.replace(":", "_") / task
    (path,) = folder.glob("*/metrics.json")
    return path.parent


def metrics_in(folder: Path) -> list[dict]:
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def values_in(folder: Path) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in metrics_in(folder)}


@pytest.mark.parametrize(("model", "task"), RUNS)
def test_every_good_row_is_scored_and_the_others_say_why_not(model, task, home):
    run = run_of(home, model, task)
    result = json.loads((run / "metrics.json").read_text())
    assert (result["scored"], result["failed"], result["expected"]) == (6, 2, 8)
    records = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [record["sample_id"] for record in records[:6]] == [f"p{n}" for n in range(6)]
    assert "pets.jsonl, line 7: it is not JSON" in records[6]["error"]
    assert "pets.jsonl, line 8: " in records[7]["error"]


def test_the_figures_are_those_of_the_answers(home):
    # Half of the rows are so.
    binary = values_in(run_of(home, "constant:yes", "binary"))
    assert (binary["accuracy"], binary["recall"], binary["precision"]) == (0.5, 1.0, 0.5)
    assert binary["f1"] == pytest.approx(2 / 3)
    assert values_in(run_of(home, "majority", "exact"))["accuracy"] == pytest.approx(2 / 6)
    # Six of ten annotators said it: three of them suffice.
    assert values_in(run_of(home, "majority", "vqa"))["accuracy"] > 0.6
    choice = values_in(run_of(home, "majority", "choice"))
    assert choice["accuracy"] == pytest.approx(choice["majority"]) == pytest.approx(2 / 6)
    assert (choice["place/indoors"], choice["place/outdoors"]) == pytest.approx((1 / 3, 1 / 3))
    assert values_in(run_of(home, "constant:yes", "choice"))["unread"] == 6
    assert values_in(run_of(home, "majority", "caption"))["CIDEr"] > 0


@pytest.mark.parametrize(("model", "task"), RUNS)
def test_headlines_have_intervals(model, task, home):
    run = run_of(home, model, task)
    headline = json.loads((run / "metrics.json").read_text())["headline"]
    (metric,) = [m for m in metrics_in(run) if m["name"] == headline]
    assert metric["low"] <= metric["value"] <= metric["high"]


@pytest.mark.parametrize(("model", "task"), RUNS[len(CARDS) :])
def test_runs_are_valid_and_exported_predictions_score_the_same(
    model, task, home, adem_bench, tmp_path
):
    run = run_of(home, model, task)
    done = adem_bench("validate", run, "--data-root", home / "data")
    assert done.code == 0, done.out + done.err
    given = ["--task", home / f"{task}.yaml", "--data-root", home / "data", "--output", "out"]
    done = adem_bench("score", *given, "--predictions", run / "predictions.jsonl")
    assert done.code == 0, done.err
    assert metrics_in(tmp_path / "out") == metrics_in(run)


@pytest.mark.parametrize("task", CARDS)
def test_two_models_are_compared_on_the_headline(task, home, adem_bench):
    done = adem_bench("compare", *(run_of(home, model, task) for model in BASELINES))
    assert done.code == 0, done.err
    assert ("CIDEr" if task == "caption" else "accuracy") in done.out
    assert "stands in its place" not in done.out


@pytest.mark.parametrize("task", ["choice", "caption"])
def test_a_run_that_was_broken_off_goes_on(task, home, adem_bench, tmp_path):
    arguments = ("--model", "constant:yes", "--tasks", home / f"{task}.yaml")
    where = ("--data-root", home / "data", "--results", tmp_path, "--max-failed", 2)
    assert adem_bench("run", *arguments, *where).code == 0
    (samples,) = tmp_path.rglob("samples.jsonl")
    whole = samples.read_text()
    samples.write_text("".join(whole.splitlines(keepends=True)[:4]))
    (samples.parent / "metrics.json").unlink()
    done = adem_bench("run", *arguments, *where)
    assert done.code == 0
    assert "4 records were already there" in done.out
    assert samples.read_text() == whole


def test_a_run_repeats_from_its_manifest(home, adem_bench, tmp_path):
    run = run_of(home, "constant:yes", "choice")
    done = adem_bench("rerun", run, "--data-root", home / "data", "--results", tmp_path)
    assert done.code == 0, done.out + done.err
