from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from adem_bench.metrics.intervals import Statistics, ratio
from adem_bench.metrics.paired import (
    MCNEMAR,
    SWAPS,
    Difference,
    adjusted,
    mcnemar,
    paired_differences,
    tango,
    units_enough,
    units_needed,
    unseen,
)
from support.deadlines import deadline


def scores(values, is_share=False):
    rows = np.stack([np.asarray(values, float), np.ones(len(values))], axis=1)
    units = tuple(map(str, range(len(values))))
    formulas = {"mean": lambda sums: ratio(sums[..., 0], sums[..., 1])}
    shares = frozenset({"mean"} if is_share else ())
    return Statistics("things", units, ("",) * len(units), rows, formulas, shares)


def difference(first, second, is_share=False):
    (found,) = paired_differences(scores(first, is_share), scores(second, is_share), ["mean"])
    return found


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (5, 0), (12, 4), (4, 12), (600, 700)])
def test_mcnemar_is_a_fair_coin(won, lost):
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_100_000_units_is_neither_slow_nor_out_of_range():
    with deadline():
        assert mcnemar(50_000, 50_300) == pytest.approx(0.345, abs=0.005)
        assert mcnemar(0, 100_000) == 0.0  # less than the smallest number


def test_shares_are_counted_and_their_difference_has_an_interval():
    first = [1] * 60 + [0] * 30 + [1] * 2 + [0] * 8
    second = [1] * 60 + [0] * 30 + [0] * 2 + [1] * 8
    found = difference(first, second, is_share=True)
    assert (found.test, found.won, found.lost, found.units) == (MCNEMAR, 8, 2, 100)
    assert found.p_value == mcnemar(8, 2)
    assert found.value == pytest.approx(0.06)
    # Of a paired difference: sqrt((b + c) / n - d^2) / sqrt(n).
    half = 1.96 * (0.10 - 0.06**2) ** 0.5 / 10
    assert found.low == pytest.approx(0.06 - half, abs=0.011)
    assert found.high == pytest.approx(0.06 + half, abs=0.011)


def test_pairing_is_sharper_than_two_intervals():
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 5, size=300)
    found = difference(difficulty, difficulty + generator.normal(0.2, 0.5, size=300))
    assert found.test == SWAPS
    assert 0 < found.low < 0.2 < found.high
    assert found.p_value < 0.001
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 300**0.5, rel=0.15)


@pytest.mark.parametrize("count", [3, 10, 60])
def test_without_a_difference_small_p_values_are_as_rare_as_they_should_be(count):
    generator = np.random.default_rng(1)
    first = generator.normal(size=(200, count))
    second = first + generator.normal(size=(200, count))
    p_values = np.array([difference(*pair).p_value for pair in zip(first, second, strict=True)])
    assert (p_values < 0.05).mean() <= 0.10
    assert (p_values < 0.01).mean() <= 0.03
    assert 0.4 <= p_values.mean() <= 0.8


def test_one_unit_shows_nothing_and_randomisation_is_exact_on_few():
    assert difference([0.2], [0.9]).p_value == 1.0
    # Of the 2^5 ways to swap, two part as far as five gaps of one sign.
    first, second = [0.0] * 5, [0.11, 0.22, 0.33, 0.44, 0.55]
    assert difference(first, second).p_value == pytest.approx(2 / 32, abs=0.008)


def test_many_units_alike_are_swapped_as_one_by_one():
    alike = difference([0.0] * 300 + [0.5] * 200, [0.5] * 300 + [0.0] * 200)
    # The gaps' sum has a deviation of sqrt(500) halves; 100 halves are 4.5 of them.
    assert alike.p_value < 0.001
    balanced = difference([0.0] * 255 + [0.5] * 245, [0.5] * 255 + [0.0] * 245)
    assert balanced.p_value == pytest.approx(0.69, abs=0.03)


def test_a_share_for_one_run_alone_is_no_share():
    right, partly = scores([1, 0, 1, 0], True), scores([1, 0.5, 1, 0.5], False)
    found = [
        paired_differences(first, second, ["mean"])[0]
        for first, second in ((right, partly), (partly, right))
    ]
    assert [one.test for one in found] == [SWAPS, SWAPS]
    assert found[0].p_value == found[1].p_value


