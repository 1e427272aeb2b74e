"""Intervals of few units: counted, kept in metrics.json, and not shown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adem_bench.metrics.grouped import Scored, grouped_metrics
from adem_bench.metrics.intervals import Statistics, independent_units, ratio
from adem_bench.metrics.paired import paired_differences
from adem_bench.records import MIN_UNITS


def statistics(scores, strata=None):
    rows = np.stack([np.asarray(scores, float), np.ones(len(scores))], axis=1)
    names = tuple(map(str, range(len(scores))))
    mean = {"mean": lambda sums: ratio(sums[..., 0], sums[..., 1])}
    return Statistics("images", names, strata or ("",) * len(names), rows, mean)


@pytest.mark.parametrize(("images", "shown"), [(3, False), (MIN_UNITS - 1, False), (20, True)])
def test_units_are_images_not_questions(images, shown):
    answers = [Scored(f"image {n // 2}", float(n % 3 == 0)) for n in range(2 * images)]
    (metric,) = grouped_metrics(answers, "accuracy", "images")
    assert (metric.units, metric.count) == (images, 2 * images)
    assert metric.low is not None
    assert bool(metric.format_interval()) is shown
    assert (metric.without_false_interval().low is not None) is shown


def test_a_share_of_few_answers_keeps_wilson_s_interval():
    (metric,) = grouped_metrics([Scored("a", 1.0), Scored("b", 0.0)], "accuracy", "images")
    assert metric.format_interval() == "[9.45, 90.55]"


def test_each_further_stratum_costs_a_unit():
    strata = tuple("ab"[n % 2] for n in range(20))
    found = statistics(range(20), strata)
    assert independent_units(found, found.formulas["mean"]) == 19


@pytest.mark.parametrize(("count", "shown"), [(19, False), (20, True)])
def test_a_difference_of_few_units_has_a_p_value_and_no_interval(count, shown):
    first, second = statistics(range(count)), statistics([n * 1.5 for n in range(count)])
    (found,) = paired_differences(first, second, ["mean"])
    assert math.isfinite(found.low) is shown
    assert math.isfinite(found.p_value)
