"""The figures and tables of `make methods`, from runs made of records alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adem_bench.results.runs import open_run
from support.run_writer import choice, write_run
from tools.method_comparison.figures import between_runs, differences, scores
from tools.method_comparison.tables import by_seed, pairs, put, summary

ROOT = Path(__file__).resolve().parents[2]
NUMBER = 60
WRONG = {"first": (range(20), range(26), range(14)), "second": (range(2), range(3), range(1))}
"""Method to the questions that each seed gets wrong."""


@pytest.fixture
def runs(tmp_path):
    def run(method, seed, wrong):
        records = [choice(number, int(number in wrong)) for number in range(NUMBER)]
        return open_run(write_run(tmp_path / f"{method}-{seed}", records))

    return {
        method: {"mini_sqa": [run(method, seed, wrong) for seed, wrong in enumerate(seeds)]}
        for method, seeds in WRONG.items()
    }


def test_a_method_s_figure_is_the_mean_over_its_seeds(runs):
    first, second = scores(runs)
    assert (first["method"], first["metric"]) == ("first", "average")
    assert first["seeds"] == [round(1 - wrong / NUMBER, 5) for wrong in (20, 26, 14)]
    assert first["mean"] == pytest.approx(1 - 20 / NUMBER, abs=1e-4)
    assert second["mean"] == pytest.approx(1 - 2 / NUMBER, abs=1e-4)
    assert first["low"] < first["mean"] < first["high"] < second["low"]


def test_methods_differ_by_the_means_and_their_own_seeds_do_not(runs):
    (found,) = differences(runs)
    assert (found["first"], found["second"]) == ("first", "second")
    assert found["difference"] == pytest.approx(18 / NUMBER, abs=1e-4)
    assert found["low"] < found["difference"] < found["high"]
    assert found["p_holm"] == found["p"] < 0.001
    (counts,) = between_runs(runs)
    significant, tested = counts["significant, all"]["different methods"]
    assert (significant, tested) == (9, 9)
    assert counts["significant, all"]["same method"][1] == 6


def test_seeds_that_answered_other_samples_are_refused(runs, tmp_path):
    less = open_run(write_run(tmp_path / "less", [choice(n, 0) for n in range(NUMBER - 1)]))
    runs["first"]["mini_sqa"][2] = less
    with pytest.raises(ValueError, match="did not answer the same samples"):
        scores(runs)


def test_the_documents_tables_are_those_of_the_figures_next_to_them():
    found = {
        path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for path in (ROOT / "docs" / "comparison-of-methods").glob("*.jsonl")
    }
    document = (ROOT / "docs" / "comparison-of-methods.md").read_text("utf-8")
    table = summary(found["scores"], found["timings"])
    assert table in document
    assert table in (ROOT / "README.md").read_text("utf-8")
    assert pairs(found["differences"]) in document
    assert by_seed(found["scores"]) in document


def test_tables_have_every_figure_and_go_between_their_marks(tmp_path):
    measured = [
        {"method": "A", "parameters": 1234.0, "seconds_per_step": 0.5, "step peak_bytes": 2**30,
         "answers_per_second": 45.6},
    ]  # fmt: skip
    tasks = ("mini_mme", "mini_sqa", "mini_caption")
    found = [
        {"method": "A", "task": task, "mean": 0.8, "low": 0.75, "high": 0.85, "seeds": [0.79, 0.81]}
        for task in tasks
    ]
    document = tmp_path / "README.md"
    document.write_text("a\n<!-- figures: methods -->\nold\n<!-- end -->\nb\n")
    put(document, "methods", summary(found, measured))
    text = document.read_text()
    assert "| A | 1,234 | 0.50 | 1,024 MiB | 46 | " + " | ".join(["80.0 [75.0, 85.0]"] * 3) in text
    assert "old" not in text
    assert text.endswith("<!-- end -->\nb\n")
    assert "| 79.0 | 81.0 | 2.0 | [75.0, 85.0], 10.0 wide |" in by_seed(found)
    found.append({**found[1], "method": "B", "seeds": [0.77]})
    assert "| mini ScienceQA | B | 77.0 | - | - | [75.0, 85.0]" in by_seed(found)
    difference = {"task": "mini_mme", "first": "A", "second": "B", "difference": -0.1,
                  "low": -0.2, "high": 0.0, "p_holm": 0.0004}  # fmt: skip
    assert "| B - A | -10.0 | [-20.0, +0.0] | < 0.001 |" in pairs([difference])
    with pytest.raises(ValueError, match="no place for the table 'other'"):
        put(document, "other", "")
