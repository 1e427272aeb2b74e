"""The leaderboard: one row per model, one group of columns per task.

Figures of complete runs go before those of subsets and of runs with failed samples, whatever their
value, so that luck on 100 questions never leads the table; only figures of complete runs have a
rank, and those with no more failed samples than their run allowed, by what they would be if these
were wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace

from adem_bench.cards import expand_tasks, list_cards, load_task_card
from adem_bench.errors import CardError, ResultsError, nearest_hint
from adem_bench.records import Metric
from adem_bench.registry import TASK_KINDS
from adem_bench.results.leaderboard.board import Cell, Column, Group, Leaderboard, Place, Row
from adem_bench.results.leaderboard.published_figures import PublishedRow
from adem_bench.results.runs import FinishedRun
from adem_bench.results.variants import Variant, variants_of
from adem_bench.schemas import TaskCard


@dataclass(frozen=True, slots=True)
class View:
    """A selection; as it stands, the headlines of everything, ranked by the first."""

    all_metrics: bool = False
    """Every metric that the tasks' cards name, not the headlines alone."""
    tasks: tuple[str, ...] = ()
    """Names as `sqa`, `sqa/test` or `mini` (a group), in the order to show; all if empty."""
    models: tuple[str, ...] = ()
    """Patterns of rows' names with `*` and `?`; all rows if empty."""
    sort: str = ""
    """A column's title, or a task for its headline; if empty, the first headline of which there is
    a whole figure."""


def chosen_places(places: Sequence[Place], names: Sequence[str]) -> list[Place]:
    """Return the places that names stand for, in the names' order; all, sorted, without names.

    Raises:
        ResultsError: there is nothing of a task.
    """
    if not names:
        return sorted(places)
    chosen: list[Place] = []
    for name in names:
        members = {name, *_members(name)}
        found = [p for p in sorted(places) if members & {p[0], "/".join(p)}]
        if not found:
            hint = nearest_hint(name, {task for task, _ in places})
            raise ResultsError(f"no figures of a task {name!r}{hint}")
        chosen += [place for place in found if place not in chosen]
    return chosen


def chosen_runs(runs: Sequence[FinishedRun], names: Sequence[str]) -> list[FinishedRun]:
    """Return the runs of tasks that names stand for; all without names.

    Raises:
        ResultsError: there is nothing of a task.
    """
    places = [(run.result.task, run.result.split) for run in runs]
    chosen = set(chosen_places(list(dict.fromkeys(places)), names))
    return [run for run, place in zip(runs, places, strict=True) if place in chosen]


def _members(name: str) -> Sequence[str]:
    """Return the tasks of a group's card; nothing for any other name."""
    try:
        return expand_tasks([name]) if name in list_cards("tasks") else ()
    except CardError:
        return ()


