from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adem_bench.data.paths import MINI_SIGNS
from support.answering import finished_run


@pytest.fixture(scope="module")
def data(mini) -> Path:
    return mini


@pytest.fixture
def run(data, tmp_path) -> Path:
    return finished_run(tmp_path / "results", data)


def test_a_valid_run_is_told_so(adem_bench, run, data):
    done = adem_bench("validate", run, "--data-root", data)
    assert (done.code, done.out, done.err) == (0, f"{run}: valid, 24 records\n", "")


def test_what_cannot_be_checked_is_a_warning(adem_bench, run, tmp_path):
    sign = tmp_path / MINI_SIGNS[0]
    sign.parent.mkdir(parents=True)
    sign.touch()  # a mini world, from which the task's files are gone
    done = adem_bench("validate", run, "--data-root", tmp_path)
    assert done.code == 0
    assert done.err.startswith(f"warning: {run}: not checked: requests, predictions and")


def test_findings_are_lines_with_their_place_and_exit_code_1(adem_bench, run, data, tmp_path):
    spoiled = Path(shutil.copytree(run, tmp_path / "spoiled" / run.name))
    samples = spoiled / "samples.jsonl"
    lines = samples.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"sample_id": "\x1b[2Jevil\u202e\n"})
    samples.write_text("\n".join(lines))
    done = adem_bench("validate", spoiled, run, "--data-root", data)
    assert done.code == 1
    assert "\x1b" not in done.out
    assert f"{samples}:3: sample '\\x1b[2Jevil\\u202e\\n' is not one of the run's\n" in done.out
    assert f"{samples}:24: no line feed at its end" in done.out
    assert done.out.splitlines()[-1] == f"{run}: valid, 24 records"


def test_every_run_below_a_folder_is_checked_and_counted(adem_bench, run, data, tmp_path):
    results = tmp_path / "results"
    finished_run(results, data, "mini_sqa")
    unfinished = results / "m" / "mini_mme" / "test-0123abcd"
    unfinished.mkdir(parents=True)
    (unfinished / "samples.jsonl").write_text("")
    trained = results / "train" / "mine"
    trained.mkdir(parents=True)
    for name in ("manifest.json", "training.json"):
        (trained / name).write_text("{}")
    done = adem_bench("validate", results, run, "--data-root", data)
    assert done.code == 1
    assert done.out.count(f"{run}: valid") == 1
    assert f"{unfinished}/metrics.json: missing: not finished (" in done.out
    assert "train/mine" not in done.out
    assert done.out.splitlines()[-1] == "3 runs: 2 valid, 1 with problems"
    shutil.rmtree(unfinished)
    assert adem_bench("validate", results, "--data-root", data).code == 0


@pytest.mark.parametrize("name", [".", "nowhere"])
def test_no_run_folder_is_a_mistake(adem_bench, name):
    done = adem_bench("validate", name)
    assert done.code == 2
    assert f"error: {name} is not a run folder: expected samples.jsonl" in done.err
