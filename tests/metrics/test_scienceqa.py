import math

import pytest

from adem_bench.metrics.intervals import wilson
from adem_bench.tasks.scienceqa.scores import (
    ScienceQAAnswer,
    groups_of,
    nine_columns,
    nine_statistics,
)

SUBJECTS = ["natural science", "social science", "language science"]
PUBLISHED = {
    "NAT": "54.60", "SOC": "31.75", "LAN": "31.78", "TXT": "90.86", "IMG": "41.69", "NO": "20.13",
    "G1-6": "57.47", "G7-12": "21.27", "average": "39.38",
}  # fmt: skip
"""What the published get_scores (eval_sqa.py, commit cec09b8) made of `made_up_answers`."""


def made_up_answers():
    for i in range(4241):
        options = 2 + i % 4
        groups = groups_of(SUBJECTS[i % 3], f"grade{1 + i * 7 % 12}", i % 4 == 0, i % 5 > 2)
        yield ScienceQAAnswer(-1 if i % 11 == 0 else i * 3 % options, i * i % options, groups)


def test_the_nine_columns_are_those_of_the_published_scorer():
    metrics = {metric.name: metric for metric in nine_columns(list(made_up_answers()))}
    assert {name: metrics[name].format() for name in PUBLISHED} == PUBLISHED
    assert metrics["average"].count == 4241
    assert metrics["unread"].value == 386


@pytest.mark.parametrize(
    ("question", "groups"),
    [
        (("natural science", "grade6", True, True), ("NAT", "TXT", "IMG", "G1-6")),
        (("social science", "grade7", False, False), ("SOC", "NO", "G7-12")),
        (("history", "grade13", False, True), ("IMG",)),
        (("", "", True, False), ("TXT",)),
        (("language science", "grade²", True, False), ("LAN", "TXT")),
    ],
)
def test_columns_of_a_question(question, groups):
    assert groups_of(*question) == groups


def test_an_empty_column_has_no_value():
    (nat, *_) = nine_columns([ScienceQAAnswer(0, 0, ("SOC",))])
    assert (nat.value, nat.count) == (None, 0)
    assert nat.note


def test_columns_carry_wilsons_interval_and_their_statistics_are_theirs():
    answers = {
        str(n): ScienceQAAnswer(n % 2, 0, ("NAT",) if n % 3 else ("SOC", "IMG")) for n in range(30)
    }
    statistics = nine_statistics(answers)
    metrics = {metric.name: metric for metric in nine_columns(list(answers.values()))}
    for name in ("NAT", "SOC", "IMG", "average"):
        metric = metrics[name]
        assert statistics.value(name) == metric.value
        right = round(metric.value * metric.count)
        assert (metric.low, metric.high) == wilson(right, metric.count)
        assert metric.interval == "Wilson"
    assert math.isnan(statistics.value("LAN"))
    assert statistics.units == tuple(answers)
