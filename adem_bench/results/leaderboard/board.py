"""What a leaderboard is made of: columns in groups of a task, rows of cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from adem_bench.results.runs import FinishedRun

Place = tuple[str, str]
"""A task and its split."""


@dataclass(frozen=True, slots=True, order=True)
class Column:
    """One metric of one task on one split."""

    task: str
    split: str
    metric: str

    @property
    def place(self) -> Place:
        """Return task and split."""
        return self.task, self.split

    @property
    def title(self) -> str:
        """Return the header, for example `sqa/test average`."""
        return f"{self.task}/{self.split} {self.metric}"


@dataclass(frozen=True, slots=True)
class Group:
    """The columns of one task on one split."""

    task: str
    split: str
    title: str
    """For people: the title of the task's card, or else its name."""
    headline: str
    columns: tuple[Column, ...]
    lower_is_better: frozenset[str] = frozenset()
    """Metrics of which less is better."""

    @property
    def place(self) -> Place:
        """Return task and split."""
        return self.task, self.split

    @property
    def name(self) -> str:
        """Return `sqa/test`."""
        return f"{self.task}/{self.split}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure, in the unit that tables show: per cent for fractions."""

    shown: str
    value: float | None
    """Unrounded."""
    complete: bool
    """Whether it rests on the whole split, without a failed sample."""
    low: float | None = None
    high: float | None = None
    interval: str = ""
    """How the interval was made."""
    shown_interval: str = ""
    unit: str = ""
    """`percent`, `points` or `count`; empty for published figures."""
    count: int | None = None
    """Samples that the figure rests on."""
    note: str = ""
    if_wrong: float | None = None
    """The value if every failed sample were wrong; None where none failed."""
    shown_if_wrong: str = ""
    tolerated: bool = False
    """Whether the whole split was asked, and no more samples failed than the run allowed."""
    source: str = ""
    """Of a published figure."""

    @property
    def standing(self) -> float | None:
        """Return the value by which a whole figure ranks, rounded as papers round theirs.

        Failing must not pay: with failed samples that the run allowed, it is what the figure would
        be if they were wrong.
        """
        at_worst = self.value if self.if_wrong is None else self.if_wrong
        value = self.value if self.complete else at_worst if self.tolerated else None
        if value is None or not math.isfinite(value):
            return None
        return round(value, 2)


@dataclass(slots=True)
class Row:
    """One model, measured or published."""

    model: str
    language_model: str
    trainable_parameters: str
    origin: str
    """`measured` or `published`."""
    tags: tuple[str, ...] = ()
    """What distinguishes the row from others of its model: blind, an adapter, a fingerprint."""
    cells: dict[Column, Cell] = field(default_factory=dict)
    runs: dict[Place, FinishedRun] = field(default_factory=dict)
    rank: int | None = None
    """Place by the column that the table is sorted by; None without a whole figure there."""

    @property
    def label(self) -> str:
        """Return the model's name with its tags."""
        return f"{self.model} [{', '.join(self.tags)}]" if self.tags else self.model

    def sources(self) -> list[str]:
        """Return the sources of published figures, each once."""
        return list(dict.fromkeys(cell.source for cell in self.cells.values() if cell.source))

    def footnotes(self) -> list[str]:
        """Return the sources with the doubts about their figures, each once."""
        return list(dict.fromkeys(_footnote(cell) for cell in self.cells.values() if cell.source))

    def coverage(self, place: Place) -> str:
        """Return `4241`, or `SUBSET 100/4241, 2 failed`; nothing where nothing was run."""
        run = self.runs.get(place)
        if run is None:
            return ""
        failed = f", {run.result.failed} failed" if run.result.failed else ""
        return run.result.coverage() + failed

    def rate(self, place: Place) -> str:
        """Return the samples per second of the run's last call; nothing where unknown."""
        run = self.runs.get(place)
        rate = run.samples_per_second if run else None
        return "" if rate is None else f"{rate:.2f}"


@dataclass(frozen=True)
class Leaderboard:
    """Rows in rank order under their columns."""

    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    sort: Column | None = None
    """The column that ranks; None for a table without columns."""
    all_metrics: bool = False
    """Whether every metric was asked for, not the headlines alone."""
    in_order: bool = False
    """Whether the tasks stand in an order that the reader asked for."""

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Every column, group by group."""
        return tuple(column for group in self.groups for column in group.columns)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The footnotes on published rows; their numbers are places in this list, from 1."""
        return tuple(dict.fromkeys(note for row in self.rows for note in row.footnotes()))

    @cached_property
    def lower_is_better(self) -> frozenset[Column]:
        """The columns of which less is better."""
        return frozenset(c for g in self.groups for c in g.columns if c.metric in g.lower_is_better)

    @cached_property
    def _bests(self) -> dict[Column, float]:
        bests: dict[Column, float] = {}
        for column, cell in self._cells():
            # More of a count ("other") is not better.
            if cell.standing is not None and cell.unit != "count":
                better = min if column in self.lower_is_better else max
                bests[column] = better(cell.standing, bests.get(column, cell.standing))
        return bests

    def ranks_by(self, group: Group) -> bool:
        """Return whether the column that ranks is one of a group's."""
        return self.sort is not None and self.sort.place == group.place

    def has_best(self) -> bool:
        """Return whether a column has a whole figure, of which the best is marked."""
        return bool(self._bests)

    def is_best(self, column: Column, cell: Cell) -> bool:
        """Return whether no whole figure of the column is better than this one."""
        return cell.standing is not None and cell.standing == self._bests.get(column)

    def numbers(self, row: Row) -> list[int]:
        """Return the numbers of a row's footnotes."""
        numbers = self._numbers
        return [numbers[note] for note in row.footnotes()]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {note: number for number, note in enumerate(self.sources, 1)}

    def answer_rules(self, place: Place) -> dict[str, list[str]]:
        """Return the rules by which a task's answers were read, each with its rows' labels.

        A run whose card names no rule has the one of its kind of task, which is called nothing.
        """
        found: dict[str, list[str]] = {}
        for row in self.rows:
            if run := row.runs.get(place):
                options = run.task_card.get("options")
                rule = options.get("answer_rule") if isinstance(options, Mapping) else None
                found.setdefault(str(rule or ""), []).append(row.label)
        return found

    def has_parts(self) -> bool:
        """Return whether a figure rests on less than the whole split."""
        return any(not cell.complete for _, cell in self._cells())

    def _cells(self) -> Iterator[tuple[Column, Cell]]:
        return (item for row in self.rows for item in row.cells.items())


def _footnote(cell: Cell) -> str:
    return f"{cell.source}: {cell.note}" if cell.note else cell.source
