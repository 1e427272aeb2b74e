"""Items of the ScienceQA set: multiple-choice questions on scenes, hints and facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from adem_bench.mini.text import CORNERS, NUMBER_NAMES, ROLLING, article
from adem_bench.mini.world import (
    CELLS,
    COLORS,
    MAX_THINGS,
    PLACES,
    RHYMES,
    SHAPES,
    WORDS,
    Dice,
    Scene,
    Split,
    lettering_scene,
    place_scene,
    random_things,
    split_of,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One multiple-choice question, in ScienceQA's terms."""

    question: str
    choices: tuple[str, ...]
    answer: int
    subject: str
    topic: str
    skill: str
    lecture: str
    solution: str
    hint: str = ""
    scene: Scene | None = None
    grade: int = 1

    @property
    def task(self) -> str:
        """`yes or no` or `closed choice`."""
        return "yes or no" if set(self.choices) == {"yes", "no"} else "closed choice"

    def key(self) -> str:
        """Return what decides the split: the scene, or all the text."""
        if self.scene is not None:
            return self.scene.key()
        return repr((self.question, self.hint, self.choices))


NAMES = ("Tom", "Lucy", "Max", "Kim", "Sam", "Zoe")
COMPASS = ("northwest", "northeast", "southwest", "southeast")
"""Cells of a map, in the order of CELLS."""
FACTS = {
    "beach": "sand and waves",
    "forest": "many trees",
    "desert": "hardly any water",
    "lake": "fresh water",
    "meadow": "grass and flowers",
    "cave": "no daylight",
}


def science_problems(split: Split, count: int, seed: int) -> list[Problem]:
    """Return the problems of a split, topics in turn.

    Args:
        split: All problems belong to it.
        count: How many.
        seed: Chooses them.
    """
    dice = Dice(seed, "science", split)
    problems: list[Problem] = []
    while len(problems) < count:
        make = TOPICS[len(problems) % len(TOPICS)]
        problem = make(dice)
        while split_of(problem.key()) != split:
            problem = make(dice)
        problems.append(replace(problem, grade=1 + dice.below(12)))
    return problems


def _choices(
    dice: Dice, right: str, others: Sequence[str], most: int = 4
) -> tuple[tuple[str, ...], int]:
    """Return 2 to `most` choices in random order, and the index of the right one."""
    count = 2 + dice.below(most - 1)
    wrong = [other for other in others if other != right]
    choices = tuple(dice.shuffled([right, *dice.sample(wrong, count - 1)]))
    return choices, choices.index(right)


def _color_of_shape(dice: Dice) -> Problem:
    scene = random_things(dice, 1 + dice.below(2))
    thing = dice.pick(scene.things)
    choices, answer = _choices(dice, thing.color, COLORS)
    return Problem(
        f"What color is the {thing.shape} in the picture?",
        choices,
        answer,
        "natural science",
        "physics",
        "Identify colors",
        "A color is a property that you can see.",
        f"The {thing.shape} is {thing.color}.",
        scene=scene,
    )


def _number_of_shapes(dice: Dice) -> Problem:
    scene = random_things(dice, 1 + dice.below(MAX_THINGS))
    right = NUMBER_NAMES[len(scene.things)]
    choices, answer = _choices(dice, right, NUMBER_NAMES[1:])
    return Problem(
        "How many shapes are in the picture?",
        choices,
        answer,
        "natural science",
        "science and engineering practices",
        "Count objects",
        "Count each object once.",
        f"There are {right}.",
        scene=scene,
    )


def _rolls(dice: Dice) -> Problem:
    shapes = dice.pick((ROLLING, [shape for shape in SHAPES if shape not in ROLLING]))
    scene = random_things(dice, 1, shapes)
    right = "yes" if scene.things[0].shape in ROLLING else "no"
    choices, answer = _choices(dice, right, ("yes", "no"), most=2)
    return Problem(
        "Can the shape in the picture roll?",
        choices,
        answer,
        "natural science",
        "physics",
        "Predict motion",
        "Objects without corners can roll.",
        f"The picture shows a {scene.things[0].shape}.",
        hint="A shape with no corners can roll.",
        scene=scene,
    )


def _corners(dice: Dice) -> Problem:
    corner_count = dice.pick((0, 3, 4))
    right = dice.pick([shape for shape, corners in CORNERS.items() if corners == corner_count])
    others = [shape for shape, corners in CORNERS.items() if corners != corner_count]
    choices, answer = _choices(dice, right, others)
    question = {0: "can roll", 3: "has three corners", 4: "has four corners"}[corner_count]
    return Problem(
        f"Which shape {question}?",
        choices,
        answer,
        "natural science",
        "physics",
        "Classify shapes",
        "Shapes differ in their corners. Shapes without corners can roll.",
        f"The {right} {question}.",
    )


