"""Which requests are answered together: ordered by length, images kept together, sized to fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from adem_bench.errors import AdemBenchError, OutOfMemoryError
from adem_bench.models.base import Budget
from adem_bench.records import Request, Response, Sample

WINDOW = 4096
"""Samples that are ordered at a time, so that a data set of any size streams through."""


@dataclass(frozen=True, slots=True)
class Item:
    """A sample on its way to the model."""

    sample: Sample
    request: Request
    length: int
    """Tokens of prompt and answer."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Requests answered together, the same on every process that plans the same samples."""

    index: int
    items: tuple[Item, ...]


def plan(items: Iterable[Item], budget: Budget) -> Iterator[Unit]:
    """Yield units of at most `budget`; planning is deterministic and streams."""
    batches = _in_order(items, budget.rows) if budget.in_order else _sorted(items, budget)
    for index, batch in enumerate(batches):
        yield Unit(index, tuple(batch))


def _in_order(items: Iterable[Item], rows: int) -> Iterator[list[Item]]:
    stream = iter(items)
    while batch := list(islice(stream, rows)):
        yield batch


def _sorted(items: Iterable[Item], budget: Budget) -> Iterator[list[Item]]:
    stream = iter(items)
    while window := list(islice(stream, WINDOW)):
        yield from _batches(_ordered(window), budget)


def _ordered(window: Sequence[Item]) -> list[Item]:
    """Order by length, longest first: padding is least, and memory runs out at once or never.

    Requests on the same image stay together, so that its memory is still cached; those
    without image come last.
    """
    groups: dict[object, list[Item]] = {}
    for position, item in enumerate(window):
        groups.setdefault(item.request.images or position, []).append(item)

    def rank(group: list[Item]) -> tuple[bool, int]:
        return (not group[0].request.images, -max(item.length for item in group))

    return [item for group in sorted(groups.values(), key=rank) for item in group]


def _batches(items: Sequence[Item], budget: Budget) -> Iterator[list[Item]]:
    batch: list[Item] = []
    longest = 0
    for item in items:
        wider = max(longest, item.length)
        full = len(batch) == budget.rows or wider * (len(batch) + 1) > budget.tokens
        mixed = bool(batch) and bool(batch[0].request.images) != bool(item.request.images)
        if batch and (full or mixed):
            yield batch
            batch, wider = [], item.length
        batch.append(item)
        longest = wider
    if batch:
        yield batch


def ahead(
    units: Iterator[Unit], prefetch: Callable[[Sequence[Request]], None], depth: int = 1
) -> Iterator[Unit]:
    """Yield units while `prefetch` already works on the requests of the next ones.

    Args:
        units: In order.
        prefetch: Called with the requests of a unit, well before it is yielded.
        depth: How many units `prefetch` is ahead.
    """
    coming: deque[Unit] = deque()
    for unit in units:
        prefetch([item.request for item in unit.items])
        coming.append(unit)
        if len(coming) > depth:
            yield coming.popleft()
    yield from coming


class Backoff:
    """Answers units, in smaller parts once memory has run out."""

    def __init__(self, generate: Callable[[Sequence[Request]], list[Response]]) -> None:
        """Wrap a model's `generate`."""
        self._generate = generate
        self.most_rows: int | None = None
        """Rows that fit, once known; None while everything has fitted."""

    def answer(self, items: Sequence[Item]) -> Iterator[tuple[Item, Response]]:
        """Yield every item with its response, in order, part by part.

        Raises:
            AdemBenchError: not even one request fits.
        """
        done = 0
        while done < len(items):
            part = items[done : done + (self.most_rows or len(items))]
            try:
                responses = self._generate([item.request for item in part])
            except OutOfMemoryError as error:
                if len(part) == 1:
                    raise AdemBenchError(
                        f"sample {part[0].sample.id} alone does not fit in memory; use a smaller "
                        "--dtype (bfloat16) or a device with more memory"
                    ) from error
                self.most_rows = len(part) // 2
                continue
            if len(responses) != len(part):
                raise AdemBenchError(
                    f"the model gave {len(responses)} responses to {len(part)} requests; its "
                    "`generate` must return one for each, in order"
                )
            yield from zip(part, responses, strict=True)
            done += len(part)