def chosen_rows(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """Return the rows whose names fit one of the patterns; all without patterns.

    Raises:
        ResultsError: a pattern fits no row.
    """
    if not patterns:
        return list(rows)
    chosen: set[int] = set()
    for pattern in patterns:
        fits = _fits(pattern)
        found = {index for index, row in enumerate(rows) if fits.fullmatch(row.label)}
        if not found:
            hint = nearest_hint(pattern, {row.label for row in rows})
            raise ResultsError(f"no row is called {pattern!r}{hint}")
        chosen |= found
    return [row for index, row in enumerate(rows) if index in chosen]


def _fits(pattern: str) -> re.Pattern[str]:
    # Not fnmatch: its brackets would take `adem-tiny [blind]` for a set of letters.
    parts = {"*": ".*", "?": "."}
    text = "".join(parts.get(letter) or re.escape(letter) for letter in pattern)
    return re.compile(text, re.IGNORECASE | re.DOTALL)


def ranking_column(groups: Sequence[Group], view: View, ranking: Set[Place]) -> Column | None:
    """Return the column that the view sorts by.

    Without a name it is the first headline of tasks that rank, or else of all.

    Args:
        groups: Those that are shown.
        view: Whose `sort` names the column.
        ranking: Tasks and splits that rank: with a whole figure, measured if there are any.

    Raises:
        ResultsError: there is no such column, or the task has several splits.
    """
    name = view.sort
    headlines = {group.name: _headline(group) for group in groups}
    if not name:
        found = [column for column in headlines.values() if column]
        return min(found, key=lambda column: column.place not in ranking, default=None)
    columns = {column.title: column for group in groups for column in group.columns}
    by_task = [group.name for group in groups if group.task == name]
    if len(by_task) > 1:
        raise ResultsError(f"--sort {name}: there are {', '.join(by_task)}; name one of them")
    column = columns.get(name) or headlines.get(by_task[0] if by_task else name)
    if column is None:
        hint = nearest_hint(name, {*columns, *headlines})
        more = "" if view.all_metrics else "; --all-metrics shows more"
        raise ResultsError(f"--sort {name}: no such column is shown{hint}{more}")
    return column


def _headline(group: Group) -> Column | None:
    named = (column for column in group.columns if column.metric == group.headline)
    return next(named, next(iter(group.columns), None))


UNITS = {"fraction": "percent", "points": "points", "count": "count"}


def build_leaderboard(
    runs: Sequence[FinishedRun],
    published: Sequence[PublishedRow] = (),
    view: View | None = None,
) -> Leaderboard:
    """Arrange runs, and published figures if any are given, in rank order.

    Of several runs of the same weights with the same options, the newest complete one is shown,
    or the newest if none is complete. Rows are ranked by one column; what has no whole figure there
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
    lower = _lower_is_better(runs)
    groups = [replace(g, lower_is_better=lower.get(g.place, g.lower_is_better)) for g in groups]
    # Names are given before anything is left out: they must not depend on what is shown.
    rows = [_measured(variant, groups) for variant in variants_of(runs)]
    rows = [row for row in rows if row.runs] + _published(published, groups)
    rows = chosen_rows(rows, view.models)
    kept = {place for row in rows for place in (*row.runs, *(c.place for c in row.cells))}
    if rows:
        groups = [group for group in groups if group.place in kept]
    whole = _whole(rows, groups)
    if not view.tasks:
        # What only subsets were run of comes last, and ranks nothing.
        groups.sort(key=lambda group: group.place not in whole)
    measured = _whole((row for row in rows if row.runs), groups)
    sort = ranking_column(groups, view, measured or whole)
    ranked = tuple(_ranked(rows, groups, sort))
    return Leaderboard(tuple(groups), ranked, sort, view.all_metrics, bool(view.tasks))


def _whole(rows: Iterable[Row], groups: Iterable[Group]) -> set[Place]:
    """Return the tasks and splits of whose headline some row has a figure that ranks."""
    headlines = {_headline(group) for group in groups}
    return {
        column.place
        for row in rows
        for column, cell in row.cells.items()
        if column in headlines and cell.standing is not None
    }


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


def _lower_is_better(runs: Iterable[FinishedRun]) -> dict[Place, frozenset[str]]:
    """Return the metrics of which less is better, as the kinds of the runs' tasks say."""
    kinds = {(r.result.task, r.result.split): r.task_card.get("kind") for r in runs}
    found: dict[object, frozenset[str]] = {}
    for kind in {kind for kind in kinds.values() if isinstance(kind, str)}:
        # A run of a plug-in that is not here is shown all the same.
        with suppress(CardError):
            found[kind] = frozenset(getattr(TASK_KINDS.load(kind), "lower_is_better", ()))
    return {place: found[kind] for place, kind in kinds.items() if kind in found}


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
                row.cells[column] = _cell(metrics[column.metric], run)
                if column.metric in group.lower_is_better:
                    # What failed samples would cost at worst is not known of it.
                    row.cells[column] = replace(row.cells[column], tolerated=False)
    return row


def _cell(metric: Metric, run: FinishedRun) -> Cell:
    result, allowed = run.result, run.options.get("max_failed") or 0

    def in_print(value: float | None) -> float | None:
        return value * 100 if value is not None and metric.unit == "fraction" else value

    return Cell(
        shown=metric.format(),
        value=in_print(metric.value),
        complete=result.complete,
        low=in_print(metric.low),
        high=in_print(metric.high),
        interval=metric.interval,
        shown_interval=metric.format_interval(),
        unit=UNITS[metric.unit],
        count=metric.count,
        note=metric.note,
        if_wrong=in_print(metric.if_wrong),
        shown_if_wrong=metric.format_if_wrong(),
        tolerated=0 < result.failed <= allowed and result.scored + result.failed == result.expected,
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


def _ranked(rows: list[Row], groups: Sequence[Group], sort: Column | None) -> list[Row]:
    """Return rows in order, with their ranks; equal figures share one."""
    columns = [(c != sort, c.metric != g.headline, c) for g in groups for c in g.columns]
    # The column that ranks, then the headlines, then the rest, each in the table's order.
    order = [column for *_, column in sorted(columns, key=lambda found: found[:2])]
    lower = {c for g in groups for c in g.columns if c.metric in g.lower_is_better}
    rows = sorted(rows, key=lambda row: _order(row, order, lower))
    before: float | None = None
    for index, row in enumerate(rows):
        standing = row.cells[sort].standing if sort in row.cells else None
        if standing is not None:
            row.rank = rows[index - 1].rank if standing == before else index + 1
        before = standing
    return rows


def _order(row: Row, columns: Sequence[Column], lower: Set[Column]) -> list[tuple[bool, float]]:
    """Return a sort key: whole figures, column by column; only then those of subsets."""
    cells = [row.cells.get(column) for column in columns]
    whole = [cell.standing if cell else None for cell in cells]
    parts = [cell.value if cell and not cell.complete else None for cell in cells]
    # Not a number compares with nothing, so it counts as none.
    found = [None if value is None or value != value else value for value in [*whole, *parts]]
    signs = [1.0 if column in lower else -1.0 for column in (*columns, *columns)]
    return [(v is None, sign * (v or 0.0)) for v, sign in zip(found, signs, strict=True)]
