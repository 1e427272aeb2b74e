"""Runs that ask every sample several times (`run --repeats`): scores, intervals, exports.

Each repeat is scored as a run of its own would be, and figures are means over the repeats. A sample
with all its repeats is one unit: it is redrawn, and compared, as a whole. One that lacks the answer
of some repeat counts as failed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from adem_bench.errors import CardError
from adem_bench.metrics.grouped import (
    Scored,
    grouped_metrics,
    grouped_statistics,
    joined,
    score_statistics,
)
from adem_bench.metrics.intervals import Formula, Statistics, ratio, with_intervals
from adem_bench.records import UNJUDGED, Metric, Record, Result
from adem_bench.registry import TASK_KINDS
from adem_bench.schemas import TaskCard
from adem_bench.tasks.base import Judge, Judged, ScoresSets, SetScores, Task, judging_of

AGREEMENT, MAJORITY_VOTE = "agreement", "majority vote"
INCOMPLETE = "another repeat of the sample has no answer"
FOLDER = "repeat{number}"
"""Below the run folder: a repeat's predictions in the benchmark's format."""
JUDGED_BY, JUDGE_FAILED, SCORED_BY = "judged by ", "the judge failed on ", "scored by "
"""How warnings begin that are of one scoring alone."""
SCORING = "scoring"
"""Below that: what a task that scores whole sets keeps."""


def score(
    task: Task, records: Sequence[Record], folder: Path | None, judge: Judge | None = None
) -> tuple[list[Record], Result]:
    """Return a run's records with their scores, and its result.

    Of most tasks the records are as they were: each answer was scored when it was read. A task
    that scores whole sets (`ScoresSets`), or whose answers a judge reads, does so now.

    Args:
        task: With its data, if it scores whole sets or there is a judge.
        records: Of the run; those of a sample differ in `repeat`.
        folder: The run's; None for a folder that is thrown away.
        judge: Of a task that one can judge.

    Raises:
        CardError: the task cannot be scored without a judge.
        AdemBenchError: the set cannot be scored.
    """
    check_judge(task, judge is not None)
    records = [record.to_judge() for record in records]
    if not isinstance(task, ScoresSets):
        if judge is None or not isinstance(task, Judged):
            return records, aggregate(task, records)
        scored = task.judged(records, judge)
        result = aggregate(task, scored)
        said = tuple(text for text in result.warnings if text not in task.unjudged)
        return scored, _with_judge(replace(result, warnings=said), scored, judge)
    if folder is None:
        with TemporaryDirectory() as name:
            return score(task, records, Path(name), judge)
    parts = by_repeat(records)
    found: list[SetScores] = []
    asked = () if judging_of(task) == "no" else (judge,)
    for number, part in enumerate(parts):
        place = folder if len(parts) == 1 else folder / FOLDER.format(number=number)
        found.append(task.score_set(part, place / SCORING, *asked))
    scored = [
        _scored(record, found[record.repeat]) if is_scored(record) else record for record in records
    ]
    result = aggregate(task, scored, found)
    return scored, _with_judge(result, scored, judge) if judge else result


def check_judge(task: Task, has_judge: bool) -> None:
    """Refuse to score what only a judge can score.

    Args:
        task: Whose answers.
        has_judge: Whether there is one.

    Raises:
        CardError: there is none, and it is needed.
    """
    if judging_of(task) == "needed" and not has_judge:
        raise CardError(
            f"task {task.card.name} is scored by a judge model: name one, --judge MODEL "
            "(`adem-bench run --predict-only` keeps the answers, and `adem-bench score RUN "
            "--judge MODEL` has them judged)"
        )


def _scored(record: Record, found: SetScores) -> Record:
    if (reason := found.unjudged.get(record.sample_id)) is not None:
        return record.unjudged(reason)
    return replace(
        record,
        score=found.scores.get(record.sample_id),
        scores=found.figures.get(record.sample_id, {}),
    )


def _with_judge(result: Result, records: Sequence[Record], judge: Judge) -> Result:
    """Return a result that says who judged, and how often that failed."""
    said = [f"{JUDGED_BY}{judge.name}"]
    if failed := sum(record.is_unjudged for record in records):
        said.append(
            f"{JUDGE_FAILED}{failed} of {len(records)} answers, which have no score; the same "
            "command asks it again"
        )
    return replace(result, warnings=(*result.warnings, *said))


def is_of_scoring(warning: str) -> bool:
    """Return whether a warning is of one scoring alone: of its judge, or that it had none."""
    return warning.startswith((JUDGED_BY, JUDGE_FAILED, SCORED_BY)) or UNJUDGED in warning


def aggregate(task: Task, records: Sequence[Record], of_sets: Sequence[SetScores] = ()) -> Result:
    """Return the result of a run: that of `task.aggregate`, or the mean of every repeat's.

    With several repeats there are also `pass@K` (the best of a sample's K scores), `majority vote`
    (the score of its most frequent prediction; of several, the first) and `agreement` (whether its
    predictions are all the same). Counts of answers are sums.

    Args:
        task: Which scores; its data may not be available.
        records: Of the run; those of a sample differ in `repeat`.
        of_sets: What scoring the set of each repeat gave, where the task scores whole sets.
    """
    parts = by_repeat(records)
    results = [task.aggregate(part) for part in parts]
    if of_sets:
        results = [_with_set(*pair) for pair in zip(results, of_sets, strict=True)]
    unusable = sum(record.is_unusable_row for record in parts[0])
    results = [replace(result, unusable=unusable) for result in results]
    if len(parts) == 1:
        return results[0]
    statistics = statistics_of(task.card, records)
    by_name: dict[str, list[Metric]] = {}
    for metric in (metric for result in results for metric in result.metrics):
        by_name.setdefault(metric.name, []).append(metric)
    metrics = list(_with_intervals(list(by_name.values()), statistics))
    failed = sum(record.error is not None and bool(record.request_digest) for record in parts[0])
    for name, answers in _votes(parts, statistics.units).items():
        found = grouped_metrics(answers, name, statistics.noun, groups=())
        metrics += [_if_failed_are_wrong(metric, failed) for metric in found]
    warnings = dict.fromkeys(warning for result in results for warning in result.warnings)
    return replace(results[0], metrics=tuple(metrics), warnings=tuple(warnings))


def _with_set(result: Result, found: SetScores) -> Result:
    """Return a result with what scoring the whole set said besides, its figures to the last digit.

    Means come out of the records too, with intervals.
    """
    means = {metric.name: metric for metric in result.metrics}
    stated = [
        replace(means.pop(metric.name), value=metric.value, note=metric.note)
        if metric.name in means
        else metric
        for metric in found.metrics
    ]
    return replace(
        result,
        headline=found.headline or result.headline,
        metrics=(*stated, *means.values()),
        warnings=(*result.warnings, *found.warnings),
    )


def statistics_of(
    card: TaskCard, records: Sequence[Record], repeats: int | None = None
) -> Statistics:
    """Return what the metrics of a run rest on, by the kind of its task; no data is needed.

    A kind that says nothing has the mean score of its samples. Repeats have their columns side by
    side.

    Args:
        card: The run's.
        records: Of the run, or some of them.
        repeats: A multiple of those that the run has, whose columns are then there several times
            and what is said of repeats alone is not: so runs of several numbers of repeats can be
            compared. None: as many as it has.

    Raises:
        CardError: there is no such kind of task.
        TypeError: a record is not of this kind of task; so does `ValueError`.
    """
    kind: Any = TASK_KINDS.load(card.kind)
    parts = by_repeat(records)
    found: list[Statistics] = [
        kind.statistics(card, part) if hasattr(kind, "statistics") else score_statistics(part)
        for part in parts
    ]
    if repeats is not None:
        return _side_by_side(found * (repeats // len(found)))
    statistics = _side_by_side(found)
    if len(parts) > 1:
        for name, answers in _votes(parts, statistics.units).items():
            own = grouped_statistics(answers, name, statistics.noun, groups=())
            if set(own.units) <= set(statistics.units):
                statistics = joined(statistics, _aligned(own, statistics.units))
    return statistics


def export(task: Task, records: Sequence[Record], folder: Path) -> list[Path]:
    """Write the predictions in the benchmark's own formats, each repeat's into a folder of its own.

    Args:
        task: With its data.
        records: Of the run.
        folder: The run's, or one to write into.

    Returns:
        The files.
    """
    parts = by_repeat(records)
    if len(parts) == 1:
        return task.export(records, folder)
    return [
        path
        for number, part in enumerate(parts)
        for path in task.export(part, folder / FOLDER.format(number=number))
    ]


def by_repeat(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of each repeat, in their order; a sample counts in all or in none."""
    number = 1 + max((record.repeat for record in records), default=0)
    if number == 1:
        return [list(records)]
    samples: dict[str, dict[int, Record]] = {}
    for record in records:
        samples.setdefault(record.sample_id, {})[record.repeat] = record
    parts: list[list[Record]] = [[] for _ in range(number)]
    for found in samples.values():
        whole = len(found) == number and all(map(is_scored, found.values()))
        for repeat, part in enumerate(parts):
            record = found.get(repeat) or next(iter(found.values()))
            part.append(record if whole or record.error else _failed(record))
    return parts


def is_scored(record: Record) -> bool:
    """Return whether something was read out of an answer."""
    return record.error is None and record.prediction is not None


def _failed(record: Record) -> Record:
    return replace(record, prediction=None, score=None, error=INCOMPLETE)


def _mean(metrics: Sequence[Metric]) -> Metric:
    """Return one metric of all repeats: its mean, or the sum of what is counted."""
    values = [metric.value for metric in metrics if metric.value is not None]
    first = metrics[0]
    if not values:
        return first
    if first.unit == "count":
        count = sum(metric.count for metric in metrics)
        return replace(_bare(first), value=sum(values), count=count)
    if all(metric == first for metric in metrics):
        return first
    at_worst = [metric.if_wrong for metric in metrics if metric.if_wrong is not None]
    return replace(
        first, value=fmean(values), if_wrong=fmean(at_worst) if at_worst else first.if_wrong
    )


def _if_failed_are_wrong(metric: Metric, failed: int) -> Metric:
    if not failed or metric.value is None:
        return metric
    return replace(metric, if_wrong=metric.value * metric.count / (metric.count + failed))


def _with_intervals(
    repeated: Sequence[Sequence[Metric]], statistics: Statistics
) -> Iterator[Metric]:
    """Yield metrics of all repeats together, with the intervals of redrawn samples.

    Where nothing can be redrawn, or all redraws agree, the task's own interval stays if it is the
    same in every repeat. Counts have none.

    Args:
        repeated: Each metric as the repeats have it.
        statistics: Of all repeats.
    """
    means = tuple(map(_mean, repeated))
    redrawn = with_intervals(tuple(map(_bare, means)), statistics)
    for metrics, mean, found in zip(repeated, means, redrawn, strict=True):
        if mean.unit != "count" and found.low != found.high:
            yield found
        else:
            yield mean if mean == metrics[0] else _bare(mean)


def _bare(metric: Metric) -> Metric:
    return replace(metric, low=None, high=None, interval="")


def _votes(
    parts: Sequence[Sequence[Record]], units: Sequence[str]
) -> Mapping[str, Sequence[Scored]]:
    """Return what is said of repeats alone: by metric, the score of each sample.

    Args:
        parts: The records of each repeat, of the same samples in the same order.
        units: Those of the task's statistics.
    """
    best, voted, agreed = f"pass@{len(parts)}", MAJORITY_VOTE, AGREEMENT
    found: dict[str, list[Scored]] = {best: [], voted: [], agreed: []}
    known = frozenset(units)
    for records in zip(*parts, strict=True):
        first = records[0]
        if not is_scored(first):
            continue
        unit = first.sample_id if first.sample_id in known else first.cluster or first.sample_id
        texts = [json.dumps(record.prediction, sort_keys=True) for record in records]
        found[agreed].append(Scored(unit, float(len(set(texts)) == 1)))
        scores = [record.score for record in records if record.score is not None]
        if len(scores) == len(records):
            chosen, _ = Counter(texts).most_common(1)[0]
            found[best].append(Scored(unit, max(scores)))
            found[voted].append(Scored(unit, scores[texts.index(chosen)]))
    return {name: answers for name, answers in found.items() if answers}


def _side_by_side(parts: Sequence[Statistics]) -> Statistics:
    """Return the statistics of repeats as one: all their columns, and the means of their values."""
    import numpy as np

    first = parts[0]
    if len(parts) == 1:
        return first
    units = tuple(dict.fromkeys(unit for part in parts for unit in part.units))
    strata = {
        unit: stratum
        for part in parts
        for unit, stratum in zip(part.units, part.strata, strict=True)
    }
    rows = [_aligned(part, units).rows for part in parts]
    ends = np.cumsum([found.shape[1] for found in rows]).tolist()
    places = [slice(end - found.shape[1], end) for found, end in zip(rows, ends, strict=True)]
    names = dict.fromkeys(name for part in parts for name in part.formulas)
    return Statistics(
        noun=first.noun,
        units=units,
        strata=tuple(strata[unit] for unit in units),
        rows=np.concatenate(rows, axis=1),
        formulas={
            name: _mean_of(
                [
                    (part.formulas[name], place)
                    for part, place in zip(parts, places, strict=True)
                    if name in part.formulas
                ]
            )
            for name in names
        },
    )


def _mean_of(parts: Sequence[tuple[Formula, slice]]) -> Formula:
    """Return the mean of formulas, each of columns of its own, where they are defined."""
    import numpy as np

    def mean(sums: Any) -> Any:
        values = np.stack([formula(sums[..., place]) for formula, place in parts])
        defined = np.isfinite(values)
        return ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0))

    return mean


def _aligned(statistics: Statistics, units: tuple[str, ...]) -> Statistics:
    """Return statistics of more units, in their order; those that it lacks count nothing."""
    import numpy as np

    if statistics.units == units:
        return statistics
    place = {unit: number for number, unit in enumerate(units)}
    rows = np.zeros((len(units), statistics.rows.shape[1]))
    rows[[place[unit] for unit in statistics.units]] = statistics.rows
    return replace(statistics, units=units, strata=("",) * len(units), rows=rows)
