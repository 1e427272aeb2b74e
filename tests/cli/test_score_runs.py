"""Predictions of other code as runs, and runs that are scored later."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from pathlib import Path

import pytest

from adem_bench.data.paths import MINI_SIGNS
from support.answering import finished_run


@pytest.fixture(scope="module")
def data(mini) -> Path:
    return mini


@pytest.fixture(scope="module")
def own_run(data, tmp_path_factory) -> Path:
    """A run of our own, whose exported predictions stand for those of other code."""
    return finished_run(tmp_path_factory.mktemp("own") / "results", data, "mini_sqa", limit=16)


@pytest.fixture
def as_run(adem_bench, data):
    """Score predictions as a run."""

    def call(predictions, name="theirs", *more, task="mini_sqa"):
        arguments = ("--task", task, "--predictions", predictions, "--as-run", name)
        return adem_bench("score", *arguments, "--data-root", data, *more)

    return call


def rows_of(page) -> list:
    """Return the samples of a report's only task."""
    found = re.search(r'class="packed">([^<]+)<', Path(page).read_text())
    return json.loads(gzip.decompress(base64.b64decode(found.group(1))))["rows"]


def folder_of(done) -> Path:
    (line,) = [line for line in done.out.splitlines() if line.startswith("wrote results/")]
    return Path(line.removeprefix("wrote ").partition("/samples.jsonl")[0])


