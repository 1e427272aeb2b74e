import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from adem_bench.metrics.intervals import (
    Statistics,
    percentiles,
    ratio,
    resampled_sums,
    share_metric,
    wilson,
    with_intervals,
)
from adem_bench.records import Metric


def mean_statistics(values):
    rows = np.stack([np.asarray(values, float), np.ones(len(values))], axis=1)
    units = tuple(map(str, range(len(values))))
    formulas = {"mean": lambda sums: ratio(sums[..., 0], sums[..., 1])}
    return Statistics("things", units, ("",) * len(units), rows, formulas)


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (7, 7), (1, 1), (15, 148), (3980, 4241)])
def test_wilson_is_scipys(hits, count):
    theirs = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits, count) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_a_paper():
    # Newcombe 1998, Statistics in Medicine 17, table I: 15 of 148, method 3.
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_no_share_of_nothing():
    with pytest.raises(ValueError, match="0 of 0"):
        wilson(0, 0)


@pytest.mark.parametrize("kinds", [3, 400])
def test_resampled_means_are_distributed_as_the_central_limit_says(kinds):
    # Both ways of drawing: by kind where few rows differ, and one by one.
    values = np.random.default_rng(1).integers(kinds, size=400) / kinds
    statistics = mean_statistics(values)
    sums = resampled_sums(statistics.rows)
    means = statistics.formulas["mean"](sums)
    assert (sums[:, 1] == 400).all()
    assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / 20 / 100)
    assert means.std() == pytest.approx(values.std() / 20, rel=0.03)
    low, high = percentiles(means)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.05)


def test_about_95_of_100_intervals_hold_the_mean_of_a_known_distribution():
    generator = np.random.default_rng(2)
    held = 0
    for seed in range(300):
        statistics = mean_statistics(generator.normal(2.0, 1.0, size=100))
        sums = resampled_sums(statistics.rows, resamples=500, seed=seed)
        low, high = percentiles(statistics.formulas["mean"](sums))
        held += low <= 2.0 <= high
    # Three binomial standard errors around 95%.
    assert 0.912 < held / 300 < 0.988


def test_strata_keep_their_sizes_and_equal_seeds_give_equal_draws():
    rows = np.eye(3)[[0, 0, 1, 1, 1, 2]]
    strata = ("a", "a", "b", "b", "b", "a")
    sums = resampled_sums(rows, strata, resamples=200)
    assert (sums[:, 1] == 3).all()
    assert (sums[:, [0, 2]].sum(axis=1) == 3).all()
    assert sums[:, 0].std() > 0
    assert (sums == resampled_sums(rows, strata, resamples=200)).all()
    assert (sums != resampled_sums(rows, strata, resamples=200, seed=1)).any()


class Counting:
    """A generator of random numbers that notes how many it is asked for in each call."""

    def __init__(self, generator):
        self.generator = generator
        self.integers_of, self.multinomials_of = [], []

    def integers(self, high, size):
        self.integers_of.append(math.prod(size))
        return self.generator.integers(high, size=size)

    def multinomial(self, count, shares, size):
        self.multinomials_of.append(size * len(shares))
        return self.generator.multinomial(count, shares, size)


@pytest.fixture
def counting(monkeypatch):
    """The generators made from here on, which count."""
    made = []
    default = np.random.default_rng

    def make(seed):
        made.append(Counting(default(seed)))
        return made[-1]

    monkeypatch.setattr(np.random, "default_rng", make)
    return made


def test_resamples_of_scienceqas_test_split_are_drawn_in_few_large_blocks(counting):
    # As many numbers as there must be, in calls that are few and stay in the processor's cache.
    count, resamples = 4241, 10_000
    resampled_sums(np.arange(2.0 * count).reshape(count, 2), resamples=resamples)
    (generator,) = counting
    assert sum(generator.integers_of) == count * resamples
    assert max(generator.integers_of) < 2**21
    assert len(generator.integers_of) < 100
    assert generator.multinomials_of == []


def test_resamples_of_right_and_wrong_answers_are_two_numbers_each(counting):
    rows = np.ones((4241, 2))
    rows[::3, 0] = 0
    resampled_sums(rows, resamples=10_000)
    (generator,) = counting
    assert (generator.integers_of, generator.multinomials_of) == ([], [20_000])


def test_all_metrics_share_one_set_of_resamples(counting):
    statistics = mean_statistics(range(100))
    statistics = replace(statistics, formulas=dict.fromkeys("abc", statistics.formulas["mean"]))
    found = with_intervals(tuple(Metric(n, 1.0, "fraction", 100) for n in "abc"), statistics)
    assert len(counting) == 1
    assert found[0].low == found[1].low == found[2].low < found[0].high


def test_metrics_keep_the_interval_they_have_and_get_the_one_they_lack():
    statistics = mean_statistics([0, 1] * 50)
    mean = Metric("mean", 0.5, "fraction", 100)
    share, other = share_metric("share", 1, 2), Metric("other", 3, "count", 100)
    found = with_intervals((mean, share, other), statistics)
    assert found[1:] == (share, other)
    assert found[0].low == pytest.approx(0.4, abs=0.02)
    assert found[0].high == pytest.approx(0.6, abs=0.02)
    assert (found[0].interval, found[1].interval) == ("bootstrap of things", "Wilson")


def test_a_figure_that_is_never_defined_has_no_interval():
    statistics = mean_statistics([1.0])
    statistics.rows[:] = 0
    (found,) = with_intervals((Metric("mean", 0.0, "fraction", 1),), statistics)
    assert (found.low, found.high, found.interval) == (None, None, "")
    assert math.isnan(statistics.value("mean"))
