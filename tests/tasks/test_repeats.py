"""Runs of several repeats: figures against those worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adem_bench.cards import load_task_card
from adem_bench.metrics.paired import paired_differences
from adem_bench.records import Record, record_key
from adem_bench.tasks.base import build_task
from adem_bench.tasks.coco_caption import java
from adem_bench.tasks.repeats import INCOMPLETE, aggregate, by_repeat, export, statistics_of
from support.run_writer import choice


@pytest.fixture
def task(mini):
    return lambda name: build_task(name, mini)


def repeated(answers, make):
    """Records of samples, each given as the answers that it had."""
    return [
        replace(make(number, answer), repeat=repeat)
        for number, given in enumerate(answers)
        for repeat, answer in enumerate(given)
    ]


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


CHOICES = [(0, 0, 0), (0, 1, 0), (1, 2, 0), (1, 1, 1), (2, 2, 0), (3, 1, 2), (0, 0, 0), (0, 0, 1)]
"""Of eight questions, each asked three times; 0 is right."""


def test_accuracy_is_the_mean_of_the_repeats_with_votes_and_agreement(task):
    result = aggregate(task("mini_sqa"), repeated(CHOICES, choice))
    found = values(result)
    # Right answers in each repeat: 4, 3 and 5 of 8.
    assert found["average"] == pytest.approx((4 / 8 + 3 / 8 + 5 / 8) / 3)
    # At least one right: all but the questions 3 and 5.
    assert found["pass@3"] == 6 / 8
    # Voted 0: questions 0, 1, 6 and 7; in question 2 all differ, and the first answer is wrong.
    assert found["majority vote"] == 4 / 8
    assert found["agreement"] == 3 / 8
    assert (result.scored, result.failed) == (8, 0)
    assert {metric.count for metric in result.metrics if metric.name == "average"} == {8}


def test_the_interval_is_of_samples_and_not_of_answers(task):
    # Every sample is always or never right: three repeats say no more than one does.
    always = [(0,) * 3, (1,) * 3] * 50
    thrice = aggregate(task("mini_sqa"), repeated(always, choice)).metric("average")
    once = aggregate(task("mini_sqa"), repeated([a[:1] for a in always], choice))
    assert thrice.value == once.metric("average").value
    bounds = [(metric.low, metric.high) for metric in (thrice, once.metric("average"))]
    assert bounds[0] == pytest.approx(bounds[1], abs=0.02)  # the one redrawn, the other Wilson's
    mixed = [(0, 0, 1), (1, 1, 0)] * 50  # equally many right, but each sample differs less
    narrower = aggregate(task("mini_sqa"), repeated(mixed, choice)).metric("average")
    assert narrower.value == pytest.approx(0.5)
    assert narrower.high - narrower.low < (thrice.high - thrice.low) / 2


def test_a_sample_that_lacks_an_answer_fails_in_every_repeat(task):
    records = repeated(CHOICES, choice)
    records[1] = replace(records[1], prediction=None, score=None, error="cut")  # of question 0
    records = [replace(record, request_digest="asked") for record in records]
    result = aggregate(task("mini_sqa"), records)
    assert (result.scored, result.failed) == (7, 1)
    assert values(result)["average"] == pytest.approx((3 / 7 + 2 / 7 + 4 / 7) / 3)
    assert result.metric("average").if_wrong == pytest.approx((3 / 8 + 2 / 8 + 4 / 8) / 3)
    assert result.metric("pass@3").if_wrong == pytest.approx(5 / 8)
    assert [part[0].error for part in by_repeat(records)] == [INCOMPLETE, "cut", INCOMPLETE]


def test_a_malformed_row_fails_once(task):
    row = Record("9", "", "", None, None, None, error="malformed")
    result = aggregate(task("mini_sqa"), [*repeated(CHOICES, choice), row])
    assert (result.scored, result.failed) == (8, 1)


def mme(number, answer):
    """A question of MME about image number // 2; `y` is right in the first, `n` in the second."""
    gold = "Yes" if number % 2 == 0 else "No"
    said = {"y": "yes", "n": "no", "?": "other"}[answer]
    return Record(
        f"count/{number // 2}/{number % 2}", "", said, said, gold, float(said == gold.lower()),
        ("count", "perception"), f"count/{number // 2}",
    )  # fmt: skip


