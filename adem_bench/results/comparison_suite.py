"""Comparing models over all tasks that they ran: one table, tested together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from adem_bench.errors import ResultsError
from adem_bench.metrics.paired import SIGNIFICANT, adjusted
from adem_bench.registry import TASK_KINDS
from adem_bench.results.comparison import Comparison, Pair, compare_runs, is_significant
from adem_bench.results.comparison_sides import Group, Side, Unpaired, group_runs, place_name
from adem_bench.results.runs import OpenedRun, foreign_card, open_finished, unusable
from adem_bench.results.variants import Place, letters
from adem_bench.schemas import TaskCard

Unit = Literal["fraction", "points", "count"]


@dataclass(frozen=True, slots=True)
class TaskComparison:
    """The runs of one task on one split, of two or more sides."""

    place: Place
    settings: str
    """What sets it apart from other comparisons of the same place; mostly empty."""
    sides: tuple[int, ...]
    """Of each run, the place of its side."""
    runs: tuple[OpenedRun, ...]
    comparison: Comparison
    """The headlines' p-values are adjusted over all tasks."""

    @property
    def name(self) -> str:
        """Return `mini_sqa/test`."""
        return place_name(self.place, self.settings)

    def unit(self, metric: str) -> Unit:
        """Return the unit of a metric."""
        units: dict[str, Unit] = {m.name: m.unit for m in self.runs[0].result.metrics}
        return units.get(metric, "fraction")


@dataclass(frozen=True, slots=True)
class SuiteComparison:
    """Models side by side, over all tasks that at least two of them ran."""

    sides: tuple[Side, ...]
    tasks: tuple[TaskComparison, ...]
    unpaired: tuple[Unpaired, ...]
    """What cannot be compared, because a side lacks it."""

    @property
    def is_single(self) -> bool:
        """Whether it is of runs of one task alone."""
        return len(self.tasks) == 1 and not self.unpaired

    def headlines(self) -> Iterator[tuple[TaskComparison, Pair]]:
        """Yield every pair of runs, task by task."""
        return ((task, pair) for task in self.tasks for pair in task.comparison.pairs)

    @property
    def level(self) -> float:
        """The p-value below which any headline is shown to differ, however the others come out."""
        return SIGNIFICANT / sum(1 for _ in self.headlines())

    def counts(
        self, judged: Callable[[TaskComparison, Pair], bool] | None = None
    ) -> dict[tuple[int, int], tuple[int, int, int]]:
        """Return on how many tasks the second of two sides is better, worse, and not shown to be.

        Keys are the places of the two sides.

        Args:
            judged: Whether a pair counts; by default all do.
        """
        found: dict[tuple[int, int], list[int]] = {}
        for task, pair in self.headlines():
            key = task.sides[pair.first], task.sides[pair.second]
            counts = found.setdefault(key, [0, 0, 0])
            if judged and not judged(task, pair):
                continue
            is_better = pair.headline.gain > 0
            counts[(0 if is_better else 1) if is_significant(pair.headline) else 2] += 1
        return {key: (better, worse, open_) for key, (better, worse, open_) in found.items()}


def compare_suite(
    sides: Sequence[Side],
    tasks: Sequence[str] = (),
    force: bool = False,
    failed_are_wrong: bool = False,
) -> SuiteComparison:
    """Compare models task by task; headlines are tested together, over all tasks and pairs.

    Args:
        sides: What is compared.
        tasks: Names as `sqa`, `sqa/test` or `mini` (a group); all if empty.
        force: As for `compare_runs`.
        failed_are_wrong: Whether the last side's failed samples count as wrong answers; all others
            are left out.

    Raises:
        ResultsError: as for `group_runs` and `compare_runs`; the task is named.
    """
    groups, unpaired = group_runs(sides, tasks)
    names = letters(sides)
    found = [_compared(group, names, force, failed_are_wrong) for group in groups]
    headlines = iter(adjusted([pair.headline for task in found for pair in task.comparison.pairs]))
    together = [
        replace(
            task,
            comparison=replace(
                task.comparison,
                pairs=tuple(
                    replace(pair, headline=next(headlines)) for pair in task.comparison.pairs
                ),
            ),
        )
        for task in found
    ]
    return SuiteComparison(tuple(sides), tuple(together), tuple(unpaired))


def _compared(
    group: Group, names: Sequence[str], force: bool, failed_are_wrong: bool
) -> TaskComparison:
    runs = [open_finished(candidate.run) for _, candidate in group.members]
    sides = tuple(side for side, _ in group.members)
    remarks: tuple[str, ...] = ()
    judged = list(runs)
    if failed_are_wrong and sides[-1] == len(names) - 1 and runs[-1].result.failed:
        judged[-1], count = with_failed_as_wrong(runs[-1])
        if count:
            remarks = (f"{count} answers that the candidate failed to give count as wrong",)
    try:
        comparison = compare_runs(judged, force, [names[side] for side in sides])
    except ResultsError as error:
        raise ResultsError(f"{place_name(group.place, group.settings)}: {error}") from error
    comparison = replace(comparison, remarks=(*comparison.remarks, *remarks))
    return TaskComparison(group.place, group.settings, sides, tuple(runs), comparison)


def with_failed_as_wrong(run: OpenedRun) -> tuple[OpenedRun, int]:
    """Return a run in which each sample without an answer has a wrong one, and how many these are.

    Rows that could not be asked are no failures of the model's, and stay as they are; of a sample
    that was asked several times, all answers are wrong if one is missing.

    Raises:
        ResultsError: the run's task is not what its manifest says.
    """
    try:
        card = TaskCard.model_validate(run.manifest["task"]["card"])
        task: Any = TASK_KINDS.load(card.kind)(card, Path())
    except ValidationError as error:
        raise unusable(run.folder, foreign_card(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise unusable(run.folder, str(error)) from error
    wrong = getattr(task, "wrong_prediction", "")
    failed = {
        record.sample_id
        for record in run.records.values()
        if record.error is not None and record.request_digest
    }
    has_scores = any(record.score is not None for record in run.records.values())
    records = {
        key: record.as_wrong(wrong, has_scores) if record.sample_id in failed else record
        for key, record in run.records.items()
    }
    return replace(run, records=records), len(failed)
