"""`adem-bench score`, on four questions in the official ScienceQA layout."""

from __future__ import annotations

import json

import pytest

QUESTION = {
    "question": "Which?",
    "choices": ["this", "that"],
    "answer": 0,
    "hint": "",
    "image": None,
    "task": "closed choice",
    "grade": "grade2",
    "subject": "natural science",
    "topic": "t",
    "category": "c",
    "skill": "s",
    "lecture": "",
    "solution": "",
}


@pytest.fixture
def data(tmp_path):
    """A data root with four test questions and one for validation."""
    root = tmp_path / "root"
    folder = root / "scienceqa"
    folder.mkdir(parents=True)
    splits = {"test": ["1", "2", "3", "4"], "val": ["5"]}
    problems = {
        number: QUESTION | {"split": split} for split, ids in splits.items() for number in ids
    }
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps(splits))
    (folder / "captions.json").write_text(json.dumps({"captions": {}}))
    return root


@pytest.fixture
def predictions(tmp_path):
    def write(answers):
        path = tmp_path / "preds.json"
        path.write_text(json.dumps(answers))
        return path

    return write


def test_predictions_of_other_code_are_scored_and_called_a_subset(adem_bench, data, predictions):
    path = predictions({"1": 0, "2": 0, "3": 0, "4": 1})
    shown = adem_bench("score", "--task", "sqa", "--predictions", path, "--data-root", data)
    assert (shown.code, shown.err) == (0, "")
    assert "4 of 4,241 samples" in shown.out
    figures = {line.split()[0]: line.split() for line in shown.out.splitlines() if line}
    assert figures["average"][2:7] == ["75.00", "[30.06,", "95.44]", "%", "4"]


def test_metrics_are_written_where_asked(adem_bench, data, predictions, tmp_path):
    arguments = ("score", "--task", "sqa", "--data-root", data, "--output", "out")
    shown = adem_bench(*arguments, "--predictions", predictions({"1": 0, "2": 0, "3": 0, "4": 1}))
    assert shown.out.endswith("wrote out/metrics.json\n")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["scored"], metrics["expected"], metrics["complete"]) == (4, 4241, False)


def test_another_split_can_be_scored(adem_bench, data, predictions):
    arguments = ("--data-root", data, "--split", "val")
    shown = adem_bench("score", "--task", "sqa", "--predictions", predictions({"5": 0}), *arguments)
    assert shown.code == 0
    assert "split val" in shown.out


@pytest.mark.parametrize(
    ("answers", "arguments"),
    [
        ({"5": 0}, ()),  # the split of these predictions is val
        ({"1": 0}, ("--data-root", "nowhere")),
        ({"1": 0}, ("--split", "tset")),
        ({"1": 0}, ("--set", "options.captoins=false")),
        ({"1": 0}, ("--set", "heading=NAT")),
        ([1, 2], ()),
    ],
)
def test_what_cannot_be_scored_is_refused_in_a_line(
    adem_bench, data, predictions, answers, arguments, tmp_path
):
    path = predictions(answers)
    where = () if "--data-root" in arguments else ("--data-root", data)
    shown = adem_bench(
        "score", "--task", "sqa", "--predictions", path, *where, *arguments, "--output", "out"
    )
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_predictions_file_that_is_not_there_is_named(adem_bench, data):
    shown = adem_bench("score", "--task", "sqa", "--predictions", "none.json")
    assert shown.code == 2
    assert "'none.json' does not exist" in shown.err


def test_a_group_cannot_be_scored_at_once(adem_bench, predictions, tmp_path, monkeypatch):
    (tmp_path / "cards" / "tasks").mkdir(parents=True)
    (tmp_path / "cards" / "tasks" / "both.yaml").write_text("tasks: [sqa, mme]\n")
    monkeypatch.setenv("ADEM_BENCH_INCLUDE", str(tmp_path / "cards"))
    shown = adem_bench("score", "--task", "both", "--predictions", predictions({}))
    assert shown.code == 2
    assert shown.err == "error: both is a group; score one of its tasks: sqa, mme\n"