def _who_drew(dice: Dice) -> Problem:
    first, second = dice.sample(NAMES, 2)
    colors = dict(zip((first, second), dice.sample(COLORS, 2), strict=True))
    shapes = dict(zip((first, second), dice.sample(SHAPES, 2), strict=True))
    asked = dice.pick((first, second))
    choices, answer = _choices(dice, colors[asked], COLORS)
    drawn = [
        f"{name} drew {article(colors[name])} {colors[name]} {shapes[name]}."
        for name in (first, second)
    ]
    return Problem(
        f"Which color did {asked} use?",
        choices,
        answer,
        "natural science",
        "science and engineering practices",
        "Read reports",
        "Reports tell who did what.",
        f"{asked} used {colors[asked]}.",
        hint=" ".join(drawn),
    )


def _map(dice: Dice) -> Problem:
    scene = random_things(dice, 2 + dice.below(2))
    thing = dice.pick(scene.things)
    choices, answer = _choices(dice, thing.shape, SHAPES)
    return Problem(
        f"Which shape is in the {COMPASS[thing.cell]} of the map?",
        choices,
        answer,
        "social science",
        "geography",
        "Read a map",
        "Maps have four directions. North is at the top, west is on the left.",
        f"The {thing.shape} is in the {CELLS[thing.cell]}.",
        hint="The top of the map is north." if dice.below(2) else "",
        scene=scene,
    )


def _place(dice: Dice) -> Problem:
    place = dice.pick(PLACES)
    choices, answer = _choices(dice, place, PLACES)
    return Problem(
        "Which place does the picture show?",
        choices,
        answer,
        "social science",
        "geography",
        "Recognize landscapes",
        "Landscapes differ in what covers the ground.",
        f"The picture shows a {place}.",
        scene=place_scene(dice, place),
    )


def _fact(dice: Dice) -> Problem:
    place = dice.pick(PLACES)
    choices, answer = _choices(dice, place, PLACES)
    return Problem(
        f"Which place has {FACTS[place]}?",
        choices,
        answer,
        "social science",
        "geography",
        "Compare landscapes",
        "Landscapes differ in what is found there.",
        f"A {place} has {FACTS[place]}.",
    )


def _home(dice: Dice) -> Problem:
    names = dice.sample(NAMES, 2)
    homes = dice.sample(PLACES, 2)
    asked = dice.below(2)
    choices, answer = _choices(dice, homes[asked], PLACES)
    lines = [f"{name} lives near a {home}." for name, home in zip(names, homes, strict=True)]
    return Problem(
        f"What is near the home of {names[asked]}?",
        choices,
        answer,
        "social science",
        "geography",
        "Use a text",
        "Texts tell where people live.",
        f"{names[asked]} lives near a {homes[asked]}.",
        hint=" ".join(lines),
    )


def _word_shown(dice: Dice) -> Problem:
    word = dice.pick(WORDS)
    choices, answer = _choices(dice, word, WORDS)
    return Problem(
        "Which word is in the picture?",
        choices,
        answer,
        "language science",
        "reading",
        "Read words",
        "Read the letters from left to right.",
        f"The word is {word}.",
        scene=lettering_scene(dice, word),
    )


def _rhyme(dice: Dice) -> Problem:
    family = dice.pick(RHYMES)
    word, right = dice.sample(family, 2)
    others = [other for other in WORDS if other not in family]
    choices, answer = _choices(dice, right, others)
    return Problem(
        f"Which word rhymes with {word}?",
        choices,
        answer,
        "language science",
        "phonology",
        "Find rhymes",
        "Words rhyme when they end in the same sound.",
        f"The words {word} and {right} rhyme.",
    )


def _who_wrote(dice: Dice) -> Problem:
    first, second = dice.sample(NAMES, 2)
    words = dice.sample(WORDS, 2)
    asked = dice.below(2)
    choices, answer = _choices(dice, words[asked], WORDS)
    return Problem(
        f"Which word did {(first, second)[asked]} write?",
        choices,
        answer,
        "language science",
        "reading",
        "Use a text",
        "Texts tell who did what.",
        f"{(first, second)[asked]} wrote {words[asked]}.",
        hint=f"{first} wrote {words[0]}. {second} wrote {words[1]}.",
    )


TOPICS: tuple[Callable[[Dice], Problem], ...] = (
    _color_of_shape,
    _number_of_shapes,
    _rolls,
    _corners,
    _who_drew,
    _map,
    _place,
    _fact,
    _home,
    _word_shown,
    _rhyme,
    _who_wrote,
)
