"""Sizes of differences that the user states, and how many samples would show one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adem_bench.errors import ResultsError
from adem_bench.metrics.paired import SIGNIFICANT, Difference, units_needed
from adem_bench.results.comparison_suite import TaskComparison, Unit
from adem_bench.results.leaderboard.build import chosen_places
from adem_bench.results.variants import Place

POWER = 0.8
"""How often a true difference shall be shown."""
PER_CENT, SHARE = 1.0, 0.01
"""The difference by default: one per cent of a fraction, else this share of the first figure."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Differences of headlines, in the unit of tables: per cent of fractions, else points."""

    everywhere: float | None = None
    by_place: Mapping[Place, float] = field(default_factory=dict)

    def of(self, task: TaskComparison) -> float | None:
        """Return the size for a task's headline, in the metric's unit; None if none was named."""
        size = self.by_place.get(task.place, self.everywhere)
        if size is None:
            return None
        return size / 100 if task.unit(task.comparison.headline) == "fraction" else size


def read_sizes(option: str, texts: Sequence[str], places: Sequence[Place]) -> Sizes:
    """Return what `TASK=VALUE` and a bare `VALUE` say, a task's own before a group's.

    Args:
        option: What they were given to, for messages.
        texts: As given; a task may be named as `sqa`, `sqa/test` or by a group as `mini`.
        places: Tasks and splits that are compared.

    Raises:
        ResultsError: a value is not a number of 0 or more, a task is not compared, or something
            has two values.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if equals and not name:
            raise ResultsError(f"{option} {text}: no task is named before the =")
        if name in found:
            raise ResultsError(f"{option} gives two values for {name or 'all tasks'}")
        found[name] = _number(option, text, value)
    chosen: dict[str, list[Place]] = {}
    for name in filter(None, found):
        try:
            chosen[name] = chosen_places(places, [name])
        except ResultsError as error:
            raise ResultsError(f"{option} {name}={found[name]:g}: {error}") from error
    by_place: dict[Place, float] = {}
    # A group's value first, so that a task's own replaces it.
    for name in sorted(chosen, key=lambda name: -len(chosen[name])):
        by_place |= dict.fromkeys(chosen[name], found[name])
    return Sizes(found.get(""), by_place)


def _number(option: str, text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ResultsError(
            f"{option} {text}: {value!r} is not a number; give TASK=VALUE, or one VALUE for all"
        ) from None
    if not math.isfinite(number) or number < 0:
        what = {"--margin": "a margin", "--detect": "a difference"}.get(option, "a size")
        raise ResultsError(f"{option} {text}: {what} is a number of 0 or more, not {value}")
    return number


def default_size(difference: Difference, unit: Unit) -> float:
    """Return the size of a difference that sample counts are for unless the user names one."""
    if unit == "fraction":
        return PER_CENT / 100
    return SHARE * abs(difference.first)


@dataclass(frozen=True, slots=True)
class Needed:
    """How many units would show a difference of some size."""

    units: int | None
    """None where the units that were compared show no spread."""
    size: float
    """In the metric's own unit."""


@dataclass(frozen=True, slots=True)
class Power:
    """How sample counts are computed."""

    detect: Sizes = Sizes()
    """Sizes of differences to show; by default `default_size`."""
    power: float = POWER
    level: float = SIGNIFICANT
    """The p-value below which a difference counts as shown."""

    def needed(self, task: TaskComparison, difference: Difference) -> Needed | None:
        """Return how many units would show a difference of the size in question.

        Args:
            task: Of the difference.
            difference: Of its headline.

        Returns:
            None where the size is 0.
        """
        size = self.detect.of(task)
        if size is None:
            size = default_size(difference, task.unit(difference.metric))
        if not size > 0:
            return None
        return Needed(units_needed(difference, size, self.power, self.level), size)