@pytest.mark.parametrize("file", ["preds.json", "samples.jsonl"])
def test_scored_predictions_become_a_run_with_equal_figures(as_run, own_run, file):
    done = as_run(own_run / file)
    assert done.code == 0, done.err
    run = folder_of(done)
    assert run.parts[:3] == ("results", "theirs", "mini_sqa")
    ours = json.loads((own_run / "metrics.json").read_text())
    theirs = json.loads((run / "metrics.json").read_text())
    assert theirs["metrics"] == ours["metrics"]
    assert "these are predictions of other code: how it asked is not known" in theirs["warnings"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["model"]["predictions"]["file"] == file
    assert manifest["identity"]["prompt_settings"] == {}


def test_a_run_of_predictions_serves_every_verb(adem_bench, as_run, data, own_run):
    run = folder_of(as_run(own_run / "preds.json"))
    valid = adem_bench("validate", run, "--data-root", data)
    assert (valid.code, valid.out) == (0, f"{run}: valid, 16 records\n")
    board = adem_bench("leaderboard", "results", "--format", "csv")
    assert "\ntheirs," in board.out
    compared = adem_bench("compare", run, own_run, "--format", "json")
    assert (compared.code, json.loads(compared.out)["samples"]) == (0, 16)
    report = adem_bench("report", run, own_run, "--data-root", data, "--output", "r.html")
    assert report.code == 0, report.err
    assert "Prompts of A are not shown: other code asked, and how is not known." in Path(
        "r.html"
    ).read_text(encoding="utf-8")
    rows = rows_of("r.html")
    theirs, ours = rows[0][3]
    assert (ours.startswith("Question: "), theirs) == (True, None)
    assert any(row[2] >= 0 for row in rows)  # images are the data's
    assert adem_bench("report", run, "--data-root", data, "--output", "r.html").code == 0
    assert [row[3] for row in rows_of("r.html")] == [None] * 16


def test_the_same_predictions_once_more_change_nothing_and_others_need_fresh(
    adem_bench, as_run, own_run, tmp_path
):
    run = folder_of(as_run(own_run / "preds.json"))
    again = as_run(own_run / "preds.json")
    assert (again.code, folder_of(again)) == (0, run)
    others = json.loads((own_run / "preds.json").read_text())
    first = next(iter(others))
    (tmp_path / "others.json").write_text(json.dumps(others | {first: others[first] ^ 1}))
    refused = as_run(tmp_path / "others.json")
    assert refused.code == 2
    assert f"{run} holds other predictions under the name 'theirs'; choose another" in refused.err
    before = (run / "samples.jsonl").read_text()
    assert as_run(tmp_path / "others.json", "theirs", "--fresh").code == 0
    assert (run / "samples.jsonl").read_text() != before


@pytest.mark.slow
def test_predictions_of_several_tasks_are_one_row(adem_bench, as_run, data, own_run):
    mme = finished_run(own_run.parents[2] / "mme", data, "mini_mme")
    as_run(own_run / "preds.json")
    done = as_run(mme / "eval_tool", task="mini_mme")
    assert done.code == 0, done.err
    board = adem_bench("leaderboard", "results", "--format", "csv")
    assert board.out.count("\ntheirs") == 1
    assert adem_bench("validate", "results", "--data-root", data).code == 0


def test_a_name_that_another_model_has_is_refused(adem_bench, as_run, data, own_run):
    asked = ("--tasks", "mini_sqa", "--limit", "2", "--data-root", data)
    assert adem_bench("run", "--model", "constant:A", "--name", "A", *asked).code == 0
    refused = as_run(own_run / "preds.json", "A")
    assert refused.code == 2
    assert "error: --as-run A: results/A/mini_sqa/test-limit2-" in refused.err
    assert as_run(own_run / "preds.json", "a" * 200).code == 2


def test_an_edited_score_of_an_imported_run_is_found(adem_bench, as_run, data, own_run):
    run = folder_of(as_run(own_run / "preds.json"))
    lines = (run / "samples.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    lines[0] = json.dumps(record | {"score": 1.0 - record["score"]})
    (run / "samples.jsonl").write_text("\n".join(lines) + "\n")
    done = adem_bench("validate", run, "--data-root", data)
    assert done.code == 1
    assert "samples.jsonl:1: score is" in done.out


def test_an_imported_run_cannot_be_asked_again(adem_bench, as_run, own_run):
    run = folder_of(as_run(own_run / "preds.json"))
    done = adem_bench("rerun", run)
    assert done.code == 2
    assert "holds predictions of other code, so there is no model to ask again" in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name a run folder, or --task and --predictions"),
        (("--task", "sqa"), "(--predictions missing)"),
        (("--predictions", "."), "(--task missing)"),
        (("results", "--task", "sqa"), "--task is for predictions of other code"),
        (("results", "--set", "version=2"), "--set is for predictions of other code"),
        (("results", "--as-run", "x"), "--as-run is for predictions of other code"),
        (("nowhere",), "nowhere is not a run folder: expected samples.jsonl and manifest.json"),
        (("--task", "sqa", "--predictions", ".", "--as-run", " "), "--as-run needs a name"),
    ],
)
def test_what_cannot_be_scored_says_why(adem_bench, arguments, says):
    done = adem_bench("score", *arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.count("\n") == 1


def emptied(root: Path) -> Path:
    """A mini world from which the tasks' files are gone."""
    sign = root / MINI_SIGNS[0]
    sign.parent.mkdir(parents=True)
    sign.touch()
    return root


def test_a_run_of_predictions_needs_the_data_by_which_it_is_paired(adem_bench, tmp_path, own_run):
    emptied(tmp_path)
    arguments = ("--predictions", own_run / "preds.json", "--data-root", tmp_path)
    done = adem_bench("score", "--task", "mini_sqa", *arguments, "--as-run", "theirs")
    assert done.code == 2
    assert not (tmp_path / "results").exists()


def test_a_damaged_samples_file_is_refused_with_its_line(as_run, own_run, tmp_path):
    lines = (own_run / "samples.jsonl").read_text().splitlines()
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join([lines[0], lines[1][:30]]))
    done = as_run(bad)
    assert done.code == 2
    assert f"{bad}, line 2: not a record" in done.err
    bad.write_text(lines[0].replace('"sample_id": "', '"sample_id": "other\u2028'), "utf-8")
    done = as_run(bad)
    assert "1 of 1 samples are not in split test, the first is 'other" in done.err
    assert not (tmp_path / "results").exists()


RUN = ("run", "--model", "constant:A", "--tasks", "mini_sqa", "--limit", "20")


