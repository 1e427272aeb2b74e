import math

from adem_bench.metrics.grouped import MEAN_SCORE, score_statistics
from adem_bench.records import Record


def record(name, score, groups=(), cluster=None):
    return Record(name, "", "", "x", "y", score, groups, cluster)


def test_mean_scores_of_all_and_of_groups_by_sample():
    records = [record("1", 1.0, ("a",)), record("2", 0.0, ("a", "b")), record("3", None, ("c",))]
    statistics = score_statistics(records)
    assert statistics.units == ("1", "2")
    assert statistics.value(MEAN_SCORE) == 0.5
    assert (statistics.value("a"), statistics.value("b")) == (0.5, 0.0)
    assert statistics.shares == {MEAN_SCORE, "a", "b"}
    assert statistics.noun == "samples"


def test_samples_of_a_cluster_are_one_unit_and_no_share():
    records = [record("1", 1.0, (), "x"), record("2", 0.0, (), "x"), record("3", 1.0, (), "y")]
    statistics = score_statistics(records)
    assert statistics.units == ("x", "y")
    assert statistics.rows.tolist() == [[1, 2], [1, 1]]
    assert statistics.shares == frozenset()
    assert statistics.noun == "clusters"


def test_scores_between_right_and_wrong_are_no_shares():
    statistics = score_statistics([record("1", 0.3), record("2", 0.9)])
    assert statistics.shares == frozenset()
    assert math.isclose(statistics.value(MEAN_SCORE), 0.6)
