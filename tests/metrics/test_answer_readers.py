"""Reading answers never fails, whatever a model wrote."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adem_bench.metrics import multiple_choice, yes_no
from adem_bench.metrics.grouped import Scored
from adem_bench.tasks.tsv import mathvista_scores, short_answer_scores
from adem_bench.tasks.tsv.mathvista_scores import MathQuestion
from adem_bench.tasks.tsv.ocrbench_scores import FORMULAS, ocrbench_metrics
from support.deadlines import deadline

OPTIONS = {"A": "a cat", "B": "a dog", "C": "7"}
TEXTS = st.text(st.sampled_from("ABCa cat7.,%-+eEinf()[]*'\"\n\t \u2212\u0130\ud800é"), max_size=40)


@given(TEXTS)
@settings(max_examples=150, deadline=None)
def test_every_reader_returns_one_of_its_values(text):
    for read in multiple_choice.READERS.values():
        assert read(text, OPTIONS) in ("", "Z", *OPTIONS)
        assert read(text, {}) in ("", "Z")
    for said in yes_no.READERS.values():
        assert said(text) in ("yes", "no", "other")
    scores = (*short_answer_scores.SCORES.values(), *short_answer_scores.VLMEVALKIT_SCORES.values())
    for score in (*scores, short_answer_scores.contained_formula):
        assert 0 <= score(text, ["a cat", text[::-1], "7%", ""]) <= 1
    for kind in ("integer", "float", "list", "text"):
        question = MathQuestion("7", kind, None, {})
        for found in mathvista_scores.READERS.values():
            assert found(text, question)[1] in (True, False)


@pytest.mark.parametrize("letter", ["a", "7", "[", " ", "1,"])
def test_long_answers_are_read_in_one_pass(letter):
    # A pattern that goes back and forth would be at it for hours.
    text = letter * 1_000_000
    with deadline():
        for score in short_answer_scores.SCORES.values():
            assert 0 <= score(text, ["a cat"] * 10) <= 1
        for kind in ("integer", "float", "list", "text"):
            question = MathQuestion("7", kind, 2, {})
            assert mathvista_scores.read_extracted(text, question)[1] is False
        assert multiple_choice.READERS["vlmevalkit"](text, OPTIONS) in ("", "Z", *OPTIONS)


def test_a_long_answer_is_not_compared_letter_by_letter(monkeypatch):
    compared = []
    levenshtein = short_answer_scores.levenshtein
    monkeypatch.setattr(
        short_answer_scores,
        "levenshtein",
        lambda *texts: compared.append(texts) or levenshtein(*texts),
    )
    answers = ["a cat", "a cat that sits"]
    assert short_answer_scores.anls("a cat that sat", answers) == pytest.approx(1 - 2 / 15)
    assert compared == [("a cat that sat", "a cat that sits")]
    assert short_answer_scores.anls("a cat " * 20_000, answers) == 0
    assert len(compared) == 1


@pytest.mark.parametrize(
    ("prediction", "answers", "similarity"),
    [
        ("a cat", ["A  cat"], 1.0),
        ("a cot", ["a cat"], 0.8),
        ("abcd", ["abxy"], 0.5),
        ("abc", ["xyz", "abd"], 2 / 3),
        ("dog", ["a cat"], 0.0),
        ("", ["a"], 0.0),
        ("", [""], 1.0),
        ("a" * 1000, ["a cat"], 0.0),
    ],
)
def test_anls(prediction, answers, similarity):
    assert short_answer_scores.anls(prediction, answers) == pytest.approx(similarity)


@pytest.mark.parametrize(
    ("prediction", "answer", "is_right"),
    [
        ("14.7", "14", True), ("14.71", "14", False), ("22%", "0.22", True), ("yes", "Yes", True),
        ("0", "0", True), ("0.01", "0", False), ("1,000", "1000", False), ("-3", "-3.1", True),
    ],
)  # fmt: skip
def test_relaxed_accuracy(prediction, answer, is_right):
    assert short_answer_scores.relaxed(prediction, [answer]) == is_right


def test_pope_reads_the_first_sentence():
    assert yes_no.read_pope("There is a dog, no doubt. Yes") == "no"
    assert yes_no.read_pope("There is a dog. No cat") == "yes"


def test_ocrbench_gives_points_by_part_with_bounds_even_if_all_are_alike():
    right = [Scored(str(n), 1.0, (f"category/{FORMULAS}",)) for n in range(10)]
    metrics = {metric.name: metric for metric in ocrbench_metrics(right)}
    assert metrics["final_score"].value == metrics["handwritten_formulas"].value == 10
    assert 5 < metrics["final_score"].low < 10 == metrics["final_score"].high
    assert metrics["document_vqa"].value is None
    assert all(metric.value is None for metric in ocrbench_metrics([]))
