"""What every format of a comparison says in the same words: cells of tables, and other lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from adem_bench.metrics.paired import Difference
from adem_bench.records import MIN_UNITS, Metric
from adem_bench.results.comparison import Pair, is_significant
from adem_bench.results.comparison_gate import Gate
from adem_bench.results.comparison_sides import place_name
from adem_bench.results.comparison_sizes import Needed, Power
from adem_bench.results.comparison_suite import SuiteComparison, TaskComparison
from adem_bench.results.variants import labels, letters

HEADER = ("metric", "runs", "first", "second", "difference", "95% interval", "p", "Holm p", "n")
HEADER_END = ("test", "reading")
TASK, NEEDED = "task", "n needed"
NOT_JUDGED = "not judged"
RIGHT = ("first", "second", "difference", "95% interval", "p", "Holm p", "n", NEEDED)
FOOTNOTE = (
    "p: of no difference, two-sided; Holm p: adjusted for all differences of its table. "
    "The interval is from redrawn units, not from the test, and not adjusted: the two can disagree "
    f"at the margin. No interval is shown of fewer than {MIN_UNITS} independent units, or of units "
    "that are all alike in both runs. "
    "A difference counts as shown where Holm p < 0.05."
)


@dataclass(frozen=True)
class Findings:
    """A comparison with all that is said of it."""

    suite: SuiteComparison
    power: Power
    gate: Gate | None = None

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """Short names of the sides, in order."""
        return tuple(letters(self.suite.sides))

    @cached_property
    def sides(self) -> list[tuple[str, str, str]]:
        """Letter, model, and what was given, of each side."""
        suite = self.suite
        if suite.is_single:
            runs = suite.tasks[0].runs
            called = labels([run.run for run in runs])
            names = list(zip(called, (str(run.folder) for run in runs), strict=True))
        else:
            names = [(side.label, side.given) for side in suite.sides]
        return [(letter, *found) for letter, found in zip(self.letters, names, strict=True)]

    @property
    def title(self) -> str:
        """What is compared."""
        if self.suite.is_single:
            task = self.suite.tasks[0]
            result = task.runs[0].result
            samples = counted(task.comparison.samples, "samples")
            return f"{result.task}, split {result.split}: {samples}"
        count = sum(task.comparison.samples for task in self.suite.tasks)
        tasks = counted(len(self.suite.tasks), "tasks")
        return f"{' and '.join(self.letters)} on {tasks}: {counted(count, 'samples')}"

    def header(self) -> tuple[str, ...]:
        """Return the columns of the headlines."""
        return (*(() if self.suite.is_single else (TASK,)), *HEADER, NEEDED, *HEADER_END)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the headlines' cells, one row for each task and pair of runs."""
        return [self._row(task, pair) for task, pair in self.suite.headlines()]

    def _row(self, task: TaskComparison, pair: Pair) -> tuple[str, ...]:
        unit = task.unit(pair.headline.metric)
        cells = difference_cells(pair.headline, self.who(task, pair), unit)
        cells = (*cells[:-1], self.reading(task, pair))
        split = len(HEADER)
        name = () if self.suite.is_single else (task.name,)
        return (*name, *cells[:split], self.needed(task, pair), *cells[split:])

    def group_rows(self, task: TaskComparison) -> list[tuple[str, ...]]:
        """Return the cells of a task's other metrics, below `HEADER` and `HEADER_END`."""
        return [
            difference_cells(found, self.who(task, pair), task.unit(found.metric))
            for pair in task.comparison.pairs
            for found in pair.groups
        ]

    def who(self, task: TaskComparison, pair: Pair) -> tuple[str, str]:
        """Return the letters of two runs."""
        return (
            self.letters[task.sides[pair.first]],
            self.letters[task.sides[pair.second]],
        )

    def is_judged(self, task: TaskComparison, pair: Pair) -> bool:
        """Return whether a pair is not one of those that the gate could not judge."""
        if (task.sides[pair.first], task.sides[pair.second]) != (0, len(self.suite.sides) - 1):
            return True
        return task.name not in self._not_judged

    @cached_property
    def _not_judged(self) -> set[str]:
        verdicts = self.gate.verdicts if self.gate else ()
        return {verdict.task for verdict in verdicts if verdict.outcome == NOT_JUDGED}

    def reading(self, task: TaskComparison, pair: Pair) -> str:
        """Return what the difference of a headline says, `not judged` of what the gate cannot."""
        if not self.is_judged(task, pair):
            return NOT_JUDGED
        return reading(pair.headline, self.who(task, pair))

    def units_needed(self, task: TaskComparison, pair: Pair) -> Needed | None:
        """Return how many units would show a difference; None where samples are not what lacks."""
        if is_significant(pair.headline) or not self.is_judged(task, pair):
            return None
        return self.power.needed(task, pair.headline)

    def needed(self, task: TaskComparison, pair: Pair) -> str:
        """Return `1,900 for 1.00`, or nothing where a difference was shown or none is judged."""
        found = self.units_needed(task, pair)
        if found is None:
            return ""
        size = Metric("", found.size, task.unit(pair.headline.metric), 0).format()
        return f"{'unknown' if found.units is None else f'{found.units:,}'} for {size}"

    def remarks(self) -> Iterator[str]:
        """Yield what a reader must know, and what is not compared."""
        for task in self.suite.tasks:
            for remark in task.comparison.remarks:
                yield remark if self.suite.is_single else f"{task.name}: {remark}"
        for unpaired in self.suite.unpaired:
            lacking = [letter for n, letter in enumerate(self.letters) if n not in unpaired.sides]
            name = place_name(unpaired.place, unpaired.settings)
            verb = "has" if len(lacking) == 1 else "have"
            yield f"not compared: {name}, of which {' and '.join(lacking)} {verb} no run"

    def summary(self) -> Iterator[str]:
        """Yield in a line how often each side was better than each earlier one."""
        for (first, second), (better, worse, open_) in self.suite.counts(self.is_judged).items():
            unjudged = self.not_judged(first, second)
            more = f", {NOT_JUDGED} on {unjudged}" if unjudged else ""
            yield (
                f"{self.letters[second]} against {self.letters[first]}: better on {better}, "
                f"worse on {worse}, no difference shown on {open_}{more}"
            )

    def not_judged(self, first: int, second: int) -> int:
        """Return on how many tasks the gate could not judge a pair of sides."""
        return sum(
            not self.is_judged(task, pair)
            for task, pair in self.suite.headlines()
            if (task.sides[pair.first], task.sides[pair.second]) == (first, second)
        )

    def footnotes(self) -> Iterator[str]:
        """Yield what the columns mean."""
        yield FOOTNOTE
        if any(row[self.header().index(NEEDED)] for row in self.rows()):
            count = sum(1 for _ in self.suite.headlines())
            level = "0.05" if count == 1 else f"0.05/{count}"
            yield (
                f"{NEEDED}: where nothing was shown, how many units of n's kind it takes to show a "
                f"true difference of that size {self.power.power:.0%} of the time, at p < {level}; "
                "no difference shown is not the same as no difference."
            )


