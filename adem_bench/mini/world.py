"""Scenes of the mini world, and the rule that keeps each of them in one split."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Split = Literal["train", "val", "test"]
T = TypeVar("T")

SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
CELLS = ("top left", "top right", "bottom left", "bottom right")
ROWS = ("top", "middle", "bottom")
PLACES = ("beach", "forest", "desert", "lake", "meadow", "cave")
RHYMES = (
    ("sun", "fun", "run"),
    ("cat", "hat", "bat"),
    ("dog", "log", "fog"),
    ("pen", "ten", "hen"),
    ("pig", "wig", "big"),
)
WORDS = tuple(sorted(word for family in RHYMES for word in family))
MAX_THINGS = len(CELLS)
MAX_ADDEND = 5


class Dice:
    """Random choices that are the same on every Python version.

    Of `random.Random`, only `random()` is promised to keep its sequence.
    """

    def __init__(self, *seeds: object) -> None:
        """Seed with any values that have a stable text."""
        digest = hashlib.sha256("|".join(map(str, seeds)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311

    def below(self, limit: int) -> int:
        """Return an integer from 0 to `limit - 1`."""
        return int(self._random.random() * limit)

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Return `count` different options in random order."""
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return all options in random order."""
        return self.sample(options, len(options))


@dataclass(frozen=True, slots=True)
class Thing:
    """A coloured shape in one quarter of the image."""

    shape: str
    color: str
    cell: int
    """Index into CELLS."""


@dataclass(frozen=True, slots=True)
class Lettering:
    """Three characters written across the image: a word, or a sum such as `3+4`."""

    text: str
    color: str
    row: int
    """Index into ROWS."""


@dataclass(frozen=True, slots=True)
class Scene:
    """All that an image shows."""

    things: tuple[Thing, ...] = ()
    """In reading order, at most one per cell."""
    lettering: Lettering | None = None
    place: str = ""
    """One of PLACES as the background; plain if empty."""
    jitter: int = 0
    """Moves, sizes and shades: changes pixels, not meaning."""

    def key(self) -> str:
        """Return what the scene means, jitter left out."""
        return repr((self.things, self.lettering, self.place))


def split_of(key: str) -> Split:
    """Return the only split in which a scene (or a question without one) may occur."""
    percent = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    if percent < 15:
        return "test"
    return "val" if percent < 25 else "train"


def things_scene(dice: Dice, things: Sequence[tuple[str, str]], cells: Sequence[int]) -> Scene:
    """Return a scene of (shape, color) pairs in the given cells.

    Args:
        dice: For what is drawn at random.
        things: Shape and colour of each.
        cells: Where each is, by its place in `CELLS`.
    """
    placed = [Thing(shape, color, cell) for (shape, color), cell in zip(things, cells, strict=True)]
    ordered = tuple(sorted(placed, key=lambda thing: thing.cell))
    return Scene(things=ordered, jitter=dice.below(1 << 30))


def random_things(dice: Dice, count: int, shapes: Sequence[str] = SHAPES) -> Scene:
    """Return a scene of `count` things, shapes all different, colors and cells random.

    Args:
        dice: For what is drawn at random.
        count: How many things.
        shapes: To choose from.
    """
    chosen = [(shape, dice.pick(COLORS)) for shape in dice.sample(shapes, count)]
    return things_scene(dice, chosen, dice.sample(range(len(CELLS)), count))


def lettering_scene(dice: Dice, text: str) -> Scene:
    """Return a scene that shows three characters."""
    lettering = Lettering(text, dice.pick(COLORS), dice.below(len(ROWS)))
    return Scene(lettering=lettering, jitter=dice.below(1 << 30))


def place_scene(dice: Dice, place: str) -> Scene:
    """Return a scene of one thing at a place."""
    thing = Thing(dice.pick(SHAPES), dice.pick(COLORS), dice.below(len(CELLS)))
    return Scene(things=(thing,), place=place, jitter=dice.below(1 << 30))


def random_sum(dice: Dice, total: int) -> str:
    """Return a sum of two digits that makes `total`, such as `3+4`."""
    first = dice.pick([a for a in range(1, MAX_ADDEND + 1) if 1 <= total - a <= MAX_ADDEND])
    return f"{first}+{total - first}"
