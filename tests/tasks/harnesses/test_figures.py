"""What samples add to figures: of figures and row scores that ms-vlmeval 0.0.20 wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adem_bench.tasks.harnesses.figures import own_scores, parts_of_figures, unit_of

WRITTEN = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "harnesses" / "vlmevalkit.json").read_text()
)
"""adem-tiny's answers to 40 questions each of the mini world, as POPE and as ScienceQA_VAL."""


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("POPE", ["split=Overall|acc", "split=existence|acc"]),
        ("ScienceQA_VAL", [f"split=none|{name}" for name in ("Overall", "LAN", "NAT", "SOC")]),
    ],
)
def test_figures_that_are_means_are_found_and_equal_them(name, means):
    found = WRITTEN[name]
    assert found["version"] == "0.0.20"
    parts = parts_of_figures(found["figures"], found["vectors"], found["labels"])
    assert set(means) <= set(parts)
    for figure, part in parts.items():
        mean = sum(part.values()) / len(part)
        assert mean == pytest.approx(found["figures"][figure], rel=1e-12)
    others = {"split=Overall|Overall", "split=Overall|precision", "split=existence|precision"}
    assert not others & set(parts)
    scores = own_scores(found["headline"], parts, found["vectors"])
    assert len(scores) == 40
    assert set(scores.values()) <= {0.0, 1.0}


def test_numbers_that_are_all_alike_prove_nothing_of_other_figures():
    vectors = {"score": {"a": 0.0, "b": 0.0}}
    figures = {"split=none|Overall": 0.0, "perception": 0.0, "Color|Overall": 0.0}
    assert list(parts_of_figures(figures, vectors, {})) == ["split=none|Overall", "Color|Overall"]
    allowed = {"perception": ["score"]}
    assert list(parts_of_figures(figures, vectors, {}, allowed)) == ["perception"]


def test_scores_are_from_0_to_1_whatever_the_figures_unit():
    assert own_scores("x", {"x": {"a": 100.0, "b": 0.0}}, {}) == {"a": 1.0, "b": 0.0}
    assert own_scores("x", {}, {"hit": {"a": 1.0}, "other": {"a": 0.5}}) == {"a": 1.0}
    assert own_scores("x", {}, {"other": {"a": 0.5}}) == {}
    assert own_scores("x", {}, {"score": {"a": -1.0}}) == {}


@pytest.mark.parametrize(
    ("figures", "parts", "unit"),
    [
        ({"acc": 0.5, "f1": 0.0}, {}, "fraction"),
        ({"acc": 1.0}, {"acc": {"a": 1.0, "b": 1.0}}, "fraction"),
        ({"acc": 62.5, "f1": 0.5}, {}, "points"),
        ({"total": 0.0, "ocr": 0.0}, {}, "points"),
        ({"acc": 0.5, "f1": 0.4}, {"acc": {"a": 100.0} | dict.fromkeys(range(199), 0.0)}, "points"),
        ({"gain": -0.1}, {}, "points"),
    ],
)
def test_figures_are_per_cent_only_where_that_is_known(figures, parts, unit):
    assert unit_of(figures, parts) == unit
