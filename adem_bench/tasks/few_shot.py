"""Few-shot prompts: questions of a task after some of its train split, with their answers.

Which of them is drawn once and the same for every sample, but for what shows the sample itself or
one of its images. Examples with images make a conversation; without any, all is one text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from adem_bench.errors import CardError, DataError
from adem_bench.records import Json, Part, Request, Sample, TrainingPair

TRAIN = "train"
SPARE = 16
"""Examples drawn beyond those that are asked for, in place of what shows the sample."""
BETWEEN = "\n\n"


def with_examples(task: Any, number: int, seed: int, train: Callable[[Any], Any]) -> Any:
    """Return a task whose prompts begin with examples of its train split.

    Args:
        task: Of a kind that has training data.
        number: How many examples.
        seed: Of the draw.
        train: Makes the training data of a card.

    Raises:
        CardError: the kind of task has no training data.
    """
    if not hasattr(task, "training_pairs"):
        raise CardError(
            f"task {task.card.name} has no train split to take examples from: its kind "
            f"{task.card.kind} has no training data; leave num_fewshot out"
        )
    card = task.card.model_copy(update={"split": TRAIN})
    return _FewShot(task, lambda: train(card), number, seed)


class _FewShot:
    """A task with examples before its prompts; all else is the task's own."""

    def __init__(self, task: Any, train: Callable[[], Any], number: int, seed: int) -> None:
        """Keep what the examples depend on; they are drawn when the first is needed.

        Args:
            task: Which is asked.
            train: Makes its training data.
            number: How many examples.
            seed: Of the draw.
        """
        self._task = task
        self._train = train
        self._number = number
        self._seed = seed
        self._drawn: Sequence[TrainingPair] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return the task's, and how many examples there are of which draw."""
        found: dict[str, Json] = {**self._task.prompt_settings(), "num_fewshot": self._number}
        return found | ({"fewshot_seed": self._seed} if self._seed else {})

    def fingerprint(self) -> str:
        """Return that of the task's data; examples are part of what is asked."""
        found: str = self._task.fingerprint()
        self._candidates()  # what is missing shows before a model is loaded
        return found

    def request(self, sample: Sample) -> Request:
        """Render a sample after its examples.

        Raises:
            DataError: the train split has too few others.
        """
        asked: Request = self._task.request(sample)
        examples = [pair for pair in self._candidates() if not _shows(pair, sample, asked)]
        if len(examples) < self._number:
            raise self._too_few(len(examples))
        return _after(examples[: self._number], asked)

    def _candidates(self) -> Sequence[TrainingPair]:
        """Return the examples, and some to spare, in the order in which they are shown."""
        if self._drawn is None:
            try:
                pairs = iter(self._train().training_pairs())
                first = list(islice(pairs, 1))
            except (CardError, DataError) as error:
                raise DataError(
                    f"num_fewshot: the {TRAIN} split of {self._task.card.name} is needed for "
                    f"examples: {error}"
                ) from error
            self._check_other(first)
            drawn = _draw(chain(first, pairs), self._number + SPARE, self._seed)
            if len(drawn) < self._number:
                raise self._too_few(len(drawn))
            self._drawn = drawn
        return self._drawn

    def _check_other(self, first: Sequence[TrainingPair]) -> None:
        """Check that the train split is not the split that is asked.

        Raises:
            DataError: both begin with the same row: there is one file for all splits.
        """
        sample = next(iter(self._task.samples()), None)
        if self._task.card.split != TRAIN and first and sample is not None:
            (pair,) = first
            asked = self._task.request(sample)
            if pair.id.partition("/")[0] == sample.id and _shows(pair, sample, asked):
                raise DataError(
                    f"num_fewshot: task {self._task.card.name} has no {TRAIN} split: its data "
                    f"begins with the sample {sample.id!r} of split {self._task.card.split} too"
                )

    def _too_few(self, found: int) -> DataError:
        return DataError(
            f"num_fewshot: {self._number} examples are wanted, and the {TRAIN} split of "
            f"{self._task.card.name} gave {found} that can be shown with this sample"
        )


def _draw(pairs: Iterable[TrainingPair], number: int, seed: int) -> list[TrainingPair]:
    """Return some of the pairs in random order; only so many are ever in memory.

    Args:
        pairs: To draw from.
        number: How many at most.
        seed: Of the draw.
    """
    generator = random.Random(seed)  # noqa: S311
    kept: list[TrainingPair] = []
    for place, pair in enumerate(pairs):
        if place < number:
            kept.append(pair)
        elif (at := generator.randrange(place + 1)) < number:
            kept[at] = pair
    generator.shuffle(kept)
    return kept


def _shows(pair: TrainingPair, sample: Sample, asked: Request) -> bool:
    """Return whether an example is the sample, or has an image of it.

    Args:
        pair: The example.
        sample: What is asked about.
        asked: Without examples.
    """
    if pair.images or sample.images:
        return bool({*map(Path.absolute, pair.images)} & {*map(Path.absolute, sample.images)})
    return asked.prompt.startswith(pair.prompt)


def _after(examples: Sequence[TrainingPair], asked: Request) -> Request:
    """Return a request with examples before it."""
    text = BETWEEN.join([*(pair.prompt + pair.answer for pair in examples), asked.prompt])
    if not any(pair.images for pair in examples):
        # A model that goes on with the text would ask the next question by itself.
        return replace(asked, prompt=text, text_stop=BETWEEN)
    parts: list[Part] = []
    images: list[Path] = []
    for pair in examples:
        parts += _question(pair.images, pair.prompt.rstrip(), len(images))
        parts.append(Part(pair.answer.strip(), role="assistant"))
        images += pair.images
    own = asked.parts or _question(asked.images, asked.prompt, 0)
    for part in own:
        moved = None if part.image is None else part.image + len(images)
        parts.append(replace(part, image=moved))
    return replace(
        asked,
        prompt=text,
        parts=tuple(parts),
        images=(*images, *asked.images),
        text_stop=BETWEEN,
    )


def _question(images: Sequence[Path], prompt: str, first: int) -> list[Part]:
    """Return the parts of a question.

    Args:
        images: Its images.
        prompt: Its text.
        first: Place of its first image among those of the request.
    """
    return [*(Part(image=first + place) for place in range(len(images))), Part(prompt)]
