"""Comparing runs that answered the same samples: what differs, how surely, and where."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from adem_bench.errors import ResultsError
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.paired import SIGNIFICANT, Difference, adjusted, paired_differences
from adem_bench.records import Record
from adem_bench.registry import TASK_KINDS
from adem_bench.results.runs import OpenedRun, own_statistics, unusable
from adem_bench.results.unlike import asked_differently, obstacles
from adem_bench.results.variants import letters
from adem_bench.tasks.repeats import is_scored


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A sample, or an image whose questions count together, on which two runs differ."""

    unit: str
    gap: float
    """How much better the second run is on it."""
    records: tuple[tuple[Record, Record], ...]
    """The records of both runs, for each sample of the unit, and each repeat that both have."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs side by side."""

    first: int
    second: int
    """Places in the runs that were given."""
    headline: Difference
    groups: tuple[Difference, ...]
    """Every other metric and group; their p-values are adjusted together over all pairs."""
    disagreements: tuple[Disagreement, ...]
    """The widest gap first; equally wide ones in the data's order."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs, pair by pair, on the samples that all of them answered."""

    headline: str
    samples: int
    noun: str
    """What is counted as one, in the plural: `questions`, `images`."""
    pairs: tuple[Pair, ...]
    remarks: tuple[str, ...]
    """What a reader must know: other prompts, samples left out, what `--force` let through."""


def is_significant(difference: Difference) -> bool:
    """Return whether a difference is shown at the 5% level, after Holm's adjustment."""
    return difference.adjusted_p_value < SIGNIFICANT


def compare_runs(
    runs: Sequence[OpenedRun], force: bool = False, names: Sequence[str] | None = None
) -> Comparison:
    """Compare every pair of runs on the samples that all of them answered.

    Args:
        runs: Two or more.
        force: Compare although data or task version differ; samples are paired by id, and those
            with other right answers are left out.
        names: Short ones of the runs, for remarks; A, B, … by default.

    Raises:
        ResultsError: fewer than two runs, one run twice, tasks of two kinds; other data or
            another task version without `force`; no sample in common.
    """
    _check(runs)
    unlike = obstacles(runs)
    if unlike and not force:
        raise ResultsError(
            f"these runs are not comparable: {'; '.join(unlike)}; "
            "--force compares the samples that they share"
        )
    shared = _shared(runs)
    if not shared:
        raise ResultsError("the runs have no answered sample in common")
    counts = {_repeats(run) for run in runs}
    # Means of repeats can be compared whatever their number: copies of all do not change them.
    repeats = None if len(counts) == 1 else math.lcm(*counts)
    runs = _with_equal_scores(runs)
    statistics = [_statistics(run, shared, repeats) for run in runs]
    for run, one in zip(runs, statistics, strict=True):
        if one.units != statistics[0].units:
            # A task takes other records as scored than `is_scored` does: someone edited them.
            raise unusable(run.folder, "its records are not those that its task wrote")
    everywhere = set.intersection(*(set(one.formulas) for one in statistics))
    metrics = [name for name in statistics[0].formulas if name in everywhere]
    wanted = runs[0].result.headline
    headline = wanted if wanted in metrics else metrics[0]
    groups = [name for name in metrics if name != headline and "." not in name]
    places = list(combinations(range(len(runs)), 2))
    lower = frozenset(getattr(TASK_KINDS.load(runs[0].kind), "lower_is_better", ()))
    found = [
        [
            replace(difference, lower_is_better=difference.metric in lower)
            for difference in paired_differences(statistics[a], statistics[b], [headline, *groups])
        ]
        for a, b in places
    ]
    if any(not part or part[0].metric != headline for part in found):
        raise ResultsError(f"{headline} is not defined on the samples that the runs share")
    headlines = adjusted([part[0] for part in found])
    rest = iter(adjusted([difference for part in found for difference in part[1:]]))
    pairs = tuple(
        Pair(
            a,
            b,
            headlines[place],
            tuple(next(rest) for _ in found[place][1:]),
            tuple(_disagreements(runs[a], runs[b], shared, statistics[a], statistics[b], headline)),
        )
        for place, (a, b) in enumerate(places)
    )
    remarks = [f"compared all the same: {obstacle}" for obstacle in unlike]
    remarks += asked_differently(runs, names or letters(runs))
    remarks += _left_out(runs, len(shared))
    remarks += _undefined(runs, statistics, metrics)
    if headline != wanted:
        remarks.append(f"{wanted} cannot be compared by sample; {headline} is compared instead")
    return Comparison(headline, len(shared), statistics[0].noun, pairs, tuple(remarks))


def _check(runs: Sequence[OpenedRun]) -> None:
    if len(runs) < 2:
        raise ResultsError("a comparison needs at least two runs")
    folders = [run.folder.resolve() for run in runs]
    twice = [folder for folder in folders if folders.count(folder) > 1]
    if twice:
        raise ResultsError(f"{twice[0]} is given twice; a run cannot be compared with itself")
    kinds = list(dict.fromkeys(run.kind for run in runs))
    if len(kinds) > 1:
        raise ResultsError(
            f"these runs are not comparable: tasks of the kinds {' and '.join(kinds)}; "
            "name runs of one task"
        )