def test_equal_runs_do_not_differ():
    found = difference([1.0, 2.0, 3.0, 4.0] * 5, [1.0, 2.0, 3.0, 4.0] * 5)
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert found.low < 0 < found.high


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 0), (0, 1)])
def test_shares_that_are_all_alike_have_tangos_interval(first, second):
    found = difference([first] * 300, [second] * 300, is_share=True)
    won, lost = 300 * (second > first), 300 * (first > second)
    assert (found.low, found.high) == tango(won, lost, 300)
    assert found.high - found.low > 0.01


def test_runs_that_agree_on_all_may_differ_on_units_that_were_not_drawn():
    values = [0.0, 0.5, 1.0] * 40
    found = difference(values, values)
    assert found.high == -found.low == pytest.approx(unseen(found))
    assert 3 / 120 < found.high < 4 / 120


def test_runs_that_differ_on_all_alike_may_differ_less_but_not_more_than_a_unit_can():
    found = difference([1.0] * 160, [0.5] * 160)
    assert found.value == found.low == -0.5  # none was seen to lose more
    assert found.high == pytest.approx(-0.5 + unseen(found))
    found = difference([0.0, 1.0] * 80, [-0.5, 0.5] * 80)
    assert (found.low, found.high) == pytest.approx((-0.5 - unseen(found), -0.5 + unseen(found)))


def test_units_that_are_all_alike_have_no_interval():
    found = difference([0.5] * 300, [0.5] * 300)
    assert np.isnan([found.low, found.high]).all()


def test_what_is_undefined_for_one_is_left_out_and_other_units_are_refused():
    nothing = scores([1.0, 2.0])
    nothing.rows[:] = 0
    assert paired_differences(nothing, scores([1.0, 2.0]), ["mean"]) == []
    with pytest.raises(ValueError, match="not paired"):
        paired_differences(scores([1.0]), scores([1.0, 2.0]), ["mean"])


def test_holm_multiplies_the_smallest_most_and_never_changes_the_order():
    # Holm 1979's method by hand: 4 * 0.01, max(0.04, 3 * 0.015), max(…, 2 * 0.03), max(…, 0.5).
    p_values = [0.03, 0.01, 0.5, 0.015]
    given = [Difference(str(p), 0, 0, 0, 0, p, p, "", 1) for p in p_values]
    found = adjusted(given)
    assert [d.metric for d in found] == [d.metric for d in given]
    assert [d.adjusted_p_value for d in found] == pytest.approx([0.06, 0.04, 0.5, 0.045])
    assert adjusted([]) == []
    # The running maximum matters: .03 * 2 = .06, and .04 may not fall below it.
    given = [Difference(str(p), 0, 0, 0, 0, p, p, "", 1) for p in (0.01, 0.04, 0.03, 0.005)]
    adjusted_p_values = [d.adjusted_p_value for d in adjusted(given)]
    assert adjusted_p_values == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    ("won", "lost", "count", "low", "high"),
    [
        (0, 0, 50, -3.84146 / 53.84146, 3.84146 / 53.84146),  # z^2 / (n + z^2): Wilson's of none
        (0, 0, 300, -3.84146 / 303.84146, 3.84146 / 303.84146),
    ],
)
def test_shares_of_which_none_differ_have_an_interval(won, lost, count, low, high):
    assert tango(won, lost, count) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(("won", "lost", "count"), [(9, 2, 60), (1, 40, 300), (0, 5, 30)])
def test_the_interval_of_shares_ends_where_its_score_is_at_the_level(won, lost, count):
    ends = tango(won, lost, count)
    assert tango(lost, won, count) == pytest.approx((-ends[1], -ends[0]))
    for gap in ends:
        # The likeliest shares with this difference, by search instead of by formula.
        lost_only = np.linspace(max(0, -gap), (1 - gap) / 2, 400_001)[1:-1]
        won_only = lost_only + gap
        rest = 1 - lost_only - won_only
        inside = (won_only > 0) & (rest > 0)
        likelihood = np.full(len(lost_only), -np.inf)
        likelihood[inside] = (
            won * np.log(won_only[inside])
            + lost * np.log(lost_only[inside])
            + (count - won - lost) * np.log(rest[inside])
        )
        best = lost_only[likelihood.argmax()]
        score = (won - lost - count * gap) / (count * (2 * best + gap * (1 - gap))) ** 0.5
        assert abs(score) == pytest.approx(1.95996, abs=0.01)


