import json
from pathlib import Path

import pytest

from adem_bench.metrics.vqa import RULES, processed, vqa_accuracy

FIXTURES = Path(__file__).parents[1] / "fixtures" / "vlm_evaluation"
GOLDENS = json.loads((FIXTURES / "vqa_accuracy.json").read_text())


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_gives_what_its_program_gave(rule):
    for case in GOLDENS:
        found = RULES[rule].accuracy(case["prediction"], case["answers"])
        assert found == pytest.approx(case[rule], abs=1e-9), case


def test_the_goldens_tell_the_rules_apart():
    for rule in RULES:
        others = [other for other in RULES if other != rule]
        assert all(any(case[rule] != case[other] for case in GOLDENS) for other in others)


@pytest.mark.parametrize(("same", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1)])
def test_each_annotator_is_left_out_once(same, accuracy):
    answers = ["cat"] * same + [f"dog{number}" for number in range(10 - same)]
    assert vqa_accuracy("cat", answers) == pytest.approx(accuracy)
    assert vqa_accuracy("A cat.", answers) == pytest.approx(accuracy)


def test_where_all_agree_nothing_is_processed():
    assert vqa_accuracy("yes", ["yes"] * 10) == 1
    assert vqa_accuracy("Yes", ["yes"] * 10) == 0
    assert vqa_accuracy("t-shirt", ["t-shirt"] * 10) == 1
    assert RULES["vlm_evaluation"].accuracy("Yes", ["yes"] * 10) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The two  cats!", "2 cats"),
        ("dont", "don't"),
        ("shouldnt've", "shouldn't've"),
        ("1,000", "1000"),
        ("3.5 kg.", "3.5 kg"),
        ("black/white", "black white"),
        ("none", "0"),
        ("\n", ""),
    ],
)
def test_processing_of_an_answer(text, expected):
    assert processed(text) == expected


def test_no_answers_are_an_error():
    with pytest.raises(ValueError, match="no answers"):
        vqa_accuracy("cat", [])
    assert vqa_accuracy("cat", ["cat"]) == 0