def _shared(runs: Sequence[OpenedRun]) -> list[str]:
    """Return the ids of samples that every run answered, with the same right answer."""
    first, *others = map(_answered, runs)
    return [
        sample_id
        for sample_id, records in first.items()
        if all(
            sample_id in other and other[sample_id][0].reference == records[0].reference
            for other in others
        )
    ]


def _answered(run: OpenedRun) -> dict[str, list[Record]]:
    """Return the records of the samples that a run answered, as often as it asked them."""
    found: dict[str, list[Record]] = {}
    for record in run.records.values():
        found.setdefault(record.sample_id, []).append(record)
    times = _repeats(run)
    return {
        sample_id: records
        for sample_id, records in found.items()
        if len(records) == times and all(map(is_scored, records))
    }


def _repeats(run: OpenedRun) -> int:
    return 1 + max((record.repeat for record in run.records.values()), default=0)


def _left_out(runs: Sequence[OpenedRun], shared: int) -> Iterator[str]:
    """Yield how many samples are not compared, and why."""
    answered = [set(_answered(run)) for run in runs]
    by_all = len(set.intersection(*answered))
    most = max(len({record.sample_id for record in run.records.values()}) for run in runs)
    if by_all < most:
        yield f"{by_all} of {most} samples were answered by all of them; only these are compared"
    if shared < by_all:
        yield (
            f"{by_all - shared} of them have other right answers in different runs and are left "
            "out; `adem-bench validate` says whether a file was changed"
        )


def _undefined(
    runs: Sequence[OpenedRun], statistics: Sequence[Statistics], names: Sequence[str]
) -> Iterator[str]:
    """Yield the metrics that the runs have and the shared samples do not define."""
    had = {m.name for run in runs for m in run.result.metrics if m.value is not None}
    lacking = [
        name
        for name in names
        if name in had
        and "." not in name
        and any(math.isnan(one.value(name)) for one in statistics)
    ]
    if lacking:
        yield f"not defined on these samples, so left out of every sum: {', '.join(lacking)}"


def _with_equal_scores(runs: Sequence[OpenedRun]) -> list[OpenedRun]:
    """Return the runs with those named scores of their records that all of them have."""
    named = [{name for record in run.records.values() for name in record.scores} for run in runs]
    if all(names == named[0] for names in named):
        return list(runs)
    common = set.intersection(*named)
    return [
        replace(
            run,
            records={
                key: replace(record, scores={n: s for n, s in record.scores.items() if n in common})
                for key, record in run.records.items()
            },
        )
        for run in runs
    ]


def _statistics(run: OpenedRun, shared: Sequence[str], repeats: int | None) -> Statistics:
    answered = _answered(run)
    records = [record for sample_id in shared for record in answered[sample_id]]
    statistics = own_statistics(run, records, repeats)
    if len(statistics.units) == 0:
        raise unusable(run.folder, "its records have nothing that its task scores")
    return statistics


def _disagreements(
    first: OpenedRun,
    second: OpenedRun,
    shared: Sequence[str],
    of_first: Statistics,
    of_second: Statistics,
    headline: str,
) -> list[Disagreement]:
    """Return the units on which two runs differ.

    A unit's gap is that of its samples' scores, or of its own headline metric where samples have
    no score (captions).
    """
    answered = _answered(first), _answered(second)
    by_unit: dict[str, list[str]] = {unit: [] for unit in of_first.units}
    for sample_id in shared:
        unit = sample_id if sample_id in by_unit else answered[0][sample_id][0].cluster
        if unit in by_unit:
            by_unit[unit].append(sample_id)
    formula = of_first.formulas[headline]
    gaps = (formula(of_second.rows) - formula(of_first.rows)).tolist()
    found = []
    for gap, (unit, samples) in zip(gaps, by_unit.items(), strict=True):
        scores = [[_score(of[sample_id]) for of in answered] for sample_id in samples]
        if all(a is not None and b is not None for a, b in scores):
            gap = sum((b or 0.0) - (a or 0.0) for a, b in scores)
            differ = any(a != b for a, b in scores)
        else:
            differ = gap != 0
        if differ and not math.isnan(gap):
            pairs = [
                pair
                for sample_id in samples
                for pair in zip(answered[0][sample_id], answered[1][sample_id], strict=False)
            ]
            found.append(Disagreement(unit, gap, tuple(pairs)))
    return sorted(found, key=lambda d: -abs(d.gap))


def _score(records: Sequence[Record]) -> float | None:
    """Return the mean score of a sample's answers; None if they have none."""
    scores = [record.score for record in records if record.score is not None]
    return sum(scores) / len(scores) if scores and len(scores) == len(records) else None
