"""Training rows of the mini world, as prompts and answers in the published wording.

For the language model, which never sees an image, a description in words stands where the
image would be, after the prefix `Image: `.
"""

from __future__ import annotations

from dataclasses import dataclass

from adem_bench.data.mini.items import caption_items, yes_no_items
from adem_bench.data.mini.science import COMPASS, Problem, science_problems
from adem_bench.data.mini.text import CORNERS, NUMBER_NAMES, article, describe
from adem_bench.data.mini.world import (
    CELLS,
    COLORS,
    PLACES,
    RHYMES,
    SHAPES,
    WORDS,
    Dice,
    Scene,
    Split,
)
from adem_bench.models.adem.sequence import IMAGE_PREFIX, NO_IMAGE_PREFIX

CAPTION_PROMPT = "a picture of "
"""Prepended twice in training, as published (methods Q10): once as prompt, once as answer."""
LETTERS = "ABCDE"


@dataclass(frozen=True, slots=True)
class Row:
    """One training example."""

    kind: str
    """`mme`, `sqa` or `caption`."""
    scene: Scene | None
    prompt: str
    answer: str

    @property
    def context(self) -> str:
        """The image in words, behind the prefix that stands before images."""
        if self.scene is None:
            return NO_IMAGE_PREFIX
        return IMAGE_PREFIX + describe(self.scene)


def yes_no_rows(split: Split, images_per_subtask: int, seed: int) -> list[Row]:
    """Return two rows per image, in the published instruction prompt."""
    rows = []
    for item in yes_no_items(split, images_per_subtask, seed):
        for question, answer in ((item.true_question, "Yes"), (item.false_question, "No")):
            rows.append(Row("mme", item.scene, f"Instruction: {question}\nResponse:", answer))
    return rows


def science_rows(split: Split, count: int, seed: int) -> list[Row]:
    """Return one row per problem, in the format QCM-A without captions."""
    return [
        Row("sqa", problem.scene, science_prompt(problem), science_answer(problem))
        for problem in science_problems(split, count, seed)
    ]


def caption_rows(split: Split, count: int, seed: int) -> list[Row]:
    """Return one row per image, with one of its five captions."""
    dice = Dice(seed, "caption choice")
    return [
        Row("caption", item.scene, CAPTION_PROMPT, CAPTION_PROMPT + dice.pick(item.captions))
        for item in caption_items(split, count, seed)
    ]


def fact_rows(split: Split, count: int, seed: int) -> list[Row]:
    """Return descriptions followed by what they imply, for the language model alone.

    Yes-or-no answers teach little each; statements make a model of this size read
    descriptions and options in far fewer steps.
    """
    dice = Dice(seed, "facts")
    scenes = [item.scene for item in yes_no_items(split, max(2, count // 16 * 2), seed)]
    scenes += [item.scene for item in caption_items(split, count // 2, seed)]
    rows = []
    for scene in dice.shuffled(scenes)[:count]:
        facts = dice.shuffled(facts_of(scene) if dice.below(3) else option_facts(dice))
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


def science_prompt(problem: Problem) -> str:
    """Return the published prompt in the format QCM-A (methods 1.10)."""
    options = " ".join(
        f"({letter}) {choice}" for letter, choice in zip(LETTERS, problem.choices, strict=False)
    )
    context = problem.hint or "N/A"
    return f"Question: {problem.question}\nContext: {context}\nOptions: {options}\nResponse:"


def science_answer(problem: Problem) -> str:
    """Return the published target."""
    return f"The answer is {LETTERS[problem.answer]}."


def rows_of(split: Split, count: int, seed: int) -> list[Row]:
    """Return about `count` rows in random order: 40% MME, 40% ScienceQA, 20% captions."""
    rows = [
        *yes_no_rows(split, max(2, count // 40 // 2 * 2), seed),
        *science_rows(split, count * 4 // 10, seed),
        *caption_rows(split, count // 5, seed),
    ]
    return Dice(seed, "order").shuffled(rows)
