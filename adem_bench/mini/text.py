"""What can be said of a scene: a description, five captions, and words that tests share."""

from __future__ import annotations

from adem_bench.mini.world import CELLS, ROWS, Scene, Thing

NUMBER_NAMES = ("zero", "one", "two", "three", "four")
PREPOSITION = {
    "beach": "on", "forest": "in", "desert": "in", "lake": "on", "meadow": "in", "cave": "in",
}  # fmt: skip
ROLLING = ("circle", "ring")
CORNERS = {"circle": 0, "ring": 0, "triangle": 3, "square": 4, "diamond": 4, "cross": 12}


def article(noun: str) -> str:
    """Return `a` or `an`, as the noun's first letter asks."""
    return "an" if noun[0] in "aeiou" else "a"


def noun_phrase(thing: Thing) -> str:
    """Return `a red circle`."""
    return f"{article(thing.color)} {thing.color} {thing.shape}"


def located(thing: Thing) -> str:
    """Return `a red circle in the top left`."""
    return f"{noun_phrase(thing)} in the {CELLS[thing.cell]}"


def describe(scene: Scene) -> str:
    """Return all that a scene shows in one sentence, jitter aside."""
    if scene.lettering is not None:
        kind = "sum" if "+" in scene.lettering.text else "word"
        row = ROWS[scene.lettering.row]
        return f"the {kind} {scene.lettering.text} in {scene.lettering.color} at the {row}."
    things = ", ".join(located(thing) for thing in scene.things)
    return f"{things}, {at_place(scene.place)}." if scene.place else f"{things}."


def at_place(place: str) -> str:
    """Return `on a beach`."""
    return f"{PREPOSITION[place]} a {place}"


def captions(scene: Scene) -> list[str]:
    """Return five captions of a scene of a word, of a thing at a place, or of one or two things.

    Raises:
        ValueError: the scene is of another kind.
    """
    if scene.lettering is not None:
        return _word_captions(scene.lettering.text, scene.lettering.color)
    if scene.place and len(scene.things) == 1:
        return _place_captions(scene.things[0], scene.place)
    if len(scene.things) == 1:
        return _single_captions(scene.things[0])
    if len(scene.things) == 2:
        return _pair_captions(*scene.things)
    raise ValueError(f"no captions are known for {scene.key()}")


def _word_captions(word: str, color: str) -> list[str]:
    return [
        f"the word {word} in {color} letters",
        f"the word {word} written in {color}",
        f"the word {word} in {color}",
        f"{color} letters that spell {word}",
        f"{article(color)} {color} word that says {word}",
    ]


def _place_captions(thing: Thing, place: str) -> list[str]:
    name = noun_phrase(thing)
    return [
        f"{name} {at_place(place)}",
        f"one {thing.color} {thing.shape} {at_place(place)}",
        f"{name} seen {at_place(place)}",
        f"a {place} with {name}",
        f"a {place} and {name}",
    ]


def _single_captions(thing: Thing) -> list[str]:
    return [
        f"{located(thing)}",
        f"one {thing.color} {thing.shape} in the {CELLS[thing.cell]}",
        f"a single {thing.color} {thing.shape}",
        f"{noun_phrase(thing)} in the {CELLS[thing.cell]} corner",
        f"just {noun_phrase(thing)}",
    ]


def _pair_captions(first: Thing, second: Thing) -> list[str]:
    return [
        f"{noun_phrase(first)} and {noun_phrase(second)}",
        f"{noun_phrase(second)} and {noun_phrase(first)}",
        f"{noun_phrase(first)} with {noun_phrase(second)}",
        f"two shapes {noun_phrase(first)} and {noun_phrase(second)}",
        f"{located(first)} and {located(second)}",
    ]
