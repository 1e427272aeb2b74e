"""The leaderboard: one row a model, one column a headline metric with its sample count.

Figures of whole runs go before those of subsets and of runs with failed samples, whatever
their value, so that luck on 100 questions never leads the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from adem_bench.cards import load_task_card
from adem_bench.errors import CardError
from adem_bench.results.finished import FinishedRun
from adem_bench.results.published import PublishedRow
from adem_bench.results.variants import Variant, variants_of


@dataclass(frozen=True, slots=True, order=True)
class Column:
    """One metric of one task on one split."""

    task: str
    split: str
    metric: str

    @property
    def title(self) -> str:
        """Return the header, for example `sqa/test average`."""
        return f"{self.task}/{self.split} {self.metric}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure."""

    shown: str
    value: float | None
    """In the unit that is shown, so that measured and published figures rank together."""
    complete: bool


@dataclass(slots=True)
class Row:
    """One model, measured or published."""

    model: str
    language_model: str
    trainable_parameters: str
    origin: str
    """`measured` or `published`."""
    tags: tuple[str, ...] = ()
    """What tells the row from others of the same model: blind, an adapter, a fingerprint."""
    cells: dict[Column, Cell] = field(default_factory=dict)
    counts: dict[tuple[str, str], str] = field(default_factory=dict)
    """Task and split to the samples that the figures rest on."""
    sources: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Return the model's name with its tags."""
        return f"{self.model} [{', '.join(self.tags)}]" if self.tags else self.model


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Rows in rank order under their columns."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def places(self) -> list[tuple[str, str]]:
        """Return every task and split, in the order of the columns."""
        return list(dict.fromkeys((column.task, column.split) for column in self.columns))


def build_leaderboard(
    runs: Sequence[FinishedRun],
    published: Sequence[PublishedRow] = (),
    all_metrics: bool = False,
) -> Leaderboard:
    """Arrange runs, and published figures if any are given, in rank order.

    Of several runs of the same weights with the same options, the newest whole one is shown,
    or the newest if none is whole. Rows are ranked by the first column, then by the next.

    Args:
        runs: What was measured.
        published: What papers state.
        all_metrics: Show every metric that the tasks' cards name, not the headlines alone.
    """
    headlines = {(r.result.task, r.result.split): r.result.headline for r in runs}
    headlines |= {(p.task, p.split): "" for p in published if (p.task, p.split) not in headlines}
    columns = tuple(
        Column(task, split, metric)
        for (task, split), headline in sorted(headlines.items())
        for metric in _columns_of(task, headline, all_metrics)
    )
    measured = [_measured(variant, columns) for variant in variants_of(runs)]
    rows = [*measured, *_published(published, columns)]
    rows.sort(key=lambda row: _rank(row, columns))
    return Leaderboard(columns, tuple(rows))


def _columns_of(task: str, headline: str, all_metrics: bool) -> list[str]:
    """Return the metrics to show for a task; without its card, the headline alone."""
    try:
        card = load_task_card(task)
    except CardError:
        return [headline] if headline else []
    further = card.columns if all_metrics else ()
    return list(dict.fromkeys([headline or card.headline, *further]))


def _measured(variant: Variant, columns: Sequence[Column]) -> Row:
    first = next(iter(variant.runs.values()))
    row = Row(
        variant.model,
        first.language_model,
        first.trainable_parameters,
        "measured",
        variant.tags,
    )
    for place, run in variant.runs.items():
        row.counts[place] = _count(run)
        metrics = {metric.name: metric for metric in run.result.metrics}
        for column in columns:
            if (column.task, column.split) == place and column.metric in metrics:
                metric = metrics[column.metric]
                shown = metric.shown()
                value = None if metric.value is None else float(shown)
                row.cells[column] = Cell(shown, value, run.result.complete)
    return row


def _count(run: FinishedRun) -> str:
    failed = f", {run.result.failed} failed" if run.result.failed else ""
    return run.result.coverage() + failed


def _published(published: Iterable[PublishedRow], columns: Sequence[Column]) -> list[Row]:
    rows: dict[tuple[str, str, str], Row] = {}
    for figure in published:
        column = Column(figure.task, figure.split, figure.metric)
        if column not in columns:
            continue
        key = (figure.model, figure.language_model, figure.trainable_parameters)
        row = rows.setdefault(key, Row(*key, "published"))
        row.cells[column] = Cell(f"{figure.value:.2f}", figure.value, True)
        row.sources = tuple(dict.fromkeys([*row.sources, figure.source]))
    return list(rows.values())


def _rank(row: Row, columns: Sequence[Column]) -> list[tuple[int, float]]:
    """Return a sort key: whole figures, column by column; only then those of subsets."""
    cells = [row.cells.get(column) for column in columns]
    whole = [_descending(cell if cell and cell.complete else None) for cell in cells]
    return whole + [_descending(cell) for cell in cells]


def _descending(cell: Cell | None) -> tuple[int, float]:
    if cell is None or cell.value is None or math.isnan(cell.value):
        return 1, 0.0
    return 0, -cell.value
