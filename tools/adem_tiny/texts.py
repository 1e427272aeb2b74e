"""Training rows of the mini world, as prompts and answers in the published wording.

For the language model, which never sees an image, a description in words stands where the
image would be, after the prefix `Image: `.
"""

from __future__ import annotations

from dataclasses import dataclass

from adem_bench.mini.items import caption_items, yes_no_items
from adem_bench.mini.science import Problem, science_problems
from adem_bench.mini.text import describe
from adem_bench.mini.world import Dice, Scene, Split
from adem_bench.models.fused.methods.adem import LAYOUT
from adem_bench.tasks.scienceqa.prompt_formats import Texts, render

CAPTION_PROMPT = "a picture of "
"""Prepended twice in training, as published (methods Q10): once as prompt, once as answer."""
LETTERS = "ABCDE"


@dataclass(frozen=True, slots=True)
class Row:
    """One training example."""

    kind: str
    """`mme`, `sqa` or `caption`; for the language model alone, `facts` or `checks` too."""
    scene: Scene | None
    prompt: str
    answer: str

    @property
    def context(self) -> str:
        """The image in words, behind the prefix that stands before images."""
        if self.scene is None:
            return LAYOUT.no_image_prefix
        return LAYOUT.image_prefix + describe(self.scene)


def yes_no_rows(split: Split, images_per_subtask: int, seed: int) -> list[Row]:
    """Return two rows per image, in the published instruction prompt.

    Args:
        split: Only scenes and questions of this split are used.
        images_per_subtask: Even.
        seed: The same one gives the same rows.
    """
    rows = []
    for item in yes_no_items(split, images_per_subtask, seed):
        for question, answer in ((item.true_question, "Yes"), (item.false_question, "No")):
            rows.append(Row("mme", item.scene, f"Instruction: {question}\nResponse:", answer))
    return rows


def science_rows(split: Split, count: int, seed: int) -> list[Row]:
    """Return one row per problem, in the format QCM-A without captions.

    Args:
        split: Only scenes and questions of this split are used.
        count: Number of problems.
        seed: The same one gives the same rows.
    """
    return [
        Row("sqa", problem.scene, *science_texts(problem))
        for problem in science_problems(split, count, seed)
    ]


def caption_rows(split: Split, count: int, seed: int) -> list[Row]:
    """Return one row per image, with one of its five captions.

    Args:
        split: Only scenes and questions of this split are used.
        count: Number of images.
        seed: The same one gives the same rows.
    """
    dice = Dice(seed, "caption choice")
    return [
        Row("caption", item.scene, CAPTION_PROMPT, CAPTION_PROMPT + dice.pick(item.captions))
        for item in caption_items(split, count, seed)
    ]


def science_texts(problem: Problem) -> tuple[str, str]:
    """Return prompt and target in the published format QCM-A, without captions."""
    texts = Texts(
        question=problem.question,
        hint=problem.hint,
        caption="",
        choices=problem.choices,
        answer=LETTERS[problem.answer],
        lecture=problem.lecture,
        solution=problem.solution,
    )
    return render("QCM-A", texts)


def rows_of(split: Split, count: int, seed: int) -> list[Row]:
    """Return about `count` rows in random order: 40% MME, 40% ScienceQA, 20% captions.

    Args:
        split: Only scenes and questions of this split are used.
        count: Number of rows.
        seed: The same one gives the same rows.
    """
    rows = [
        *yes_no_rows(split, max(2, count // 40 // 2 * 2), seed),
        *science_rows(split, count * 4 // 10, seed),
        *caption_rows(split, count // 5, seed),
    ]
    return Dice(seed, "order").shuffled(rows)