@pytest.mark.parametrize(("won", "lost"), [(0.0, 0.02), (0.01, 0.02), (0.05, 0.08), (0.2, 0.3)])
@pytest.mark.parametrize("count", [30, 300])
def test_a_margin_that_is_reached_is_rarely_taken_for_one_that_is_not(won, lost, count):
    # A gate whose margin is the true loss must pass in 2.5% of draws, and in few more.
    draws = np.random.default_rng(0).multinomial(count, [won, lost, 1 - won - lost], 4000)
    kinds, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    passed = [tango(int(w), int(x), count)[0] > won - lost + 1e-9 for w, x in kinds]
    assert times[passed].sum() / 4000 <= 0.05


def test_as_many_units_as_needed_show_the_difference_as_often_as_asked():
    generator = np.random.default_rng(2)
    gaps = generator.normal(0.0, 1.0, 400)
    pilot = difference(np.zeros(400), gaps)
    count = units_needed(pilot, 0.25)
    assert count == pytest.approx((1.959964 + 0.841621) ** 2 * gaps.var() / 0.25**2, rel=0.03)
    # A t test is close to the randomisation that is used, and a thousand of them take no time.
    drawn = generator.normal(0.25, gaps.std(), (4000, count))
    t = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / count**0.5)
    assert (abs(t) > 1.98).mean() == pytest.approx(0.8, abs=0.03)
    assert units_needed(pilot, 0.25, power=0.9) > count
    assert units_needed(pilot, 0.25, level=0.01) > count


def test_as_many_questions_as_needed_show_a_share_of_them():
    generator = np.random.default_rng(3)
    first = generator.random(300) < 0.7
    second = np.where(generator.random(300) < 0.2, generator.random(300) < 0.7, first)
    pilot = difference(first, second, is_share=True)
    count = units_needed(pilot, 0.05, level=0.05 / 4)
    apart = (pilot.won + pilot.lost) / 300
    draws = generator.multinomial(count, [(apart + 0.05) / 2, (apart - 0.05) / 2, 1 - apart], 3000)
    shown = [mcnemar(int(won), int(lost)) < 0.05 / 4 for won, lost, _ in draws]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.05)


def test_units_that_do_not_differ_say_nothing_of_how_many_are_needed():
    assert units_needed(difference([1.0, 2.0], [1.0, 2.0]), 0.1) is None


def test_what_no_unit_shows_may_be_as_much_as_a_few_units_can_move():
    halves = [0.0, 0.5, 1.0] * 40
    found = difference(halves, halves)
    assert (found.fell, found.rose) == (0, 0)
    # 3.7 of 120, each from 1 to 0.
    assert found.swing == pytest.approx(1 / 120)
    assert unseen(found) == pytest.approx(1.96**2 / (120 + 1.96**2), rel=1e-4)
    for count in (units_enough(found, 0.01) + step for step in (-2, 0)):
        like = difference([0.0, 0.5, 1.0] * (count // 3), [0.0, 0.5, 1.0] * (count // 3))
        assert (unseen(like) < 0.01) == (count >= units_enough(found, 0.01))
    better = difference([0.0, 1.0] * 60, [0.0, 1.0] * 59 + [1.0, 1.0])
    assert (better.fell, better.rose) == (0, 1)
    assert difference([1.0] * 120, [1.0] * 120).swing == 0.0
    assert difference([1.0, 0.0] * 60, [1.0] * 120).swing == pytest.approx(1 / 120)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_sums_of_no_figure_are_left_out_of_what_a_unit_can_change_without_a_warning():
    first, second = (
        replace(scores([value] * 20), formulas={"root": lambda sums: np.sqrt(sums[..., 0])})
        for value in (4.0, 0.1)
    )
    (found,) = paired_differences(first, second, ["root"])
    assert 0 <= found.swing < np.inf
