"""Scores of predictions files equal VLMEvalKit's own: its code computed the fixture.

`tools/vlmevalkit_goldens.py` made the answers and ran VLMEvalKit e8e78f05 on them.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from adem_bench.data.table import texts_of
from adem_bench.metrics.vlmevalkit_rules import COMMIT, read_option, read_yes_no
from adem_bench.tasks.base import build_task
from adem_bench.tasks.tsv.short_answer_scores import VLMEVALKIT_SCORES

GOLDENS = Path(__file__).parents[2] / "fixtures" / "vlmevalkit" / "goldens.json.gz"
FILES = {
    "MMBench_DEV_EN": "mmbench",
    "SEEDBench_IMG": "seedbench",
    "MMMU_DEV_VAL": "mmmu",
    "MME": "mme_tsv",
    "POPE": "pope_tsv",
    "HallusionBench": "hallusionbench",
    "TextVQA_VAL": "textvqa_tsv",
    "DocVQA_VAL": "docvqa",
    "ChartQA_TEST": "chartqa",
    "OCRBench": "ocrbench",
    "MathVista_MINI": "mathvista",
    "COCO_VAL": "coco_tsv",
}
"""Data set to the card that scores it."""
THEIRS = {
    **dict.fromkeys(("MME", "POPE", "TextVQA_VAL", "MathVista_MINI"), "options.answer_rule"),
    "COCO_VAL": "options.scorer",
}
"""Sets whose card scores otherwise by default, with the option that names VLMEvalKit."""
SCORES = ("vqa", "anls", "relaxed", "exact")


@pytest.fixture(scope="module")
def goldens():
    return json.loads(gzip.decompress(GOLDENS.read_bytes()))


@pytest.fixture
def score(goldens, tmp_path, monkeypatch):
    """Scores a data set's predictions by its card; without data, as `adem-bench score` may."""
    monkeypatch.setenv("LMUData", str(tmp_path))

    def scored(name, *settings):
        path = tmp_path / f"model_{name}.tsv"
        path.write_text(goldens["sets"][name]["predictions"], encoding="utf-8")
        option = [f"{THEIRS[name]}=vlmevalkit"] if name in THEIRS else []
        task = build_task(FILES[name], tmp_path / "none", [*option, *settings])
        result = task.aggregate(task.import_predictions(path))
        assert not option or result.warnings[0]
        return {metric.name: metric for metric in result.metrics}

    return scored


def test_the_fixture_is_of_the_commit_that_the_rules_were_read_off(goldens):
    assert goldens["vlmevalkit"] == COMMIT


def test_every_option_is_read_as_vlmevalkit_reads_it(goldens):
    cases = goldens["readings"]["options"]
    assert len(cases) == 1000
    assert [read_option(answer, options) for answer, options, _ in cases] == [c[2] for c in cases]


def test_every_yes_and_no_is_read_as_vlmevalkit_reads_it(goldens):
    words = {"yes": "Yes", "no": "No", "other": "Unknown"}
    cases = goldens["readings"]["yes_no"]
    assert [words[read_yes_no(answer)] for answer, _ in cases] == [said for _, said in cases]


@pytest.mark.parametrize(("place", "metric"), list(enumerate(SCORES, 2)))
def test_every_short_answer_scores_what_vlmevalkit_says(goldens, place, metric):
    for case in goldens["readings"]["scores"]:
        found = VLMEVALKIT_SCORES[metric](case[0], texts_of(case[1]))
        assert found == pytest.approx(case[place], abs=1e-12), case


def percent(metric):
    return pytest.approx(metric.value * 100, abs=1e-9)


@pytest.mark.parametrize("name", ["MMBench_DEV_EN", "SEEDBench_IMG", "MMMU_DEV_VAL"])
def test_multiple_choice(score, goldens, name):
    found, theirs = score(name), goldens["sets"][name]["scores"]
    for place, split in enumerate(theirs["split"]):
        assert found[f"split/{split}"].value == pytest.approx(theirs["Overall"][place])
    if len(theirs["split"]) == 1:
        for column, group in {
            "attribute": "l2-category",
            "z": "l2-category",
            "x": "category",
        }.items():
            assert found[f"{group}/{column}"].value == pytest.approx(theirs[column][0])


def test_mme(score, goldens):
    found, theirs = score("MME"), goldens["sets"]["MME"]["scores"]
    assert found["cognition"].value == pytest.approx(theirs.pop("reasoning")[0])
    for name, (value,) in theirs.items():
        assert found[name].value == pytest.approx(value), name


def test_pope(score, goldens):
    found, theirs = score("POPE"), goldens["sets"]["POPE"]["scores"]
    ours = {"f1": "Overall", "accuracy": "acc", "precision": "precision", "recall": "recall"}
    for place, split in enumerate(theirs["split"]):
        prefix = "" if split == "Overall" else f"category/{split}."
        for metric, column in ours.items():
            assert percent(found[prefix + metric]) == theirs[column][place]


def test_hallusionbench(score, goldens):
    found, theirs = score("HallusionBench"), goldens["sets"]["HallusionBench"]["scores"]
    for place, split in enumerate(theirs["split"]):
        kind = "category" if split in ("VD", "VS") else "l2-category"
        prefix = "" if split == "Overall" else f"{kind}/{split}."
        for metric in ("aAcc", "fAcc", "qAcc"):
            assert percent(found[prefix + metric]) == theirs[metric][place]


@pytest.mark.parametrize("name", ["TextVQA_VAL", "DocVQA_VAL", "ChartQA_TEST"])
def test_short_answers(score, goldens, name):
    found, theirs = score(name), dict(goldens["sets"][name]["scores"])
    assert percent(found["score"]) == theirs.pop("Overall")[0]
    for split, (value,) in theirs.items():
        assert percent(found[f"split/{split}"]) == value


def test_ocrbench(score, goldens):
    found, theirs = score("OCRBench"), goldens["sets"]["OCRBench"]["scores"]
    assert found["final_score"].value == theirs["Final Score"]
    assert percent(found["accuracy"]) == theirs["Final Score"] / 250 * 100
    parts = dict(zip(list(found)[1:6], list(theirs)[:5], strict=True))
    assert {found[ours].value for ours in parts} == {theirs[name] for name in parts.values()}


def test_mathvista_before_the_judge(score, goldens):
    found, theirs = score("MathVista_MINI"), goldens["sets"]["MathVista_MINI"]["scores"]
    names = {"Overall": "accuracy", "geometry": "task/geometry", "logic": "skill/logic"}
    for place, name in enumerate(theirs["Task&Skill"]):
        if name in names:
            assert percent(found[names[name]]) == theirs["acc"][place]


def test_captions_that_are_not_tokenized(score, goldens):
    found, theirs = score("COCO_VAL"), goldens["sets"]["COCO_VAL"]["scores"]
    for order, value in enumerate(theirs["Bleu"], 1):
        assert percent(found[f"BLEU-{order}"]) == value
    assert percent(found["ROUGE-L"]) == theirs["ROUGE_L"]
    assert percent(found["CIDEr"]) == theirs["CIDEr"]
    assert found["METEOR"].value is None