def difference_cells(
    difference: Difference,
    who: tuple[str, str],
    unit: Literal["fraction", "points", "count"],
) -> tuple[str, ...]:
    """Return a difference as tables print it, in the order of their columns.

    Args:
        difference: Of a metric between two runs.
        who: The names of the two.
        unit: Of the metric.
    """

    def shown(value: float) -> str:
        return Metric("", value, unit, 0).format()

    interval = Metric("", 0.0, unit, 0, "", difference.low, difference.high).format_interval()
    test = difference.test
    if difference.won is not None:
        test += f" (+{difference.won} -{difference.lost})"
    return (
        difference.metric,
        f"{who[0]}, {who[1]}",
        shown(difference.first),
        shown(difference.second),
        f"{'+' if difference.value > 0 else ''}{shown(difference.value)}",
        interval,
        shown_p_value(difference.p_value),
        shown_p_value(difference.adjusted_p_value),
        str(difference.units),
        test,
        reading(difference, who),
    )


def counted(count: int, noun: str) -> str:
    """Return `1 image` or `3 images`, of a noun in the plural."""
    return f"{count} {noun.removesuffix('s') if count == 1 else noun}"


def reading(difference: Difference, who: tuple[str, str]) -> str:
    """Return what a difference says: `B is better`, or `no difference shown`."""
    if not is_significant(difference):
        return "no difference shown"
    return f"{who[difference.gain > 0]} is better"


def shown_p_value(value: float) -> str:
    """Return a p-value to three places, or `<0.001`."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
