"""Training samples as token ids, all in memory; their images stay on disk until a worker reads.

Tokens of all rows lie in one flat array: LaVIN's mixture as Python lists would take gigabytes,
and each worker would end up with its own copy.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adem_bench.errors import DataError
from adem_bench.models.fused.sequence import InputLayout, SequenceBuilder, TrainingRow
from adem_bench.models.fused.tokenizer import Tokenizer
from adem_bench.records import ImageNormalization, TrainingPair
from adem_bench.schemas import TrainingSource
from adem_bench.tasks.base import TrainingData

Normalization = Callable[[ImageNormalization], ImageNormalization]
NAMED = 5
"""Samples named in a message about many."""


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """An image and how it is prepared."""

    path: Path
    normalization: ImageNormalization
    augmented: bool


@dataclass(slots=True)
class SkippedSamples:
    """Samples that are left out, as they cannot be trained on."""

    malformed: list[str] = field(default_factory=list)
    """Ids of rows of the data that are not as documented, with the reason."""
    unsupervised: list[str] = field(default_factory=list)
    """Ids of samples whose prompt leaves no room for any of the answer (Q25)."""

    def warnings(self) -> Iterator[str]:
        """Say how many there are and name the first few."""
        if self.malformed:
            count = len(self.malformed)
            yield f"{count} malformed rows of the data are left out: {some(self.malformed)}"
        if self.unsupervised:
            yield (
                f"{len(self.unsupervised)} samples are left out because their prompt leaves no "
                f"token to learn (raise max_sequence_length): {some(self.unsupervised)}"
            )


class TrainingDataset:
    """Tokenized samples by index, with their images' paths."""

    def __init__(self) -> None:
        self._ids = array("i")
        self._ends = array("q", [0])
        self._supervised_from = array("i")
        self._unlearned_id: int | None = None
        self._image_of = array("q")
        self._images: list[TrainingImage] = []
        self.names: list[str] = []
        """Sample ids, for messages."""
        self.skipped = SkippedSamples()

    def add(
        self,
        source: TrainingSource,
        data: TrainingData,
        tokenizer: Tokenizer,
        layout: InputLayout,
        normalization: Normalization,
    ) -> None:
        """Tokenize what a source holds.

        Args:
            source: What the recipe says of it.
            data: Its pairs.
            tokenizer: Of the language model.
            layout: What the method puts in front of prompts.
            normalization: Returns the pixel statistics for those of a task.
        """
        builder = SequenceBuilder(tokenizer, layout, source.max_sequence_length)
        self._unlearned_id = tokenizer.unlearned_id
        places: dict[TrainingImage, int] = {}
        augmented = source.augmentation == "caption"
        for pair in _limited(data, source.limit):
            row = builder.training(pair.prompt, pair.answer, bool(pair.images))
            if not row.is_supervised:
                self.skipped.unsupervised.append(pair.id)
                continue
            place = -1
            if pair.images:
                statistics = normalization(pair.image_normalization)
                image = TrainingImage(pair.images[0], statistics, augmented)
                place = places.setdefault(image, len(self._images))
                if place == len(self._images):
                    self._images.append(image)
            self._ids.extend(row.ids)
            self._ends.append(len(self._ids))
            self._supervised_from.append(row.supervised_from)
            self._image_of.append(place)
            self.names.append(pair.id)
        self.skipped.malformed += [f"{row.id} ({row.reason})" for row in data.skipped_rows()]

    def __len__(self) -> int:
        return len(self._image_of)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(samples,) number of tokens of each."""
        return np.diff(np.asarray(self._ends)).astype(np.int32)

    @property
    def with_image(self) -> int:
        """Number of rows that have an image."""
        return sum(place >= 0 for place in self._image_of)

    def row(self, index: int) -> TrainingRow:
        """Return a row's tokens."""
        ids = self._ids[self._ends[index] : self._ends[index + 1]].tolist()
        return TrainingRow(ids, self._supervised_from[index], self._unlearned_id)

    def image(self, index: int) -> TrainingImage | None:
        """Return a row's image."""
        place = self._image_of[index]
        return None if place < 0 else self._images[place]


def build_dataset(
    sources: Iterable[tuple[TrainingSource, TrainingData]],
    tokenizer: Tokenizer,
    layout: InputLayout,
    normalization: Normalization,
) -> TrainingDataset:
    """Tokenize all sources of a recipe.

    Args:
        sources: What the recipe says of each, and its pairs.
        tokenizer: Of the language model.
        layout: What the method puts in front of prompts.
        normalization: Returns the pixel statistics for those of a task.

    Raises:
        DataError: data is missing or malformed, or no sample is left to train on.
    """
    dataset = TrainingDataset()
    for source, data in sources:
        dataset.add(source, data, tokenizer, layout, normalization)
    if not len(dataset):
        reasons = "; ".join(dataset.skipped.warnings()) or "the data holds no sample"
        raise DataError(f"nothing to train on: {reasons}")
    return dataset


def some(names: Sequence[str]) -> str:
    """Return the first few names, and whether there are more."""
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _limited(data: TrainingData, limit: int | None) -> Iterator[TrainingPair]:
    """Yield `limit` pairs, spread evenly, so that neighbours (one image's captions) differ."""
    if limit is None:
        yield from data.training_pairs()
        return
    total = sum(1 for _ in data.training_pairs())
    chosen = {index * total // limit for index in range(limit)} if limit < total else None
    for index, pair in enumerate(islice(data.training_pairs(), total)):
        if chosen is None or index in chosen:
            yield pair
