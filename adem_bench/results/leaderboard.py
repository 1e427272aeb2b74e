"""The leaderboard: one row a model, one group of columns a task.

Whole figures go before those of subsets and of runs with failed samples, whatever their value, so
that luck on 100 questions never leads the table; a rank is for whole figures only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from adem_bench.cards import list_cards, load_task_card
from adem_bench.errors import CardError
from adem_bench.records import Metric
from adem_bench.results.board import Cell, Column, Group, Leaderboard, Place, Row
from adem_bench.results.finished import FinishedRun
from adem_bench.results.published import PublishedRow
from adem_bench.results.variants import Variant, variants_of
from adem_bench.results.view import View, chosen_places, chosen_rows, ranking_column
from adem_bench.schemas import TaskCard

UNITS = {"fraction": "percent", "points": "points", "count": "count"}


def build_leaderboard(
    runs: Sequence[FinishedRun],
    published: Sequence[PublishedRow] = (),
    view: View | None = None,
) -> Leaderboard:
    """Arrange runs, and published figures if any are given, in rank order.

    Of several runs of the same weights with the same options, the newest whole one is shown,
    or the newest if none is whole. Rows are ranked by one column; what has no whole figure there
    follows without a rank, in the order of the other columns.

    Args:
        runs: What was measured.
        published: What papers state.
        view: What to show; headlines of everything by default.

    Raises:
        ResultsError: the view names what is not there.
    """
    view = view or View()
    headlines: dict[Place, str] = {(p.task, p.split): "" for p in published}
    headlines |= {(r.result.task, r.result.split): r.result.headline for r in runs}
    places = chosen_places(list(headlines), view.tasks)
    groups = _groups({place: headlines[place] for place in places}, view.all_metrics)
    # Names are given before anything is left out: they must not depend on what is shown.
    rows = [_measured(variant, groups) for variant in variants_of(runs)]
    rows = [row for row in rows if row.runs] + _published(published, groups)
    rows = chosen_rows(rows, view.models)
    kept = {place for row in rows for place in (*row.runs, *(c.place for c in row.cells))}
    if rows:
        groups = [group for group in groups if group.place in kept]
    measured = {place for row in rows for place in row.runs}
    sort = ranking_column(groups, view, measured)
    return Leaderboard(tuple(groups), tuple(_ranked(rows, groups, sort)), sort)


def _groups(headlines: Mapping[Place, str], all_metrics: bool) -> list[Group]:
    known = list_cards("tasks")
    groups = []
    for (task, split), headline in headlines.items():
        card = _card(task) if task in known else None
        named = headline or (card.headline if card else "")
        metrics = list(card.columns) if card and all_metrics else []
        if named and named not in metrics:
            metrics.insert(0, named)
        columns = tuple(Column(task, split, metric) for metric in metrics)
        groups.append(Group(task, split, (card and card.title) or task, named, columns))
    return groups


def _card(task: str) -> TaskCard | None:
    try:
        return load_task_card(task)
    except CardError:
        return None


def _measured(variant: Variant, groups: Iterable[Group]) -> Row:
    first = next(iter(variant.runs.values()))
    row = Row(
        variant.model,
        first.language_model,
        first.trainable_parameters,
        "measured",
        variant.tags,
    )
    for group in groups:
        run = variant.runs.get(group.place)
        if run is None:
            continue
        row.runs[group.place] = run
        metrics = {metric.name: metric for metric in run.result.metrics}
        for column in group.columns:
            if column.metric in metrics:
                row.cells[column] = _cell(metrics[column.metric], run.result.complete)
    return row


def _cell(metric: Metric, complete: bool) -> Cell:
    def in_print(value: float | None) -> float | None:
        return value * 100 if value is not None and metric.unit == "fraction" else value

    return Cell(
        shown=metric.format(),
        value=in_print(metric.value),
        complete=complete,
        low=in_print(metric.low),
        high=in_print(metric.high),
        interval=metric.interval,
        shown_interval=metric.shown_interval(),
        unit=UNITS[metric.unit],
        count=metric.count,
        note=metric.note,
    )


def _published(published: Iterable[PublishedRow], groups: Iterable[Group]) -> list[Row]:
    columns = {column for group in groups for column in group.columns}
    rows: dict[tuple[str, str, str], Row] = {}
    for figure in published:
        column = Column(figure.task, figure.split, figure.metric)
        if column not in columns:
            continue
        key = (figure.model, figure.language_model, figure.trainable_parameters)
        row = rows.setdefault(key, Row(*key, "published"))
        row.cells[column] = Cell(
            f"{figure.value:.2f}", figure.value, True, note=figure.note, source=figure.source
        )
    return list(rows.values())


def _ranked(rows: list[Row], groups: Iterable[Group], sort: Column | None) -> list[Row]:
    """Return rows in order, with their ranks; equal figures share one."""
    columns = [(c != sort, c.metric != g.headline, c) for g in groups for c in g.columns]
    # The column that ranks, then the headlines, then the rest, each in the table's order.
    order = [column for *_, column in sorted(columns, key=lambda found: found[:2])]
    rows = sorted(rows, key=lambda row: _order(row, order))
    before: float | None = None
    for index, row in enumerate(rows):
        standing = row.cells[sort].standing if sort in row.cells else None
        if standing is not None:
            row.rank = rows[index - 1].rank if standing == before else index + 1
        before = standing
    return rows


def _order(row: Row, columns: Sequence[Column]) -> list[tuple[bool, float]]:
    """Return a sort key: whole figures, column by column; only then those of subsets."""
    cells = [row.cells.get(column) for column in columns]
    whole = [cell.standing if cell else None for cell in cells]
    parts = [cell.value if cell and not cell.complete else None for cell in cells]
    # A figure that is no number compares with nothing, so it counts as none.
    found = [None if value is None or value != value else value for value in [*whole, *parts]]
    return [(value is None, -(value or 0.0)) for value in found]
