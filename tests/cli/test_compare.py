from __future__ import annotations

import json

import pytest

from support.run_writer import choice, write_run

HOSTILE = '=HYPERLINK("http://x")\x1b[31m<script>alert(1)</script>\t\x00'


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
    assert "A and B differ on 17 questions: A better on 0, B on 17; here 5 of them" in shown.out


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
    assert shown.err == "error: a comparison needs at least two runs or models\n"
