from __future__ import annotations

import csv
import io
import json
import re
from functools import partial

import pytest

from adem_bench.metrics import intervals
from adem_bench.records import Record
from support.run_writer import choice, write_run

HOSTILE = '=HYPERLINK("http://x")\x1b[31m<script>alert(1)</script>\t\x00'


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch):
    """A tenth of the redraws: what is checked here does not hang on the last digit."""
    draw = partial(intervals.resampled_sums, resamples=1000)
    monkeypatch.setattr("adem_bench.metrics.paired.resampled_sums", draw)


@pytest.fixture
def runs(tmp_path):
    answers = [choice(n, int(n < 20)) for n in range(60)]
    better = [choice(n, int(n < 3)) for n in range(60)]
    better[5] = choice(5, 0, response=HOSTILE)
    return write_run(tmp_path / "a", answers), write_run(tmp_path / "b", better, model=HOSTILE)


def test_the_table_says_what_is_shown_and_what_is_not(adem_bench, runs):
    shown = adem_bench("compare", *runs)
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[0] == "mini_sqa, split test: 60 samples"
    (headline,) = (line for line in lines if line.startswith("average"))
    assert headline.split()[:6] == ["average", "A,", "B", "66.67", "95.00", "+28.33"]
    assert headline.rstrip().endswith("McNemar, exact (+17 -0)  B is better")
    assert "differ on 17 questions: A better on 0, B on 17; here 5 of 17 samples" in shown.out


def test_who_is_better_is_said_of_each_question_of_an_image(adem_bench, tmp_path):
    """Of one image's two questions each model has another one right."""
    said_by = (("Yes", "No", "Yes", "No"), ("No", "Yes", "Yes", "Yes"))
    runs = [
        write_run(
            tmp_path / name,
            [
                Record(
                    f"count/{n // 2}/{n % 2}", "", said, said, "Yes", float(said == "Yes"),
                    ("count", "perception"), f"count/{n // 2}",
                )
                for n, said in enumerate(answers)
            ],
            task="mini_mme",
        )
        for name, answers in zip("ab", said_by, strict=True)
    ]  # fmt: skip
    lines = adem_bench("compare", *runs).out.splitlines()
    place = lines.index("A and B differ on 2 images: A better on 0, B on 1")
    assert [line.split() for line in lines[place + 2 :]] == [
        ["count/1/1", "Yes", "No", "Yes", "B"],
        ["count/0/0", "Yes", "Yes", "No", "A"],
        ["count/0/1", "Yes", "No", "Yes", "B"],
    ]
    assert "here 1 of 3 samples" in adem_bench("compare", *runs, "--disagreements", 1).out


def test_hostile_answers_and_names_are_shown_and_not_obeyed(adem_bench, runs):
    shown = adem_bench("compare", *runs, "--disagreements", 60)
    assert "\x1b" not in shown.out
    assert "\x00" not in shown.out
    assert "=HYPERLINK" in shown.out


def test_json_holds_everything(adem_bench, runs):
    found = json.loads(adem_bench("compare", *runs, "--format", "json").out)
    (pair,) = found["pairs"]
    assert (found["schema"], found["headline"], found["samples"]) == (1, "average", 60)
    assert pair["headline"]["significant"] is True
    assert pair["headline"]["difference"] == pytest.approx(17 / 60)
    assert len(pair["disagreements"]) == 17
    (sample,) = pair["disagreements"][2]["samples"]
    assert (sample["sample_id"], sample["second"]["response"]) == ("5", HOSTILE)


def test_one_run_is_a_mistake(adem_bench, runs):
    shown = adem_bench("compare", runs[0])
    assert (shown.code, shown.out) == (2, "")
    assert shown.err == (
        "error: a comparison needs at least two runs or models: "
        f"`adem-bench compare {runs[0]} CANDIDATE`\n"
    )


@pytest.fixture
def models(tmp_path):
    """Two models below ./results: the second is better on one task and lacks another."""
    for model, wrong in (("base", 40), (HOSTILE, 5)):
        records = [choice(n, int(n < wrong)) for n in range(300)]
        write_run(tmp_path / "results" / f"m{wrong}" / "a", records, model=model)
        folder = tmp_path / "results" / f"m{wrong}" / "b"
        write_run(folder, [choice(n, int(n == wrong)) for n in range(300)], "sqa", model=model)
    write_run(tmp_path / "results" / "m40" / "c", records, model="base", blind=True)
    return tmp_path / "results"


def test_models_are_compared_for_readers_and_programs(adem_bench, models):
    shown = adem_bench("compare", "m40", "m5")
    assert (shown.code, shown.err) == (0, "")
    assert "not compared: mini_sqa/test (blind), of which B has no run" in shown.out
    assert "B against A: better on 1, worse on 0, no difference shown on 1" in shown.out
    (open_,) = (line for line in shown.out.splitlines() if line.startswith("sqa/test"))
    # (2.241 + 0.842)^2 times 2 of 300 that differ, over 0.01^2: at the level 0.05/2.
    assert re.search(r" 6\d\d for 1\.00 ", open_)
    found = json.loads(adem_bench("compare", "m40", "m5", "--format", "json").out)
    assert found["summary"] == [
        {"first": "A", "second": "B", "better": 1, "worse": 0, "no_difference_shown": 1}
    ]
    assert [c["task"] for c in found["comparisons"]] == ["mini_sqa", "sqa"]
    assert found["comparisons"][1]["size"] == 0.01
    assert found["not_compared"][0]["lacking"] == ["B"]
    assert found["gate"] is None


