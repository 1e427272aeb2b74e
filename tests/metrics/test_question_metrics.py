"""Metrics of the vlm-evaluation suite's tasks: boxes, counts, groups by image, answerability."""

import pytest

from adem_bench.metrics.boxes import overlap, read_first, read_official
from adem_bench.metrics.grouped import (
    Scored,
    grouped_metrics,
    grouped_statistics,
    joined,
    widened,
)
from adem_bench.metrics.yes_no import read_word
from adem_bench.records import Metric
from adem_bench.tasks.vlm_evaluation.answerability import Verdict, answerability_metrics
from adem_bench.tasks.vlm_evaluation.tallyqa import NO_NUMBER, read_number, read_whole

LEFT = [0.0, 0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (LEFT, 1.0),
        ([0.5, 0.0, 1.0, 1.0], 0.0),
        ([0.6, 0.6, 0.7, 0.7], 0.0),
        ([0.25, 0.0, 0.75, 1.0], 1 / 3),
        ([0.0, 0.0, 0.25, 1.0], 0.5),
    ],
)
def test_overlap_is_shared_over_covered(other, expected):
    assert overlap(LEFT, other) == pytest.approx(expected)
    assert overlap(other, LEFT) == pytest.approx(expected)


def test_a_box_without_area_overlaps_nothing():
    assert overlap([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]) == 0.0


@pytest.mark.parametrize(
    ("text", "official", "first"),
    [
        ("[0.1, 0.2, 0.3, 0.4]", True, True),
        (" [0.1,.2, 0.3, 4e-1,]\n", True, False),
        ("[0.1 0.2 0.3 0.4]", False, True),
        ("(0.1, 0.2, 0.3, 0.4)", False, True),
        ("It is at [0.1, 0.2, 0.3, 0.4].", False, True),
        ("[0.1, 0.2, 0.3]", False, False),
        ("[0.3, 0.2, 0.1, 0.4]", False, False),
        ("[0.1, 0.2, 0.3, 1.4]", False, False),
        ("[-0.1, 0.2, 0.3, 0.4]", False, False),
        ("nowhere", False, False),
        ("[" * 20_000 + " " * 20_000, False, False),
        ("[" + "1" * 20_000, False, False),
    ],
)
def test_a_box_is_read_by_either_rule(text, official, first):
    box = [0.1, 0.2, 0.3, 0.4]
    assert read_official(text) == (box if official else [])
    assert read_first(text) == (box if first else [])


def test_a_box_in_thousandths_is_scaled():
    assert read_official("[100, 200, 300, 400]", 1000) == [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(
    ("text", "number", "whole"),
    [
        ("3", 3, 3),
        (" Three. ", 3, 3),
        ("There are 12 of them, not 5", 12, NO_NUMBER),
        ("none", 0, 0),
        ("a few", NO_NUMBER, NO_NUMBER),
        ("", NO_NUMBER, NO_NUMBER),
        ("9" * 5000, NO_NUMBER, NO_NUMBER),
        ("\u0664", NO_NUMBER, NO_NUMBER),
    ],
)
def test_numbers_are_read_in_digits_and_words(text, number, whole):
    assert (read_number(text), read_whole(text)) == (number, whole)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("True.", "yes"), ("It is false", "no"), ("Yes, false", "yes"), ("untrue", "other")],
)
def test_the_first_of_four_words_decides(text, expected):
    assert read_word(text) == expected


ANSWERS = [
    Scored("image 1", 1.0, ("a",)),
    Scored("image 1", 0.3, ("b",)),
    Scored("image 2", 0.0, ("a",)),
    Scored("image 3", 0.6, ()),
]


def test_means_are_over_questions_and_intervals_over_images():
    metrics = {m.name: m for m in grouped_metrics(ANSWERS, "accuracy", "images", ("a", "b", "c"))}
    assert metrics["accuracy"].value == pytest.approx(1.9 / 4)
    assert (metrics["a"].value, metrics["a"].count) == (0.5, 2)
    assert metrics["b"].value == 0.3
    assert (metrics["c"].value, metrics["c"].count) == (None, 0)
    assert metrics["accuracy"].interval == "bootstrap of images"
    assert metrics["accuracy"].low < metrics["accuracy"].value < metrics["accuracy"].high
    assert metrics["b"].low < 0.3 < metrics["b"].high  # one image: redrawing shows nothing
    statistics = grouped_statistics(ANSWERS, "accuracy", "images", ("a", "b", "c"))
    assert statistics.units == ("image 1", "image 2", "image 3")
    for name in ("accuracy", "a", "b"):
        assert statistics.value(name) == pytest.approx(metrics[name].value)


def test_right_or_wrong_answers_about_images_of_their_own_are_shares():
    answers = [Scored(str(number), float(number < 3)) for number in range(5)]
    (metric,) = grouped_metrics(answers, "accuracy", "images")
    assert (metric.value, metric.interval) == (0.6, "Wilson")
    assert grouped_statistics(answers, "accuracy", "images").shares == {"accuracy"}
    answers.append(Scored("0", 1.0))
    (metric,) = grouped_metrics(answers, "accuracy", "images")
    assert metric.interval == "bootstrap of images"


def test_joined_statistics_keep_their_figures():
    first = grouped_statistics(ANSWERS, "accuracy", "images", ())
    second = grouped_statistics(ANSWERS, "again", "images", ("a",))
    both = joined(joined(first, second, ["a"]), second)
    assert set(both.formulas) == {"accuracy", "again", "a"}
    assert both.value("accuracy") == both.value("again") == pytest.approx(1.9 / 4)
    assert both.value("a") == 0.5


def test_no_interval_is_a_point():
    metric = Metric("accuracy", 1.0, "fraction", 4, low=1.0, high=1.0)
    assert widened(metric, 4).low < 0.6
    assert widened(metric, 4).high == 1.0
    spread = Metric("accuracy", 0.5, "fraction", 4, low=0.4, high=0.6)
    assert widened(spread, 4) == spread


def verdicts(*pairs):
    return [Verdict(str(place), *pair) for place, pair in enumerate(pairs)]


def test_answerability_is_f1_and_the_area_of_one_threshold():
    found = {
        metric.name: metric.value
        for metric in answerability_metrics(
            verdicts((True, True), (True, False), (False, True), (False, False), (False, False))
        )
    }
    assert found["unanswerable.F1"] == 0.5
    # Recall 1/2 at precision 1/2, the rest at the base rate of 2/5.
    assert found["unanswerable.AP"] == pytest.approx(0.5 * 0.5 + 0.5 * 0.4)


def test_answerability_needs_an_unanswerable_question():
    assert all(metric.value is None for metric in answerability_metrics(verdicts((True, False))))
    silent = answerability_metrics(verdicts((False, True), (False, False)))
    assert [metric.value for metric in silent] == [0.0, 0.5]
