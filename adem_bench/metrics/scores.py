"""Statistics of any task whose samples have a score of their own."""

from __future__ import annotations

from collections.abc import Sequence

from adem_bench.metrics.intervals import Formula, Statistics, ratio
from adem_bench.records import Record

MEAN_SCORE = "mean score"


def score_statistics(records: Sequence[Record]) -> Statistics:
    """Return the mean score of all samples and of each group, by cluster (or by sample).

    Records without a score are left out.
    """
    import numpy as np

    scored = [record for record in records if record.score is not None]
    names = [MEAN_SCORE, *dict.fromkeys(group for r in scored for group in r.groups)]
    units = {name: place for place, name in enumerate(dict.fromkeys(map(_unit, scored)))}
    rows = np.zeros((len(units), 2 * len(names)))
    for record in scored:
        row = rows[units[_unit(record)]]
        for place, name in enumerate(names):
            if name == MEAN_SCORE or name in record.groups:
                row[place] += record.score or 0.0
                row[place + len(names)] += 1
    is_share = len(units) == len(scored) and all(record.score in (0, 1) for record in scored)
    return Statistics(
        noun="samples" if len(units) == len(scored) else "clusters",
        units=tuple(units),
        strata=("",) * len(units),
        rows=rows,
        formulas={name: _mean(place, len(names)) for place, name in enumerate(names)},
        shares=frozenset(names if is_share else ()),
    )


def _unit(record: Record) -> str:
    return record.cluster or record.sample_id


def _mean(place: int, width: int) -> Formula:
    return lambda sums: ratio(sums[..., place], sums[..., place + width])
