"""What every format for people says in the same words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from adem_bench.records import MIN_UNITS, TOO_FEW
from adem_bench.results.leaderboard.board import Cell, Column, Group, Leaderboard, Row
from adem_bench.results.variants import FINGERPRINT_LENGTH

FIXED = ("rank", "model", "language model", "trainable", "origin")
OWN_RULE = "the task's own rule"
PARTIAL = "not the whole split, or with failed samples: not comparable, so without a rank"
AT_WORST = (
    "at worst: if all failed answers were wrong, which ranks runs with no more failures than "
    "--max-failed"
)
RATE = "samples per second of the run's last call, whatever else the machine was doing"
NO_RANK = "-"


def visible(board: Leaderboard) -> list[tuple[Group, bool]]:
    """Return each group with the columns that hold a figure, and whether it has measured rows.

    Where nothing was measured, columns of samples and rates would be empty too. The task that
    ranks stands first, then those that were measured, unless the reader asked for another order.
    """
    filled = {column for row in board.rows for column in row.cells}
    measured = {place for row in board.rows for place in row.runs}
    found = []
    for group in board.groups:
        columns = tuple(column for column in group.columns if column in filled)
        found.append((replace(group, columns=columns), group.place in measured))
    if not board.in_order:
        found.sort(key=lambda shown: (not board.ranks_by(shown[0]), not shown[1]))
    return found


def samples(board: Leaderboard) -> Iterator[str]:
    """Yield for each task what its figures rest on: `mini_sqa/test: 300; x: SUBSET 4/300`."""
    for group in board.groups:
        counts: dict[str, list[str]] = {}
        for row in board.rows:
            if group.place in row.runs:
                counts.setdefault(row.coverage(group.place), []).append(row.label)
        if counts:
            parts = (
                count if count.isdecimal() else f"{count} ({', '.join(labels)})"
                for count, labels in counts.items()
            )
            yield f"{group.name} {'; '.join(parts)}"


def fixed(board: Leaderboard, row: Row) -> list[str]:
    """Return the cells below `FIXED`; published rows name their footnotes."""
    numbers = ", ".join(map(str, board.numbers(row)))
    origin = f"{row.origin} [{numbers}]" if numbers else row.origin
    rank = NO_RANK if row.rank is None else str(row.rank)
    return [rank, row.label, row.language_model, row.trainable_parameters, origin]


def figure(cell: Cell | None, intervals: bool) -> str:
    """Return `93.85` or `93.85 [93.08, 94.54]`, with an asterisk if not of the whole split."""
    if cell is None:
        return ""
    shown = cell.shown if cell.complete else f"{cell.shown}*"
    if cell.shown_if_wrong:
        shown += f" (at worst {cell.shown_if_wrong})"
    return f"{shown} {cell.shown_interval}" if intervals and cell.shown_interval else shown


def remarks(board: Leaderboard, intervals: bool) -> list[str]:
    """Return the lines below the table that explain it, footnotes left out."""
    lines = []
    if board.sort and board.rows:
        lines.append(_ranking(board, board.sort))
    if intervals and any(c.shown_interval for row in board.rows for c in row.cells.values()):
        lines.append("in brackets: 95% intervals")
    if intervals and any(c.interval == TOO_FEW for row in board.rows for c in row.cells.values()):
        lines.append(f"no interval where a figure has fewer than {MIN_UNITS} independent units")
    return [*lines, *_other_weights(board), *_different_rules(board)]


def _ranking(board: Leaderboard, sort: Column) -> str:
    if any(row.rank is not None for row in board.rows):
        return f"ranked by {sort.title}"
    cells = [cell for row in board.rows for cell in row.cells.values()]
    if any(cell.complete for cell in cells):
        return f"no row has a rank: no row has a whole figure of {sort.title}"
    failed = any(run.result.failed for row in board.rows for run in row.runs.values())
    return f"no row has a rank: no run covers a whole split{' without a failure' * failed}"


def _other_weights(board: Leaderboard) -> Iterator[str]:
    """Yield the rows that nothing but their weights tells apart, as two trainings of one name."""
    named: dict[str, list[str]] = {}
    for row in board.rows:
        digits = {run.fingerprint[:FINGERPRINT_LENGTH] for run in row.runs.values()}
        if digits & set(row.tags):
            named.setdefault(row.model, []).append(row.label)
    for model, rows in named.items():
        yield (
            f"{model} names {len(rows)} models of other weights, told apart by their fingerprints: "
            f"{', '.join(rows)}; `run --name` gives one a name of its own"
        )


def _different_rules(board: Leaderboard) -> Iterator[str]:
    """Yield the tasks whose rows were not all read by the same rule (docs/answers.md)."""
    for group in board.groups:
        rules = board.answer_rules(group.place)
        if len(rules) > 1:
            read = (f"{', '.join(rows)} by {rule or OWN_RULE}" for rule, rows in rules.items())
            yield f"answers to {group.name} were not all read alike: {'; '.join(read)}"


def partial(board: Leaderboard) -> str:
    """Return what the asterisk means, and what `at worst` does where some figure has it."""
    at_worst = any(cell.shown_if_wrong for row in board.rows for cell in row.cells.values())
    return f"{PARTIAL}; {AT_WORST}" if at_worst else PARTIAL


def footnotes(board: Leaderboard) -> Sequence[tuple[str, str]]:
    """Return marks and what they mean: the asterisk, and the sources by number."""
    notes = [("*", partial(board))] if board.has_parts() else []
    return [*notes, *((str(n), source) for n, source in enumerate(board.sources, 1))]
