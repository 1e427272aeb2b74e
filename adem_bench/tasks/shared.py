"""What the tasks share: checks of their cards, and results that say what they cover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from adem_bench.cards import check_options
from adem_bench.data.reading import SkippedRow
from adem_bench.errors import CardError, PredictionsError, nearest_hint
from adem_bench.records import Metric, Record, Result
from adem_bench.registry import METRICS
from adem_bench.schemas import Strict, TaskCard

Kind = TypeVar("Kind", bound=Strict)
Row = TypeVar("Row")


TokenCount = Annotated[int, Field(ge=1, le=4096)]
"""How many tokens a model may answer with."""


def read_options(card: TaskCard, kind: type[Kind]) -> Kind:
    """Return a card's `options`, checked.

    Raises:
        CardError: an unknown option or a wrong value; the nearest names are proposed.
    """
    return check_options("task", card, kind)


def check_choice(card: TaskCard, what: str, value: str, known: Iterable[str]) -> str:
    """Return `value` if it is among `known`.

    Raises:
        CardError: it is not; the nearest names are proposed.
    """
    names = list(known)
    if value not in names:
        raise CardError(f"task {card.name}: unknown {what} {value!r}{nearest_hint(value, names)}")
    return value


def check_metrics(card: TaskCard, known: Sequence[str]) -> None:
    """Check that a card's headline and columns are metrics of its kind.

    Raises:
        CardError: one is not, and the nearest names are proposed; or there is no headline.
    """
    if not card.headline:
        raise CardError(f"task {card.name} has no headline; name one of: {', '.join(known)}")
    for name in (card.headline, *card.columns):
        check_choice(card, "metric", name, (*known, *card.metrics))


class Skips:
    """Rows left out while samples were drawn, each listed once however often they are drawn."""

    def __init__(self) -> None:
        self._rows: dict[str, SkippedRow] = {}

    def keep(self, rows: Iterable[Row | SkippedRow]) -> Iterator[Row]:
        """Yield the good rows and note the others."""
        for row in rows:
            if isinstance(row, SkippedRow):
                self.add(row)
            else:
                yield row

    def add(self, row: SkippedRow) -> None:
        """Note a row that is left out."""
        self._rows[row.id] = row

    def listed(self) -> tuple[SkippedRow, ...]:
        """Return what was left out so far."""
        return tuple(self._rows.values())


def scored_records(records: Sequence[Record]) -> list[Record]:
    """Return the records that can be scored: those with an answer that something was read of."""
    return [record for record in records if record.error is None and record.prediction is not None]


def build_result(
    card: TaskCard,
    records: Sequence[Record],
    scored: int,
    expected: int,
    metrics: Sequence[Metric],
    warnings: Sequence[str] = (),
) -> Result:
    """Return a result whose counts say how much of the split it covers."""
    return Result(
        task=card.name,
        task_version=card.version,
        split=card.split,
        headline=card.headline,
        metrics=(*metrics, *added_metrics(card, records)),
        scored=scored,
        failed=len(records) - scored,
        expected=expected,
        warnings=tuple(warnings),
    )


def added_metrics(card: TaskCard, records: Sequence[Record]) -> list[Metric]:
    """Return the metrics of plug-ins that a card names, each a function of the scored records.

    One that fails is there without a value: the run's own figures shall not be lost with it.

    Raises:
        CardError: there is no such metric.
    """
    functions = {name: METRICS.load(name) for name in card.metrics}
    scored = scored_records(records)
    return [_added(name, function, scored) for name, function in functions.items()]


def _added(name: str, function: Any, scored: Sequence[Record]) -> Metric:
    try:
        metric = function(scored)
        if isinstance(metric, Metric):
            return replace(metric, name=name)
        reason = f"the plug-in returned {type(metric).__name__}; expected a Metric"
    except Exception as error:  # noqa: BLE001 - code of others may raise anything
        reason = f"the plug-in failed ({type(error).__name__}: {error})"
    return Metric(name, None, "fraction", len(scored), note=reason)


def read_predictions(path: Path, what: str) -> Any:
    """Return the content of a predictions file in JSON.

    Raises:
        PredictionsError: the file cannot be read or is not JSON.
    """
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PredictionsError(
            f"{path} cannot be read ({error.strerror or error}); expected {what}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PredictionsError(f"{path} is not JSON ({error}); expected {what}") from error
