import numpy as np
import pytest

from adem_bench.tasks.mme.scores import MmeAnswer, mme_scores, mme_statistics, with_mme_intervals

OUTCOMES = {"both": ("yes", "no"), "first": ("yes", "yes"), "none": ("no", "yes")}
"""What was said to a question whose answer is yes, then to one whose answer is no."""


def answers(images):
    """Questions of images given as subtask and outcome."""
    return [
        MmeAnswer(subtask, f"{subtask}/{place}", said, gold)
        for place, (subtask, outcome) in enumerate(images)
        for said, gold in zip(OUTCOMES[outcome], ("yes", "no"), strict=True)
    ]


def intervals(images, subtasks=("count", "color")):
    given = answers(images)
    return {m.name: m for m in with_mme_intervals(mme_scores(given, subtasks), given)}


def test_formulas_are_the_scores():
    images = [("count", "both")] * 5 + [("count", "first")] * 3 + [("color", "none")] * 2
    images += [("color", "both"), ("color", "first")]
    given = answers(images)[:-1]  # the last image has one answer only
    statistics = mme_statistics(given)
    scores = {metric.name: metric for metric in mme_scores(given, ("count", "color"))}
    for name in statistics.formulas:
        assert statistics.value(name) == pytest.approx(scores[name].value, rel=1e-12), name
    assert {"perception", "accuracy", "count", "color.acc+"} <= set(statistics.formulas)
    assert "cognition" not in statistics.formulas


def test_the_interval_of_a_score_is_that_of_drawn_images():
    # A score of an image is 200, 50 or 0 points: the mean's deviation is known.
    images = [("count", "both")] * 60 + [("count", "first")] * 30 + [("count", "none")] * 10
    points = np.repeat([200, 50, 0], [60, 30, 10])
    found = intervals(images)["count"]
    assert found.value == points.mean()
    expected = 2 * 1.96 * points.std() / 10
    assert found.high - found.low == pytest.approx(expected, rel=0.05)
    assert found.interval == "bootstrap of images"


def test_about_95_of_100_intervals_hold_the_score():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        drawn = generator.choice(list(OUTCOMES), size=80, p=[0.5, 0.3, 0.2])
        found = intervals([("count", outcome) for outcome in drawn])["count"]
        held += found.low <= 0.5 * 200 + 0.3 * 50 <= found.high
    assert 89 <= held <= 100


def test_two_questions_of_an_image_are_one_unit():
    together = intervals([("count", "both")] * 20 + [("count", "none")] * 20)["accuracy"]
    # Forty images all right or all wrong tell as much as forty questions, not as eighty.
    assert together.high - together.low == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.06)


def test_images_all_alike_are_not_taken_for_certainty():
    found = intervals([("count", "both")] * 30 + [("color", "none")] * 30)
    assert (found["count"].value, found["count"].high) == (200.0, 200.0)
    assert found["count"].low == pytest.approx(200 * 0.8865, abs=0.1)
    assert (found["color"].value, found["color"].low) == (0.0, 0.0)
    assert found["color"].high == pytest.approx(200 * 0.1135, abs=0.1)
    assert found["count.acc+"].interval == "Wilson"
    # Of the sum, the half-widths of its independent parts by their squares.
    assert found["perception"].value - found["perception"].low == pytest.approx(22.7, abs=0.1)
    assert found["perception"].high - found["perception"].value == pytest.approx(22.7, abs=0.1)
    assert (found["count.recall"].low, found["count.recall"].high) == (None, None)


def test_subtasks_all_alike_add_to_the_spread_of_the_sum():
    mixed = [("count", "both")] * 15 + [("count", "none")] * 15
    alone = intervals(mixed)["perception"]
    joined = intervals([*mixed, *[("color", "both")] * 30])["perception"]
    below = alone.value - alone.low
    assert joined.value - joined.low == pytest.approx((below**2 + 22.7**2) ** 0.5, rel=0.02)


def test_images_are_redrawn_within_their_subtask():
    # 40 easy and 10 hard images: drawn from one urn, their shares would vary too.
    found = intervals([("count", "both")] * 40 + [("color", "none")] * 10)["accuracy"]
    assert found.interval.startswith("Wilson")  # no redraw differs within the subtasks


def test_nothing_answered_has_no_intervals():
    metrics = with_mme_intervals(mme_scores([], ("count",)), [])
    assert all(metric.low is None for metric in metrics)
