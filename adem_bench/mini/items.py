"""Items of the caption and MME sets: scenes with what is asked or said of them.

MME scenes come in pairs: what is true of one is false of the other, and both are asked the
same two questions. So every wording is answered Yes as often as No, and nothing can be won
without looking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adem_bench.mini.text import CORNERS, NUMBER_NAMES, ROLLING, captions
from adem_bench.mini.world import (
    CELLS,
    COLORS,
    MAX_ADDEND,
    MAX_THINGS,
    PLACES,
    SHAPES,
    WORDS,
    Dice,
    Scene,
    Split,
    lettering_scene,
    place_scene,
    random_sum,
    random_things,
    split_of,
    things_scene,
)

SUFFIX = "Please answer yes or no."


@dataclass(frozen=True, slots=True)
class YesNoItem:
    """An image with a question that is true of it and one that is not."""

    subtask: str
    scene: Scene
    true_question: str
    false_question: str


@dataclass(frozen=True, slots=True)
class CaptionItem:
    """An image with five captions."""

    scene: Scene
    captions: list[str]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two scenes, each with the question that is true of it and false of the other."""

    scenes: tuple[Scene, Scene]
    questions: tuple[str, str]


def yes_no_items(split: Split, images_per_subtask: int, seed: int) -> list[YesNoItem]:
    """Return the MME items of a split, subtask by subtask.

    Args:
        split: All scenes belong to it.
        images_per_subtask: An even number.
        seed: Chooses the scenes.
    """
    items: list[YesNoItem] = []
    for subtask, make in SUBTASKS.items():
        dice = Dice(seed, "yes_no", subtask, split)
        enough = len(items) + images_per_subtask
        while len(items) < enough:
            contrast = make(dice)
            if any(split_of(scene.key()) != split for scene in contrast.scenes):
                continue
            first, second = contrast.questions
            for scene, true, false in zip(
                contrast.scenes, (first, second), (second, first), strict=True
            ):
                items.append(YesNoItem(subtask, scene, f"{true} {SUFFIX}", f"{false} {SUFFIX}"))
    return items


def caption_items(split: Split, count: int, seed: int) -> list[CaptionItem]:
    """Return the caption items of a split.

    Args:
        split: All scenes belong to it.
        count: How many.
        seed: Chooses the scenes.
    """
    dice = Dice(seed, "captions", split)
    items: list[CaptionItem] = []
    while len(items) < count:
        scene = dice.pick(CAPTIONED)(dice)
        if split_of(scene.key()) == split:
            items.append(CaptionItem(scene, captions(scene)))
    return items


CAPTIONED: tuple[Callable[[Dice], Scene], ...] = (
    lambda dice: random_things(dice, 1),
    lambda dice: random_things(dice, 2),
    lambda dice: random_things(dice, 2),
    lambda dice: place_scene(dice, dice.pick(PLACES)),
    lambda dice: lettering_scene(dice, dice.pick(WORDS)),
)


def _existence(dice: Dice) -> Contrast:
    there, absent, *others = dice.shuffled(SHAPES)
    count = 1 + dice.below(3)
    scenes = []
    for shape in (there, absent):
        shapes = [shape, *dice.sample(others, count - 1)]
        cells = dice.sample(range(len(CELLS)), count)
        scenes.append(things_scene(dice, [(s, dice.pick(COLORS)) for s in shapes], cells))
    ask = "Is there a {} in this image?"
    return Contrast((scenes[0], scenes[1]), (ask.format(there), ask.format(absent)))


def _count(dice: Dice) -> Contrast:
    counts = dice.sample(range(1, MAX_THINGS + 1), 2)
    scenes, questions = [], []
    for count in counts:
        things = [(dice.pick(SHAPES), dice.pick(COLORS)) for _ in range(count)]
        scenes.append(things_scene(dice, things, dice.sample(range(len(CELLS)), count)))
        noun, verb = ("shape", "Is") if count == 1 else ("shapes", "Are")
        questions.append(f"{verb} there {NUMBER_NAMES[count]} {noun} in this image?")
    return Contrast((scenes[0], scenes[1]), (questions[0], questions[1]))


def _position(dice: Dice) -> Contrast:
    shape, *others = dice.shuffled(SHAPES)
    places = dice.sample(range(len(CELLS)), 2)
    scenes = []
    for cell in places:
        other_cell = dice.pick([c for c in range(len(CELLS)) if c != cell])
        things = [(shape, dice.pick(COLORS)), (dice.pick(others), dice.pick(COLORS))]
        scenes.append(things_scene(dice, things, [cell, other_cell]))
    first, second = (f"Is the {shape} in the {CELLS[cell]} of this image?" for cell in places)
    return Contrast((scenes[0], scenes[1]), (first, second))


def _color(dice: Dice) -> Contrast:
    shape, *others = dice.shuffled(SHAPES)
    colors = dice.sample(COLORS, 2)
    scenes = []
    for color in colors:
        things = [(shape, color), (dice.pick(others), dice.pick(COLORS))]
        scenes.append(things_scene(dice, things, dice.sample(range(len(CELLS)), 2)))
    first, second = (f"Is the {shape} in this image {color}?" for color in colors)
    return Contrast((scenes[0], scenes[1]), (first, second))


def _ocr(dice: Dice) -> Contrast:
    first, second = dice.sample(WORDS, 2)
    ask = "Is the word in this image {}?"
    scenes = (lettering_scene(dice, first), lettering_scene(dice, second))
    return Contrast(scenes, (ask.format(first), ask.format(second)))


def _scene(dice: Dice) -> Contrast:
    first, second = dice.sample(PLACES, 2)
    ask = "Is the place in this image a {}?"
    scenes = (place_scene(dice, first), place_scene(dice, second))
    return Contrast(scenes, (ask.format(first), ask.format(second)))


def _numerical_calculation(dice: Dice) -> Contrast:
    first, second = dice.sample(range(2, 2 * MAX_ADDEND + 1), 2)
    ask = "Is the answer to the sum in this image {}?"
    scenes = (
        lettering_scene(dice, random_sum(dice, first)),
        lettering_scene(dice, random_sum(dice, second)),
    )
    return Contrast(scenes, (ask.format(first), ask.format(second)))


PROPERTIES = {
    "Can the shape in this image roll?": ROLLING,
    "Is there a hole in the shape in this image?": ("ring",),
    "Does the shape in this image have three corners?": tuple(
        shape for shape, corners in CORNERS.items() if corners == 3
    ),
    "Does the shape in this image have four corners?": tuple(
        shape for shape, corners in CORNERS.items() if corners == 4
    ),
}


def _commonsense_reasoning(dice: Dice) -> Contrast:
    questions = dice.sample(tuple(PROPERTIES), 2)
    first, second = (set(PROPERTIES[question]) for question in questions)
    scenes = []
    for mine, other in ((first, second), (second, first)):
        shapes = sorted(mine - other)
        if not shapes:
            return _commonsense_reasoning(dice)
        scenes.append(random_things(dice, 1, shapes))
    return Contrast((scenes[0], scenes[1]), (questions[0], questions[1]))


SUBTASKS: dict[str, Callable[[Dice], Contrast]] = {
    "existence": _existence,
    "count": _count,
    "position": _position,
    "color": _color,
    "OCR": _ocr,
    "scene": _scene,
    "commonsense_reasoning": _commonsense_reasoning,
    "numerical_calculation": _numerical_calculation,
}
"""Names of official subtasks; two of them lie in MME's cognition half."""
