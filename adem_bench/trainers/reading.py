"""Micro-batches read by worker processes: images decoded, augmented, normalized and stacked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adem_bench.images import UnreadableImageError, load_image, normalized, open_rgb
from adem_bench.models.adem.network import TrainingBatch, collate
from adem_bench.models.adem.sequence import TrainingRow
from adem_bench.trainers.augmentation import augment_caption_image
from adem_bench.trainers.examples import Examples, TrainingImage
from adem_bench.trainers.plan import MicroBatch, derived_seed

PUBLISHED_WORKERS = 10
"""For each process (train.py's default)."""


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """A micro-batch ready for the network."""

    micro: MicroBatch
    batch: TrainingBatch | None
    """None where no image of any row could be read."""
    unreadable: tuple[str, ...]
    """What is wrong with each image that could not be read."""

    def pin_memory(self) -> ReadBatch:
        """Move tensors where a GPU can fetch them by itself; PyTorch's loader calls this."""
        if self.batch is None:
            return self
        return ReadBatch(self.micro, self.batch.map(Tensor.pin_memory), self.unreadable)


class BatchReader(Dataset[ReadBatch]):
    """Micro-batches of a plan to tensors."""

    def __init__(self, examples: Examples, image_size: int, seed: int) -> None:
        """Read images as squares of `image_size` pixels; `seed` is the augmentation's."""
        self._examples = examples
        self._image_size = image_size
        self._seed = seed

    def __getitem__(self, micro: MicroBatch) -> ReadBatch:
        """Return a micro-batch; rows whose image cannot be read are left out of it."""
        rows: list[TrainingRow] = []
        images: list[Tensor] = []
        indicators: list[int] = []
        unreadable: list[str] = []
        for index in micro.rows:
            image = self._examples.image(index)
            if image is not None:
                try:
                    images.append(self._pixels(image, derived_seed(self._seed, micro.epoch, index)))
                except UnreadableImageError as error:
                    unreadable.append(f"sample {self._examples.names[index]}: {error}")
                    continue
            rows.append(self._examples.row(index))
            indicators.append(int(image is not None))
        batch = collate(rows, images, indicators) if rows else None
        return ReadBatch(micro, batch, tuple(unreadable))

    def _pixels(self, image: TrainingImage, seed: int) -> Tensor:
        size = self._image_size
        if not image.augmented:
            return torch.from_numpy(load_image(image.path, size, image.normalization))
        square = augment_caption_image(open_rgb(image.path), size, seed)
        return torch.from_numpy(normalized(square, image.normalization))


def read_ahead(
    reader: BatchReader, micro_batches: Iterator[MicroBatch], workers: int, pinned: bool
) -> Iterator[ReadBatch]:
    """Yield micro-batches in order while worker processes read those to come.

    Args:
        reader: Reads one.
        micro_batches: What to read, of one process.
        workers: Number of worker processes; 0 reads in this one.
        pinned: Whether tensors go to pinned memory, for a GPU.
    """
    if not workers:
        yield from map(reader.__getitem__, micro_batches)
        return
    loader = DataLoader(
        reader,
        batch_size=None,
        sampler=cast("Any", micro_batches),  # an iterator serves: it is asked for once
        num_workers=workers,
        pin_memory=pinned,
        # Its draws stay off the global generator.
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader


def worker_count(asked: int | None, processes_here: int) -> int:
    """Return how many workers read for each of the training processes of this machine."""
    if asked is not None:
        return asked
    return max(1, min(PUBLISHED_WORKERS, (os.cpu_count() or 1) // processes_here - 1))
