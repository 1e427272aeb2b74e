"""Further texts for the language model alone: what a description implies.

One yes or no teaches little. Statements, and many short questions on one description, make a
model of this size read descriptions and options in far fewer steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from adem_bench.mini.items import PROPERTIES, caption_items, yes_no_items
from adem_bench.mini.science import COMPASS
from adem_bench.mini.text import CORNERS, NUMBER_NAMES, article
from adem_bench.mini.world import (
    CELLS,
    COLORS,
    MAX_ADDEND,
    PLACES,
    RHYMES,
    SHAPES,
    WORDS,
    Dice,
    Scene,
    Split,
)
from adem_tiny.texts import LETTERS, Row

CHECKS = 5
"""Questions in a row at most; twice as many if they are bare words."""


def fact_rows(split: Split, count: int, seed: int) -> list[Row]:
    """Return descriptions, each followed by statements or by short questions with answers.

    Args:
        split: Only scenes and questions of this split are used.
        count: Number of rows, at most.
        seed: The same one gives the same rows.
    """
    dice = Dice(seed, "facts")
    scenes = [item.scene for item in yes_no_items(split, max(2, count // 16 * 2), seed)]
    scenes += [item.scene for item in caption_items(split, count // 2, seed)]
    rows = []
    for scene in dice.shuffled(scenes)[:count]:
        if dice.below(5) > 1:
            rows.append(Row("checks", scene, "", " ".join(checks_of(scene, dice))))
            continue
        facts = dice.shuffled(facts_of(scene) if dice.below(2) else option_facts(dice))
        rows.append(Row("facts", scene, "", " ".join(facts)))
    return rows


def facts_of(scene: Scene) -> list[str]:
    """Return statements that are true of a scene."""
    if scene.lettering is not None:
        text, color = scene.lettering.text, scene.lettering.color
        row = f"The letters are {color}."
        if "+" in text:
            return [f"The sum is {int(text[0]) + int(text[2])}.", row]
        family = next(family for family in RHYMES if text in family)
        rhymes = " and ".join(word for word in family if word != text)
        return [f"The word is {text}.", f"The word rhymes with {rhymes}.", row]
    count = len(scene.things)
    facts = ["There is one shape." if count == 1 else f"There are {NUMBER_NAMES[count]} shapes."]
    if scene.place:
        facts.append(f"The place is a {scene.place}.")
    shapes = [thing.shape for thing in scene.things]
    absent = [shape for shape in SHAPES if shape not in shapes]
    facts.append("There is no " + " and no ".join(absent) + ".")
    for thing in scene.things:
        cell = CELLS[thing.cell]
        facts.append(f"In the {cell} is {article(thing.color)} {thing.color} {thing.shape}.")
        facts.append(f"The shape in the {COMPASS[thing.cell]} is a {thing.shape}.")
        facts.append(f"The {thing.shape} has {CORNERS[thing.shape]} corners.")
        if shapes.count(thing.shape) == 1:
            facts.append(f"The {thing.shape} is {thing.color}.")
            facts.append(f"The {thing.shape} is in the {cell}.")
    return facts


def option_facts(dice: Dice) -> list[str]:
    """Return a list of options and which letter stands for which."""
    words = dice.sample(dice.pick((COLORS, SHAPES, PLACES, WORDS)), 2 + dice.below(3))
    options = " ".join(f"({letter}) {word}" for letter, word in zip(LETTERS, words, strict=False))
    named = dice.shuffled(
        [f"{word} is {letter}." for letter, word in zip(LETTERS, words, strict=False)]
    )
    return [f"Options: {options}\n{' '.join(named)}"]


def choice_rows(split: Split, count: int, seed: int) -> list[Row]:
    """Return descriptions, each followed by short multiple-choice questions with answers.

    Args:
        split: Only scenes and questions of this split are used.
        count: Number of rows, at most.
        seed: The same one gives the same rows.
    """
    dice = Dice(seed, "choices")
    rows = []
    for row in fact_rows(split, count, seed):
        if row.scene is not None:
            choices = dice.shuffled(choices_of(row.scene, dice))[:CHECKS]
            rows.append(Row("choices", row.scene, "", " ".join(choices)))
    return rows


def choices_of(scene: Scene, dice: Dice) -> list[str]:
    """Return multiple-choice questions in bare words, each with its answer."""
    if scene.lettering is not None:
        text = scene.lettering.text
        if "+" in text:
            sums = [str(total) for total in range(2, 2 * MAX_ADDEND + 1)]
            return [_choice(dice, "sum", str(int(text[0]) + int(text[2])), sums) for _ in range(3)]
        return [_choice(dice, "word", text, WORDS) for _ in range(3)]
    choices = [_choice(dice, "number", NUMBER_NAMES[len(scene.things)], NUMBER_NAMES[1:])]
    if scene.place:
        choices.append(_choice(dice, "place", scene.place, PLACES))
    shapes = [thing.shape for thing in scene.things]
    for thing in scene.things:
        for where in (CELLS[thing.cell], COMPASS[thing.cell]):
            choices.append(_choice(dice, f"shape in the {where}", thing.shape, SHAPES))
        if shapes.count(thing.shape) == 1:
            choices.append(_choice(dice, f"color {thing.shape}", thing.color, COLORS))
    return choices


def _choice(dice: Dice, question: str, right: str, options: Sequence[str]) -> str:
    wrong = [option for option in options if option != right]
    shown = dice.shuffled([right, *dice.sample(wrong, 1 + dice.below(3))])
    listed = " ".join(f"({letter}) {word}" for letter, word in zip(LETTERS, shown, strict=False))
    answer = LETTERS[shown.index(right)]
    return f"{question} Options: {listed}\nResponse:The answer is {answer}."


def checks_of(scene: Scene, dice: Dice) -> list[str]:
    """Return questions, each with its answer, about half of them Yes.

    Half of the scenes get MME's wording, and half the bare words that decide the answer: there
    the answer follows at once, and comparing is learned many times sooner.
    """
    bare = dice.below(2) == 1
    if scene.lettering is not None:
        text = scene.lettering.text
        if "+" not in text:
            question = "word {}" if bare else "Is the word in this image {}?"
            return [_check(dice, question, text, WORDS) for _ in range(3)]
        total, totals = str(int(text[0]) + int(text[2])), range(2, 2 * MAX_ADDEND + 1)
        question = "sum {}" if bare else "Is the answer to the sum in this image {}?"
        return [_check(dice, question, total, list(map(str, totals))) for _ in range(3)]
    checks = _thing_checks(scene, dice, bare)
    if scene.place:
        question = "place {}" if bare else "Is the place in this image a {}?"
        checks.append(_check(dice, question, scene.place, PLACES))
    if len(scene.things) == 1 and not bare:
        shape = scene.things[0].shape
        checks += [f"{ask} {_answer(shape in true)}" for ask, true in PROPERTIES.items()]
    return dice.shuffled(checks)[: 2 * CHECKS if bare else CHECKS]


def _thing_checks(scene: Scene, dice: Dice, bare: bool) -> list[str]:
    count = len(scene.things)
    asked = count if dice.below(2) else 1 + dice.below(len(CELLS))
    number = f"{NUMBER_NAMES[asked]} {'shape' if asked == 1 else 'shapes'}"
    verb = "Is" if asked == 1 else "Are"
    question = number if bare else f"{verb} there {number} in this image?"
    checks = [f"{question} {_answer(asked == count)}"]
    shapes = [thing.shape for thing in scene.things]
    for shape in dice.sample(SHAPES, 4 if bare else 3):
        question = shape if bare else f"Is there a {shape} in this image?"
        checks.append(f"{question} {_answer(shape in shapes)}")
    for thing in scene.things:
        shape, cell = thing.shape, CELLS[thing.cell]
        if shapes.count(shape) == 1:
            question = f"{shape} {{}}" if bare else f"Is the {shape} in this image {{}}?"
            checks.append(_check(dice, question, thing.color, COLORS))
            question = f"{shape} {{}}" if bare else f"Is the {shape} in the {{}} of this image?"
            checks.append(_check(dice, question, cell, CELLS))
    return checks


def _check(dice: Dice, question: str, right: str, options: Sequence[str]) -> str:
    shown = right if dice.below(2) else dice.pick([word for word in options if word != right])
    return f"{question.format(shown)} {_answer(shown == right)}"


def _answer(is_true: bool) -> str:
    return "Response:Yes" if is_true else "Response:No"
