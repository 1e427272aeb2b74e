"""Micro-batches loaded by worker processes: images decoded, augmented, normalized and stacked."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adem_bench.images import UnreadableImageError, load_square, normalized, open_rgb
from adem_bench.models.fused.network import TrainingBatch, collate
from adem_bench.models.fused.sequence import TrainingRow
from adem_bench.signals import ENDING
from adem_bench.trainers.augmentation import augment_caption_image
from adem_bench.trainers.batch_sampler import MicroBatch, derived_seed
from adem_bench.trainers.dataset import TrainingDataset, TrainingImage

PUBLISHED_WORKERS = 10
"""For each process (train.py's default)."""


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """A micro-batch ready for the network."""

    micro: MicroBatch
    parts: tuple[TrainingBatch, ...]
    """What goes through the network together; at least one."""
    unreadable: tuple[str, ...] = ()
    """What is wrong with each image that could not be read."""
    counts: bool = True
    """Whether its loss counts: where no row's image could be read, a row without one stands in,
    since processes that share a sharded model must all take every step."""

    def pin_memory(self) -> LoadedBatch:
        """Move tensors where a GPU can fetch them by itself; PyTorch's loader calls this."""
        parts = tuple(part.map(Tensor.pin_memory) for part in self.parts)
        return LoadedBatch(self.micro, parts, self.unreadable, self.counts)


@dataclass(frozen=True, slots=True)
class _Sample:
    row: TrainingRow
    pixels: Tensor | None


class BatchLoader(Dataset[LoadedBatch]):
    """Loads the micro-batches of a sampler as tensors."""

    def __init__(
        self,
        dataset: TrainingDataset,
        image_size: int,
        seed: int,
        tokens_at_once: int | None = None,
    ) -> None:
        """Read images as squares.

        Args:
            dataset: What the micro-batches index.
            image_size: Side of the squares in pixels.
            seed: Of the augmentation.
            tokens_at_once: Most tokens of a part, padding included; None keeps micro-batches whole.
        """
        self._dataset = dataset
        self._image_size = image_size
        self._seed = seed
        self._tokens_at_once = tokens_at_once

    def __getitem__(self, micro: MicroBatch) -> LoadedBatch:
        """Return a micro-batch; rows whose image cannot be read are left out of it."""
        samples: list[_Sample] = []
        unreadable: list[str] = []
        for index in micro.rows:
            image, pixels = self._dataset.image(index), None
            if image is not None:
                try:
                    pixels = self._pixels(image, derived_seed(self._seed, micro.epoch, index))
                except UnreadableImageError as error:
                    unreadable.append(f"sample {self._dataset.names[index]}: {error}")
                    continue
            samples.append(_Sample(self._dataset.row(index), pixels))
        counts = bool(samples)
        samples = samples or [_Sample(self._dataset.row(micro.rows[0]), None)]
        parts = tuple(_collated(part) for part in _parts(samples, self._tokens_at_once))
        return LoadedBatch(micro, parts, tuple(unreadable), counts)

    def _pixels(self, image: TrainingImage, seed: int) -> Tensor:
        size = self._image_size
        if not image.augmented:
            return torch.from_numpy(load_square(image.path, size, image.normalization).pixels)
        image_read = open_rgb(image.path, reading="published")
        square = augment_caption_image(image_read, size, seed)
        return torch.from_numpy(normalized(square, image.normalization))


def _parts(samples: list[_Sample], tokens_at_once: int | None) -> Iterator[list[_Sample]]:
    """Yield samples that go through the network together."""
    if tokens_at_once is None:
        yield samples
        return
    for has_image in (False, True):
        part: list[_Sample] = []
        alike = (sample for sample in samples if (sample.pixels is not None) == has_image)
        for sample in sorted(alike, key=lambda sample: len(sample.row.ids)):
            if part and (len(part) + 1) * len(sample.row.ids) > tokens_at_once:
                yield part
                part = []
            part.append(sample)
        if part:
            yield part


def _collated(samples: list[_Sample]) -> TrainingBatch:
    images = [sample.pixels for sample in samples if sample.pixels is not None]
    indicators = [int(sample.pixels is not None) for sample in samples]
    return collate([sample.row for sample in samples], images, indicators)


def prefetch_batches(
    loader: BatchLoader, micro_batches: Iterator[MicroBatch], workers: int, pinned: bool
) -> Iterator[LoadedBatch]:
    """Yield micro-batches in order while worker processes load the next ones.

    Args:
        loader: Loads one.
        micro_batches: What to load, of one process.
        workers: Number of worker processes; 0 reads in this one.
        pinned: Whether tensors go to pinned memory, for a GPU.
    """
    if not workers:
        yield from map(loader.__getitem__, micro_batches)
        return
    data_loader = DataLoader(
        loader,
        batch_size=None,
        sampler=cast("Any", micro_batches),  # an iterator suffices: it is read once
        num_workers=workers,
        pin_memory=pinned,
        # Keeps its random numbers off the global generator.
        generator=torch.Generator().manual_seed(0),
    )
    with _ending_held():
        batches = iter(data_loader)
    yield from batches


@contextmanager
def _ending_held() -> Iterator[None]:
    """Hold what schedulers send to every process of a job, in this one for as long as this lasts.

    Processes that begin meanwhile never take it: their parent first makes its step.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows, which sends nothing to a job
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@atexit.register
def _kill_workers() -> None:
    """Kill what still loads as Python ends, such as where a traceback kept the loader.

    `multiprocessing` would send a signal that workers never take, and wait for them for ever.
    """
    loading = [process for process in multiprocessing.active_children() if process.daemon]
    if loading and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would raise
    for process in loading:
        process.kill()


def worker_count(asked: int | None, processes_here: int) -> int:
    """Return how many workers read for each of the training processes of this machine."""
    if asked is not None:
        return asked
    return max(1, min(PUBLISHED_WORKERS, (os.cpu_count() or 1) // processes_here - 1))