def test_scores_of_mme_are_means_of_the_repeats_scores(task):
    records = repeated([("y", "n"), ("n", "n"), ("y", "y"), ("y", "?")], mme)
    result = aggregate(task("mini_mme"), records)
    found = values(result)
    # First 3 of 4 questions and 1 of 2 images are right, then 2 of 4 and none.
    assert found["count"] == pytest.approx(((75 + 50) + (50 + 0)) / 2)
    assert found["count.acc+"] == pytest.approx(1 / 4)
    assert found["other"] == 1
    assert result.metric("other").count == 8
    assert found["pass@2"] == 3 / 4
    assert found["agreement"] == 2 / 4
    assert "images" in result.metric("pass@2").interval


CAPTIONS = [("a red dog", "a red dog"), ("a blue cat", "two blue cats"), ("a bird", "a tree")]
REFERENCES = [["a red dog"], ["a blue cat", "the cat"], ["a bird in a tree"]]


def caption(number, text):
    return Record(str(number), "", text, text, REFERENCES[number], None)


def test_scores_of_captions_are_means_of_the_repeats_scores(task, monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    records = repeated(CAPTIONS, caption)
    result = aggregate(task("mini_caption"), records)
    single = [
        aggregate(task("mini_caption"), [caption(n, c[r]) for n, c in enumerate(CAPTIONS)])
        for r in (0, 1)
    ]
    for name in ("CIDEr", "BLEU-4", "ROUGE-L"):
        first, second = (one.metric(name).value for one in single)
        assert first != second
        assert values(result)[name] == pytest.approx((first + second) / 2)
    assert values(result)["agreement"] == pytest.approx(1 / 3)
    assert "pass@2" not in values(result)


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("mini_sqa", repeated(CHOICES, choice)),
        ("mini_mme", repeated([("y", "n"), ("n", "n"), ("y", "y"), ("y", "?")], mme)),
        ("mini_caption", repeated(CAPTIONS, caption)),
    ],
)
def test_figures_are_functions_of_the_sums_that_are_redrawn(task, name, records, monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    statistics = statistics_of(load_task_card(name), records)
    found = values(aggregate(task(name), records))
    assert {"agreement"} < set(statistics.formulas) <= set(found)
    for metric in statistics.formulas:
        if found[metric] is not None:
            assert statistics.value(metric) == pytest.approx(found[metric]), metric


def test_copies_of_repeats_change_no_value_and_no_test():
    card = load_task_card("mini_sqa")
    once, thrice = repeated([a[:1] for a in CHOICES], choice), repeated(CHOICES, choice)
    copied = statistics_of(card, once, repeats=3)
    assert copied.value("average") == statistics_of(card, once).value("average")
    (difference,) = paired_differences(copied, statistics_of(card, thrice, repeats=3), ["average"])
    assert difference.value == pytest.approx(0)
    assert "pass@3" not in copied.formulas


def test_each_repeat_is_exported(task, tmp_path):
    test = task("mini_sqa")
    names = [sample.id for sample in test.samples()][:2]
    records = [
        replace(choice(0, place), sample_id=name, repeat=repeat)
        for place, name in enumerate(names)
        for repeat in (0, 1)
    ]
    written = {path.relative_to(tmp_path) for path in export(test, records, tmp_path)}
    assert {path.parts[0] for path in written} == {"repeat0", "repeat1"}
    single = export(test, records[::2], tmp_path / "single")
    for path in single:
        other = tmp_path / "repeat1" / path.relative_to(tmp_path / "single")
        assert path.read_bytes() == other.read_bytes()


def test_keys_tell_repeats_apart():
    keys = {record_key(name, repeat) for name in ("a", "a1", "1") for repeat in (0, 1, 11)}
    assert len(keys) == 9
    assert record_key("a", 0) == "a"
