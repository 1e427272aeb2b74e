"""The network: vision tower, method and language model, with the training loss.

Shapes: B rows, T tokens, N images, S image side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.models.fused.decoder import FusedDecoder, projection_sizes
from adem_bench.models.fused.method import FrozenSizes, Method, VisualMemory
from adem_bench.models.fused.sequence import IGNORED_LABEL, TrainingRow
from adem_bench.models.fused.vision import VisionTower, vision_tower
from adem_bench.schemas import MethodSettings


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Rows of one micro-batch, trimmed to the last supervised token."""

    ids: Tensor
    """(B, T)."""
    labels: Tensor
    """(B, T), `IGNORED_LABEL` where the loss counts none."""
    images: Tensor
    """(N, 3, S, S), normalized: those of the rows that have one, in order."""
    indicators: Tensor
    """(B,) 1 where the row has an image, else 0; N of them are 1."""

    @property
    def supervised(self) -> int:
        """Number of tokens that the loss is a mean over."""
        return int((self.labels[:, 1:] != IGNORED_LABEL).sum())

    def map(self, change: Callable[[Tensor], Tensor]) -> TrainingBatch:
        """Return the batch with every tensor changed alike (moved, pinned)."""
        tensors = (self.ids, self.labels, self.images, self.indicators)
        return TrainingBatch(*map(change, tensors))


def collate(
    rows: Sequence[TrainingRow], images: Sequence[Tensor], indicators: Sequence[int]
) -> TrainingBatch:
    """Join rows into a batch cut after the last label (docs/method.md, section 5.3).

    Args:
        rows: B rows.
        images: The (3, S, S) image of each row that has one, in order.
        indicators: For each row, 1 if it has an image, else 0.

    Raises:
        ValueError: no row has a supervised token (Q25).
    """
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED_LABEL)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.as_tensor(row.ids)
        labels[index, : len(row.ids)] = torch.as_tensor(row.labels)
    supervised = (labels != IGNORED_LABEL).any(dim=0).nonzero()
    if not len(supervised):
        raise ValueError("no row of the batch has a supervised token")
    length = int(supervised.max()) + 1
    stacked = torch.stack(list(images)) if images else torch.empty(0)
    return TrainingBatch(ids[:, :length], labels[:, :length], stacked, torch.tensor(indicators))


class FusedNetwork(nn.Module):
    """A frozen language model and a frozen vision tower, joined by a method."""

    def __init__(
        self, vision: VisionTower, method: Method, llama: Any, eager: bool = False
    ) -> None:
        """Join the parts.

        Args:
            vision: The vision tower.
            method: With its tuned parameters.
            llama: A LlamaForCausalLM; shared, not copied.
            eager: As for `FusedDecoder`.
        """
        super().__init__()
        self.vision = vision
        self.method = method
        self.decoder = FusedDecoder(llama, method, eager)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the language model's weights."""
        return self.decoder.dtype

    @property
    def device(self) -> torch.device:
        """Where the tuned parameters are."""
        return next(self.method.parameters()).device

    def hidden_states(self, inputs_embeds: Tensor, memory: VisualMemory) -> Tensor:
        """Run (B, T, D) embeddings through the decoder; return normed hidden states, (B, T, D)."""
        out: Tensor = self.decoder(inputs_embeds, memory)
        return out

    def encode_images(self, images: Tensor) -> VisualMemory:
        """Return the visual memory of (N, 3, S, S) images."""
        return self.method.encode_images(self, images)

    def no_image_memory(self) -> VisualMemory:
        """Return the memory of rows without image."""
        return self.method.no_image_memory(self)

    def loss(self, batch: TrainingBatch, image_tokens_at: int) -> Tensor:
        """Return the mean cross-entropy over supervised tokens, a float32 scalar.

        Args:
            batch: From `collate`.
            image_tokens_at: Index of the first image token in rows with an image.

        Source: ADEM-VL cec09b8 `adem/model.py:268-316`; the cross-entropy is in float32 where
        the published one is in half precision (Q22).
        """
        memory = self.batch_memory(batch.images, batch.indicators)
        embeds = self._with_image_tokens(
            self.decoder.embed(batch.ids), batch, memory.tokens, image_tokens_at
        )
        # Only positions that count go through the last layer and the output head: the mean is over
        # them alone. Rows with fewer than others are filled up with ones that do not.
        is_supervised = batch.labels[:, 1:] != IGNORED_LABEL
        width = int(is_supervised.sum(dim=1).max())
        positions = is_supervised.int().argsort(dim=1, descending=True, stable=True)[:, :width]
        counts = is_supervised.gather(1, positions)
        hidden = self.decoder(embeds, memory, positions=positions)
        logits = self.decoder.logits(hidden[counts])
        return F.cross_entropy(logits.float(), batch.labels[:, 1:].gather(1, positions)[counts])

    @staticmethod
    def _with_image_tokens(
        embeds: Tensor, batch: TrainingBatch, tokens: Tensor | None, at: int
    ) -> Tensor:
        """Return (B, T, D) embeddings with the image tokens of rows that have an image in place."""
        count = 0 if tokens is None else min(tokens.shape[1], embeds.shape[1] - at)
        if tokens is None or count < 1:
            return embeds
        has_image = (batch.indicators > 0)[:, None, None]
        place = slice(at, at + count)
        # Rows without image keep what stands there.
        put = torch.where(has_image, tokens[:, :count].to(embeds.dtype), embeds[:, place])
        return torch.cat([embeds[:, :at], put, embeds[:, at + count :]], dim=1)

    def batch_memory(self, images: Tensor, indicators: Tensor) -> VisualMemory:
        """Return one memory entry per row; only rows with an image go through the vision tower.

        Rows without one share the entry that has no image, which is what the published code's
        black image leaves of the memory (Q18).

        Args:
            images: (N, 3, S, S), normalized: those of the rows that have one, in order.
            indicators: (B,) 1 where the row has an image, else 0; N of them are 1.
        """
        no_image = self.no_image_memory()
        if not len(images):
            return no_image
        seen = self.method.encode_batch(self, images, indicators)
        if len(images) == len(indicators):
            return seen
        return type(seen).join([no_image, seen]).select(indicators.cumsum(0) * indicators)


def sizes_of(llama: Any, tower: VisionTower) -> FrozenSizes:
    """Return the sizes of a LlamaForCausalLM and a vision tower."""
    return FrozenSizes(
        vision_width=tower.width,
        vision_blocks=tower.blocks,
        patches=tower.patches,
        language_width=llama.config.hidden_size,
        language_layers=llama.config.num_hidden_layers,
        projections=projection_sizes(llama.config),
        class_token=tower.class_token,
    )


def build_network(
    llama: Any,
    visual: Any,
    method: type[Method],
    settings: MethodSettings,
    eager: bool = False,
) -> FusedNetwork:
    """Return a network whose tuned parameters are freshly made, on the CPU.

    Args:
        llama: A LlamaForCausalLM; shared, not copied.
        visual: A vision tower from `load_visual`; shared, not copied.
        method: Class of the method.
        settings: Its settings.
        eager: As for `FusedDecoder`.

    Raises:
        CheckpointError: the settings do not suit the frozen parts.
    """
    tower = vision_tower(visual)
    return FusedNetwork(tower, method(settings, sizes_of(llama, tower)), llama, eager)
