from __future__ import annotations

import pytest

from adem_bench.cards import load_recipe_card
from adem_bench.trainers.optimizer import learning_rate, peak_learning_rate


@pytest.mark.parametrize("name", ["sqa", "coco_caption", "instruction"])
def test_the_peak_is_the_published_one(name):
    assert peak_learning_rate(load_recipe_card(name)) == pytest.approx(1.125e-3, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "share"),
    [(0, 0), (1, 0.5), (1.5, 0.75), (2, 1), (11, 0.5), (20, 0), (6.5, 0.8535533905932737)],
)
def test_warm_up_is_linear_and_the_rest_half_a_cosine(epoch, share):
    recipe = load_recipe_card("sqa")
    assert learning_rate(epoch, recipe) == pytest.approx(1.125e-3 * share, abs=1e-12)


def test_without_warm_up_the_first_step_has_the_peak():
    recipe = load_recipe_card("sqa", ["warmup_epochs=0", "min_learning_rate=0.0001"])
    assert learning_rate(0, recipe) == pytest.approx(1.125e-3)
    assert learning_rate(20, recipe) == pytest.approx(1e-4)
