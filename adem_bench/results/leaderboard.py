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

NEUTRAL_OPTIONS = ("batch_size", "limit")
"""Options that make no other model: batches change no score, and a limit shows as a subset."""


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
    runs: Sequence[FinishedRun], published: Sequence[PublishedRow] = ()
) -> Leaderboard:
    """Arrange runs, and published figures if any are given, in rank order.

    Of several runs of the same weights with the same options, the newest whole one is shown,
    or the newest if none is whole. Rows are ranked by the first column, then by the next.
    """
    headlines = {(r.result.task, r.result.split): r.result.headline for r in runs}
    headlines |= {(p.task, p.split): "" for p in published if (p.task, p.split) not in headlines}
    columns = tuple(
        Column(task, split, metric)
        for (task, split), headline in sorted(headlines.items())
        for metric in _columns_of(task, headline)
    )
    rows = [*_measured(runs, columns), *_published(published, columns)]
    rows.sort(key=lambda row: _rank(row, columns))
    return Leaderboard(columns, tuple(rows))


def _columns_of(task: str, headline: str) -> list[str]:
    """Return the metrics that a task's card wants shown; the headline alone without a card."""
    try:
        card = load_task_card(task)
    except CardError:
        return [headline] if headline else []
    return list(dict.fromkeys([headline or card.headline, *card.columns]))


def _measured(runs: Sequence[FinishedRun], columns: Sequence[Column]) -> list[Row]:
    """Return one row per variant of a model, weights that differ on one task kept apart."""
    by_variant: dict[tuple[str, tuple[str, ...]], list[dict[tuple[str, str], FinishedRun]]] = {}
    newest_first = sorted(runs, key=lambda r: (r.result.complete, r.finished), reverse=True)
    for run in newest_first:
        _place(run, by_variant.setdefault((run.model, _variant(run)), []))
    rows = [
        _row(group, variant, columns)
        for (_, variant), groups in by_variant.items()
        for group in groups
    ]
    _tell_apart(rows, [g for groups in by_variant.values() for g in groups])
    return rows


def _variant(run: FinishedRun) -> tuple[str, ...]:
    """Return the options that make it another entry, as short texts: `blind`, `seed=1`."""
    texts = []
    for name, value in sorted(run.options.items()):
        if name in NEUTRAL_OPTIONS or value in (None, False, "", [], {}):
            continue
        texts.append(name if value is True else f"{name}={value}")
    return tuple(texts)


def _place(run: FinishedRun, groups: list[dict[tuple[str, str], FinishedRun]]) -> None:
    """Put a run into the row of its weights; drop it if the same thing is there already.

    A card may name one adapter a task, so different fingerprints on different tasks share a
    row; two fingerprints (or prompt formats) on the same task cannot.
    """
    place = (run.result.task, run.result.split)
    same = [g for g in groups if any(r.fingerprint == run.fingerprint for r in g.values())]
    for group in [*same, *(g for g in groups if g not in same)]:
        other = group.get(place)
        if other is None:
            group[place] = run
            return
        if (other.fingerprint, other.prompt_format) == (run.fingerprint, run.prompt_format):
            return
    groups.append({place: run})


def _row(
    group: dict[tuple[str, str], FinishedRun], variant: tuple[str, ...], columns: Sequence[Column]
) -> Row:
    first = next(iter(group.values()))
    row = Row(first.model, first.language_model, first.trainable_parameters, "measured", variant)
    for place, run in group.items():
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


def _tell_apart(rows: Sequence[Row], groups: Sequence[dict[tuple[str, str], FinishedRun]]) -> None:
    """Drop tags that all rows of a model share, and add what rows with one label differ in."""
    for model in {row.model for row in rows}:
        mine = [row for row in rows if row.model == model]
        shared = set.intersection(*(set(row.tags) for row in mine))
        for row in mine:
            # `blind` is never dropped: such a row would pass for a seeing model.
            row.tags = tuple(tag for tag in row.tags if tag not in shared or tag == "blind")
    labels = [row.label for row in rows]
    for row, label, group in zip(rows, labels, groups, strict=True):
        if labels.count(label) > 1:
            prints = dict.fromkeys(run.fingerprint[:8] for run in group.values())
            formats = dict.fromkeys(run.prompt_format for run in group.values())
            row.tags = (*row.tags, *prints, *(text for text in formats if text))


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


def _rank(row: Row, columns: Sequence[Column]) -> tuple[tuple[int, float], ...]:
    """Return a sort key: per column whole figures first, then subsets, then none."""
    key = []
    for column in columns:
        cell = row.cells.get(column)
        if cell is None or cell.value is None or math.isnan(cell.value):
            key.append((2, 0.0))
        else:
            key.append((0 if cell.complete else 1, -cell.value))
    return tuple(key)