@pytest.mark.slow
def test_models_are_compared_for_spreadsheets_and_pages(adem_bench, models):
    table = list(
        csv.DictReader(io.StringIO(adem_bench("compare", "m40", "m5", "--format", "csv").out))
    )
    assert [row["reading"] for row in table] == ["B is better", "no difference shown"]
    assert table[0]["difference"] == "11.67"
    assert table[0]["second"].startswith("'=HYPERLINK")
    assert re.fullmatch(r"6\d\d", table[1]["n needed"])
    markdown = adem_bench("compare", "m40", "m5", "--format", "markdown").out
    assert "| mini_sqa/test | average | A, B | 86.67 | 98.33 | +11.67 |" in markdown
    assert "<script>" not in markdown
    page = adem_bench("compare", "m40", "m5", "--format", "html").out
    assert page.startswith("<!doctype html>")
    assert "<script>" not in page
    assert "B is better" in page


def test_the_gate_has_an_exit_code_of_its_own(adem_bench, models):
    for number in (1, 2):
        records = [choice(n, int(n == number)) for n in range(300)]
        write_run(models / f"n{number}" / "a", records)
    gate = ("compare", "n1", "n2", "--fail-if-worse")
    passed = adem_bench(*gate, "--margin", 2)
    assert passed.code == 0
    assert passed.out.splitlines()[-1] == "gate passed: B is within the margin of A on 1 task"
    closed = adem_bench(*gate, "--margin", "mini_sqa=0.1", "--format", "json")
    assert closed.code == 4
    assert closed.err == "gate not passed: inconclusive on mini_sqa/test\n"
    verdict = json.loads(closed.out)["gate"]["verdicts"][0]
    assert (verdict["outcome"], verdict["margin"]) == ("inconclusive", 0.001)
    write_run(models / "few" / "a", [choice(n, 1) for n in range(2)])
    worse = adem_bench("compare", "n1", "m40", "--fail-if-worse", "--tasks", "mini_sqa")
    for sides in (("n1", "few", "m40"), ("n1", "n2", "few", "m40")):
        again = adem_bench("compare", *sides, "--fail-if-worse", "--tasks", "mini_sqa")
        assert again.code == worse.code == 4  # the sides between hide nothing
        assert "gate not passed: worse on mini_sqa/test;" in again.out
    closed = adem_bench("compare", "m40", "m5", "--fail-if-worse", "--tasks", "mini_sqa")
    assert closed.code == 4
    assert "mini_sqa/test (blind)  not judged  B has no run to compare" in closed.out


def test_pairs_that_the_gate_cannot_judge_are_not_ones_without_a_difference(adem_bench, tmp_path):
    for model, blind in (("seeing", False), ("blindly", True)):
        for task in ("mini_sqa", "sqa"):
            records = [choice(n, int(n == 1 + blind)) for n in range(60)]
            folder = tmp_path / "results" / model / task
            write_run(folder, records, task, model=model, blind=blind, limit=60)
    gate = ("compare", "seeing", "blindly", "--fail-if-worse")
    table = adem_bench(*gate)
    assert table.code == 4
    sum_ = "better on 0, worse on 0, no difference shown on 0, not judged on 2"
    assert sum_ in table.out
    assert "run both with or both without --blind" in table.out
    assert " for 1.00" not in table.out
    for form in ("md", "markdown", "html"):
        text = adem_bench(*gate, "--format", form).out
        assert sum_ in text
        assert " for 1.00" not in text
    found = json.loads(adem_bench(*gate, "--format", "json").out)
    assert (found["summary"][0]["no_difference_shown"], found["summary"][0]["not_judged"]) == (0, 2)
    assert [c["units_needed"] for c in found["comparisons"]] == [None, None]
    table = csv.DictReader(io.StringIO(adem_bench(*gate, "--format", "csv").out))
    assert {(row["n needed"], row["size"], row["reading"]) for row in table} == {
        ("", "", "not judged")
    }
    # Without a gate nothing is judged, and a difference is looked for as ever.
    assert "no difference shown on 2" in adem_bench("compare", "seeing", "blindly").out


def test_what_is_written_leaves_the_sum_on_the_terminal(adem_bench, models, tmp_path):
    shown = adem_bench("compare", "m5", "m40", "--tasks", "sqa", "--output", "c.md")
    assert shown.out.splitlines() == [
        "wrote c.md",
        "B against A: better on 0, worse on 0, no difference shown on 1",
    ]
    assert "no difference shown" in (tmp_path / "c.md").read_text()
    assert adem_bench("compare", "m5", "m40", "--output", "c.doc").code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--margin", "1"), "how much worse --fail-if-worse lets"),
        (("--fail-if-worse", "--margin", "-1"), "--margin -1: a margin is a number of 0 or more"),
        (("--fail-if-worse", "--margin", "sq=1"), "no figures of a task 'sq'; did you mean: sqa"),
        (("--tasks", "mme"), "no figures of a task 'mme'"),
        (("--results", "nowhere"), "there is no results folder nowhere"),
    ],
)
def test_a_mistake_is_no_verdict(adem_bench, models, options, message):
    shown = adem_bench("compare", "m40", "m5", *options)
    assert shown.code == 2
    assert message in shown.err
