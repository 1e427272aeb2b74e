"""What of a leaderboard is shown: tasks, models, metrics, and the column that ranks."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from adem_bench.cards import expand_tasks, list_cards
from adem_bench.errors import CardError, ResultsError, nearest_hint
from adem_bench.results.board import Column, Group, Place, Row


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
    """A column's title, or a task for its headline; the first measured headline if empty."""


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


def ranking_column(groups: Sequence[Group], view: View, measured: Set[Place]) -> Column | None:
    """Return the column that the view sorts by.

    Without a name it is the first headline, of measured tasks if there are any.

    Raises:
        ResultsError: there is no such column, or the task has several splits.
    """
    name = view.sort
    headlines = {group.name: _headline(group) for group in groups}
    if not name:
        found = [column for column in headlines.values() if column]
        return min(found, key=lambda column: column.place not in measured, default=None)
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
