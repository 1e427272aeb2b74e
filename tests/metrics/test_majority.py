from __future__ import annotations

from adem_bench.metrics.grouped import majority


def test_the_most_frequent_answer_sets_the_floor():
    metric = majority([0, 1, 1, 2, 1])
    assert (metric.value, metric.count) == (0.6, 5)
    assert majority([]).value is None
