"""What always giving the most frequent answer would score: the floor under an accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from adem_bench.records import Metric

MAJORITY = "majority"


def majority(references: Sequence[Hashable]) -> Metric:
    """Return the share of the most frequent reference."""
    if not references:
        return Metric(MAJORITY, None, "fraction", 0, "nothing was answered")
    _, most = Counter(references).most_common(1)[0]
    note = "what always giving the most frequent answer would score"
    return Metric(MAJORITY, most / len(references), "fraction", len(references), note)
