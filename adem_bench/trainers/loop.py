"""The training loop: micro-batches in, one report per optimizer step out.

Source of the semantics: ADEM-VL cec09b8 `engine.py`, docs/method.md, section 8.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from adem_bench.errors import DataError
from adem_bench.models.device import attention_kernels
from adem_bench.models.fused.network import FusedNetwork
from adem_bench.schemas import RecipeCard
from adem_bench.trainers.batch_sampler import BatchSampler, Position, derived_seed
from adem_bench.trainers.checkpoints import Counts, TrainingState
from adem_bench.trainers.data_loader import BatchLoader, LoadedBatch, prefetch_batches
from adem_bench.trainers.distributed import ProcessGroup
from adem_bench.trainers.optimizer import AdapterOptimizer, learning_rate

NAMED = 5
"""Unreadable images named at the end."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one optimizer step did."""

    step: int
    """Optimizer steps done so far, over all epochs."""
    position: Position
    """Where training stands now."""
    epoch: float
    """Fractional epoch at which the learning rate was taken."""
    loss: float
    """Mean of the micro-batches' losses, over all processes."""
    learning_rate: float
    grad_norm: float
    scale: float
    """Loss scale after the step; 1 without scaling."""
    skipped: bool
    samples_per_second: float


class Training:
    """A network, the optimizer of its adapter, and where training stands."""

    def __init__(
        self,
        network: FusedNetwork,
        image_tokens_at: int,
        recipe: RecipeCard,
        sampler: BatchSampler,
        group: ProcessGroup,
    ) -> None:
        """Begin at the first position, with the adapter as it is.

        Args:
            network: With a fresh adapter, on its device.
            image_tokens_at: Index of the first image token in rows with an image.
            recipe: How to train.
            sampler: Which samples make which step.
            group: The processes that train together.
        """
        self.network = network
        self.position = Position()
        self.counts = Counts()
        self.unreadable: list[str] = []
        """What is wrong with the first few images that this process could not read."""
        self.is_asked_to_end: Callable[[], bool] = lambda: False
        """Asked in every step, of this process."""
        self.ends = False
        """Whether one of the processes was asked to end by the last step."""
        self._image_tokens_at = image_tokens_at
        self._recipe, self._sampler, self._group = recipe, sampler, group
        own = network.method.skips_nan_loss
        skips = {"skip": True, "zero": False}.get(recipe.nan_loss, own)
        self._optimizer = AdapterOptimizer(
            network.method.adapter_tensors(),
            network.method.tensors_without_gradient(),
            recipe,
            group,
            scaled=network.dtype == torch.float16,
            skips_nan_loss=skips,
        )

    def state(self) -> TrainingState:
        """Return all that a later `load` goes on from."""
        return TrainingState(
            position=self.position,
            adapter=dict(self.network.method.adapter_tensors()),
            optimizer=self._optimizer.state_tensors(),
            scaler=self._optimizer.scaler_state(),
            counts=self.counts,
        )

    def load(self, state: TrainingState) -> None:
        """Go on from a state.

        Raises:
            CheckpointError: its adapter or its optimizer does not fit.
        """
        self.network.method.load_adapter(state.adapter, "of the checkpoint")
        self._optimizer.load_state(state.optimizer, state.scaler)
        self.position, self.counts = self._sampler.clamp(state.position), state.counts

    def steps(self, loader: BatchLoader, workers: int) -> Generator[StepReport, None, None]:
        """Train from the present position to the end, one optimizer step at a time.

        Args:
            loader: Loads micro-batches.
            workers: Processes that load ahead.

        Raises:
            DataError: more images are unreadable than the recipe allows.
        """
        micro_batches = self._sampler.micro_batches(self.position)
        pinned = self.network.device.type == "cuda"
        batches = prefetch_batches(loader, micro_batches, workers, pinned)
        while True:
            started = time.perf_counter()  # after whatever the caller did with the last report
            first = next(batches, None)
            if first is None:
                return
            # One by one: the next is loaded while this one computes.
            window = chain([first], islice(batches, self._sampler.accumulation - 1))
            yield self._step(window, started)

    def _step(self, window: Iterable[LoadedBatch], started: float) -> StepReport:
        self.network.train()
        losses: list[float] = []
        unreadable: list[str] = []
        for batch in window:
            loss = self._learn(batch)
            losses += [loss] if batch.counts else []
            # Of the first epoch alone: the later ones meet the same images again.
            unreadable += batch.unreadable if batch.micro.epoch == 0 else ()
        known = [loss for loss in losses if not math.isnan(loss)]
        epoch = self._sampler.fractional_epoch(self.position)
        rate = learning_rate(epoch, self._recipe)
        figures = (sum(known), float(len(known)), float(len(losses) - len(known)))
        # Exchanged too, so that all processes end after the same step.
        asked = float(self.is_asked_to_end())
        updated = self._optimizer.step(rate, (*figures, float(len(unreadable)), asked))
        total, count, nan_losses, images, ends = updated.summed
        self.ends = ends > 0
        self.unreadable += unreadable[: NAMED - len(self.unreadable)]
        self._count(updated.skipped, int(nan_losses), int(images), unreadable)
        self.position = self._sampler.after(self.position)
        return StepReport(
            step=self._sampler.steps_before(self.position),
            position=self.position,
            epoch=epoch,
            loss=total / count if count else float("nan"),
            learning_rate=rate,
            grad_norm=updated.grad_norm,
            scale=self._optimizer.scale,
            skipped=updated.skipped,
            samples_per_second=self._recipe.effective_batch / (time.perf_counter() - started),
        )

    def _learn(self, batch: LoadedBatch) -> float:
        """Add one micro-batch's gradients; return its loss, the mean over its tokens."""
        device = self.network.device
        seed = derived_seed(self._recipe.seed, batch.micro.epoch, batch.micro.number)
        tokens = [part.supervised for part in batch.parts]
        shares = [count / sum(tokens) if batch.counts else 0.0 for count in tokens]
        losses = (
            self.network.loss(
                part.map(lambda tensor: tensor.to(device, non_blocking=True)),
                self._image_tokens_at,
            )
            * share
            for part, share in zip(batch.parts, shares, strict=True)
        )
        with _seeded(seed, device), _attention_backend(device):
            return self._optimizer.accumulate(losses, self._sampler.accumulation)

    def _count(self, skipped: bool, nan_losses: int, images: int, reasons: list[str]) -> None:
        counts = self.counts
        self.counts = replace(
            counts,
            skipped_steps=counts.skipped_steps + skipped,
            nan_losses=counts.nan_losses + nan_losses,
            unreadable_images=counts.unreadable_images + images,
        )
        allowed = self._recipe.max_unreadable_images
        if self.counts.unreadable_images > allowed:
            last = f", the last: {reasons[-1]}" if reasons else ""
            raise DataError(
                f"{self.counts.unreadable_images} images could not be read, more than "
                f"max_unreadable_images {allowed} allows{last}; repair the data, or allow more"
            )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Run with generators seeded for one micro-batch; the caller's come back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _attention_backend(device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which attention trains fastest.

    On a CPU, the fused kernel's backward pass takes three times as long for rows as short as these.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else attention_kernels(device)