def test_a_run_without_scores_is_scored_later(adem_bench, data, tmp_path):
    asked = (*RUN, "--data-root", data)
    whole = folder_of(adem_bench(*asked))
    wanted = {name: (whole / name).read_text() for name in ("samples.jsonl", "metrics.json")}
    shutil.rmtree(tmp_path / "results")

    done = adem_bench(*asked, "--predict-only")
    assert done.code == 0
    assert "20 samples answered, 0 failed; not scored" in done.out
    assert f"`adem-bench score {whole}` does it" in done.out
    assert (whole / "preds.json").exists()
    assert not (whole / "metrics.json").exists()
    assert (whole / "samples.jsonl").read_text() == wanted["samples.jsonl"]
    valid = adem_bench("validate", whole, "--data-root", data)
    assert valid.code == 0
    assert f"not checked: metrics: `adem-bench score {whole}` makes them" in valid.err
    board = adem_bench("leaderboard", "results")
    assert "not scored, so left out" in board.err

    scored = adem_bench("score", whole, "--data-root", data)
    assert (scored.code, scored.err) == (0, "")
    assert "average" in scored.out
    assert (whole / "metrics.json").read_text() == wanted["metrics.json"]
    valid = adem_bench("validate", whole, "--data-root", data)
    assert (valid.code, valid.err) == (0, "")
    # What is scored stays so, and is scored again to the same figures.
    assert adem_bench(*asked, "--predict-only").code == 0
    assert adem_bench("score", whole, "--data-root", data).code == 0
    assert (whole / "metrics.json").read_text() == wanted["metrics.json"]


def test_the_plain_command_scores_what_was_only_predicted(adem_bench, data):
    asked = (*RUN, "--data-root", data)
    adem_bench(*asked, "--predict-only")
    done = adem_bench(*asked)
    run = folder_of(done)
    assert "20 records were already there" in done.out
    assert (run / "metrics.json").exists()
    assert "not_scored" not in json.loads((run / "manifest.json").read_text())
    assert adem_bench("validate", run, "--data-root", data).code == 0


def test_without_the_data_a_run_is_scored_from_its_records(adem_bench, own_run, tmp_path):
    run = Path(shutil.copytree(own_run, tmp_path / own_run.name))
    (run / "metrics.json").unlink()
    done = adem_bench("score", run, "--data-root", emptied(tmp_path / "data"))
    assert done.code == 0
    assert "files in the benchmark's own format are not written" in done.err
    assert (run / "metrics.json").read_text() == (own_run / "metrics.json").read_text()


def test_an_unfinished_run_is_not_scored(adem_bench, own_run, tmp_path):
    run = Path(shutil.copytree(own_run, tmp_path / own_run.name))
    (run / "manifest.json").unlink()
    done = adem_bench("score", run)
    assert done.code == 2
    assert " is not finished (" in done.err
    assert " samples): the same `adem-bench run` command continues it\n" in done.err


def test_a_run_that_has_lost_records_is_not_scored(adem_bench, own_run, tmp_path):
    run = Path(shutil.copytree(own_run, tmp_path / own_run.name))
    samples = run / "samples.jsonl"
    samples.write_bytes(samples.read_bytes()[:-20])
    figures = (run / "metrics.json").read_bytes()
    done = adem_bench("score", run)
    assert done.code == 2
    assert f"{samples} holds 15 of the 16 records that the run had; " in done.err
    assert (run / "metrics.json").read_bytes() == figures


def test_what_is_no_run_to_score_is_named(adem_bench, own_run):
    done = adem_bench("score", own_run.parent)
    assert done.code == 2
    assert f"is not a run folder; below it is the run {own_run.parent}" in done.err
    for verb in ("score", "validate"):
        done = adem_bench(verb, "")
        assert done.code == 2
        assert "the path is empty" in done.err


def test_a_run_of_another_version_of_the_task_is_not_scored(adem_bench, own_run, tmp_path):
    run = Path(shutil.copytree(own_run, tmp_path / own_run.name))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["task"]["card"]["version"] = 99
    (run / "manifest.json").write_text(json.dumps(manifest))
    done = adem_bench("score", run)
    assert done.code == 2
    assert "the run has version 99 of task mini_sqa, this package has" in done.err
