"""Which samples make which optimizer step: an epoch's order, cut into micro-batches.

Micro-batch `m` of an epoch goes to process `m % world_size`. The published DistributedSampler
deals single samples instead; either way an optimizer step reads the next `effective_batch`
samples of the same order, so that it does not depend on how many processes share it. As there,
an order that the processes cannot share evenly goes on with its own first samples, which may make
an epoch a step longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adem_bench.errors import CardError
from adem_bench.schemas import RecipeCard

POOL_STEPS = 32
"""Optimizer steps whose rows are sorted together when rows are bucketed by length."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """How far training has come."""

    epoch: int = 0
    step: int = 0
    """Optimizer steps done in the epoch."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows that go through the network together on one process."""

    epoch: int
    number: int
    """Place in the epoch, over all processes."""
    rows: tuple[int, ...]
    """Indices of samples."""


class BatchSampler:
    """The micro-batches of one process, epoch by epoch."""

    def __init__(
        self, lengths: NDArray[np.int32], recipe: RecipeCard, world_size: int = 1, rank: int = 0
    ) -> None:
        """Count the steps of an epoch.

        Args:
            lengths: (samples,) tokens of each.
            recipe: Its batch sizes, seed and epochs.
            world_size: Number of processes.
            rank: Of this process.

        Raises:
            CardError: the effective batch cannot be split so, or there are too few samples.
        """
        self._lengths, self._recipe = lengths, recipe
        self._world_size, self._rank = world_size, rank
        self.accumulation = accumulation(recipe.effective_batch, recipe.batch_size, world_size)
        self._padding = -len(lengths) % world_size
        self.micro_steps = (len(lengths) + self._padding) // (recipe.batch_size * world_size)
        """Micro-steps of each process in an epoch, the published `len(loader)`; those after the
        last whole optimizer step are never used (Q24)."""
        self.steps = self.micro_steps // self.accumulation
        """Optimizer steps in an epoch."""
        if not self.steps:
            raise CardError(
                f"{len(lengths)} samples make no optimizer step of {recipe.effective_batch}; "
                "give more data or set a smaller effective_batch"
            )

    @property
    def left_over(self) -> int:
        """Samples that an epoch leaves out, others in each: too few for a whole step."""
        return max(0, len(self._lengths) - self.steps * self._recipe.effective_batch)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.steps * self._recipe.epochs

    def fractional_epoch(self, position: Position) -> float:
        """Return where the schedule stands before a step (Q24: the first one is at 0)."""
        return position.epoch + position.step * self.accumulation / self.micro_steps

    def after(self, position: Position) -> Position:
        """Return the position after one more optimizer step."""
        if position.step + 1 < self.steps:
            return Position(position.epoch, position.step + 1)
        return Position(position.epoch + 1, 0)

    def clamp(self, position: Position) -> Position:
        """Return a valid position for one that another number of processes has reached.

        Their epochs may be a step longer.
        """
        if position.step < self.steps:
            return position
        return Position(position.epoch + 1, 0)

    def steps_before(self, position: Position) -> int:
        """Return the optimizer steps before a position, over all epochs."""
        return position.epoch * self.steps + position.step

    def micro_batches(self, start: Position) -> Iterator[MicroBatch]:
        """Yield this process's micro-batches from a position to the end of training."""
        size = self._recipe.batch_size
        for epoch in range(start.epoch, self._recipe.epochs):
            order = self._order(epoch)
            first = start.step if epoch == start.epoch else 0
            for micro_step in range(first * self.accumulation, self.steps * self.accumulation):
                number = micro_step * self._world_size + self._rank
                rows = order[number * size : (number + 1) * size]
                yield MicroBatch(epoch, number, tuple(rows.tolist()))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the epoch's order, as PyTorch's DistributedSampler draws it."""
        generator = torch.Generator().manual_seed(self._recipe.shuffle_seed + epoch)
        order: NDArray[np.int64] = torch.randperm(len(self._lengths), generator=generator).numpy()
        order = np.concatenate([order, order[: self._padding]])
        return self._bucketed(order, generator) if self._recipe.bucket_by_length else order

    def _bucketed(self, order: NDArray[np.int64], generator: torch.Generator) -> NDArray[np.int64]:
        """Sort pools of rows by length, cut them into micro-batches and shuffle those."""
        size, pool = self._recipe.batch_size, POOL_STEPS * self._recipe.effective_batch
        parts = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            even = len(part) // size * size
            shuffled = torch.randperm(even // size, generator=generator).numpy()
            parts += [part[:even].reshape(-1, size)[shuffled].ravel(), part[even:]]
        return np.concatenate(parts)


def accumulation(effective_batch: int, batch_size: int, world_size: int) -> int:
    """Return the micro-batches of an optimizer step on each process.

    Args:
        effective_batch: Samples per optimizer step, over all processes.
        batch_size: Samples per micro-batch.
        world_size: Number of processes.

    Raises:
        CardError: there is no whole number of them; the message proposes what is possible.
    """
    if effective_batch % (batch_size * world_size) == 0:
        return effective_batch // (batch_size * world_size)
    raise CardError(
        f"effective_batch {effective_batch} is not a multiple of batch_size {batch_size} times "
        f"{world_size} process{'es' if world_size > 1 else ''}; possible: "
        f"{_proposal(effective_batch, batch_size, world_size)}"
    )


def _proposal(effective_batch: int, batch_size: int, world_size: int) -> str:
    rows = batch_size * world_size
    proposals = [f"--set effective_batch={max(1, round(effective_batch / rows)) * rows}"]
    if effective_batch % world_size == 0:
        share = effective_batch // world_size
        fits = max(size for size in range(1, min(batch_size, share) + 1) if share % size == 0)
        proposals.append(f"--set batch_size={fits}")
    counts = [n for n in range(1, world_size) if effective_batch % (batch_size * n) == 0]
    if counts:
        proposals.append(f"{counts[-1]} process{'es' if counts[-1] > 1 else ''}")
    return ", or ".join(proposals)


def derived_seed(*parts: int) -> int:
    """Return a seed for one place of a run.

    Randomness is a function of the place (seed, epoch, micro-batch or sample), not of what ran
    before: a resumed run has no generator to restore, and neither workers nor processes matter.
    """
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
