"""The network: vision tower, fusion and language model, with the training loss.

Shapes: B rows, T tokens, N images, S image side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.decoder import FusedDecoder
from adem_bench.models.fused.methods.adem import AdemFusion, VisualMemory
from adem_bench.models.fused.sequence import IGNORED_LABEL, TrainingRow
from adem_bench.models.fused.vision import VisionTower

VISION_PREFIX = "backbone.visual.transformer.resblocks."
"""Where published checkpoints keep the vision adapters: `PREFIX{block}.adapter_mlp.…`."""


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Rows of one micro-batch, trimmed to the last supervised token."""

    ids: Tensor
    """(B, T)."""
    labels: Tensor
    """(B, T); 0 is ignored."""
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

    Raises:
        ValueError: no row has a supervised token (Q25).
    """
    longest = max(len(row.ids) for row in rows)
    ids, labels = torch.zeros(2, len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.as_tensor(row.ids)
        start = row.supervised_from
        labels[index, start : len(row.ids)] = ids[index, start : len(row.ids)]
    supervised = (labels > 0).any(dim=0).nonzero()
    if not len(supervised):
        raise ValueError("no row of the batch has a supervised token")
    length = int(supervised.max()) + 1
    stacked = torch.stack(list(images)) if images else torch.empty(0)
    return TrainingBatch(ids[:, :length], labels[:, :length], stacked, torch.tensor(indicators))


class AdemNetwork(nn.Module):
    """A frozen LLaMA and CLIP joined by ADEM-VL's tuned parameters."""

    def __init__(
        self, vision: VisionTower, fusion: AdemFusion, llama: Any, eager: bool = False
    ) -> None:
        """Join the parts; `llama` and `eager` are as for `FusedDecoder`."""
        super().__init__()
        self.vision = vision
        self.fusion = fusion
        self.decoder = FusedDecoder(llama, fusion, eager)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the language model's weights."""
        return self.decoder.dtype

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.fusion.adapter_emb1.device

    def remember(self, images: Tensor) -> VisualMemory:
        """Return the visual memory of (N, 3, S, S) images."""
        return self.fusion.prepare(self.vision(images), self.dtype)

    def remember_nothing(self) -> VisualMemory:
        """Return the memory of rows without image: the learned slots alone (Q18)."""
        return self.fusion.prepare(None, self.dtype)

    def loss(self, batch: TrainingBatch, class_token_at: int) -> Tensor:
        """Return the mean cross-entropy over supervised tokens, a float32 scalar.

        Args:
            batch: From `collate`.
            class_token_at: Index of the class token in rows with an image.

        Source: ADEM-VL cec09b8 `adem/model.py:268-316`; the cross-entropy is in float32 where
        the published one is in half precision (Q22).
        """
        embeds = self.decoder.embed(batch.ids)
        memory = self._training_memory(batch)
        if memory.class_token is not None and class_token_at < embeds.shape[1]:
            is_class_token = torch.zeros_like(batch.ids, dtype=torch.bool)
            is_class_token[:, class_token_at] = batch.indicators > 0
            embeds = torch.where(
                is_class_token[..., None], memory.class_token[:, None].to(embeds.dtype), embeds
            )
        # Only positions that count go through the last layer and the output head: the mean is over
        # them alone. Rows with fewer than others are filled up with ones that do not.
        is_supervised = batch.labels[:, 1:] != IGNORED_LABEL
        most = int(is_supervised.sum(dim=1).max())
        wanted = is_supervised.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        counts = is_supervised.gather(1, wanted)
        hidden = self.decoder(embeds, memory, wanted=wanted)
        logits = self.decoder.logits(hidden[counts])
        return F.cross_entropy(logits.float(), batch.labels[:, 1:].gather(1, wanted)[counts])

    def _training_memory(self, batch: TrainingBatch) -> VisualMemory:
        """Return one memory entry per row; only rows with an image go through CLIP.

        Rows without one share the entry that has no image, which is what `beta * 0` leaves of
        the published memory of a black image (Q18).
        """
        nothing = self.remember_nothing()
        if not len(batch.images):
            return nothing
        seen = self.remember(batch.images)
        if len(batch.images) == len(batch.ids):
            return seen
        entry = batch.indicators.cumsum(0) * batch.indicators
        token = seen.class_token
        return VisualMemory(
            torch.cat([nothing.keys, seen.keys])[entry],
            torch.cat([nothing.values, seen.values])[entry],
            # Rows without image never read theirs.
            None if token is None else torch.cat([torch.zeros_like(token[:1]), token])[entry],
        )

    def adapter_tensors(self) -> dict[str, nn.Parameter]:
        """Return the tuned parameters under their published names, in the published order.

        7B has 58 tensors with 4,530,432 values (docs/method.md, section 7.2).
        """
        fusion = dict(self.fusion.named_parameters())
        vision = {
            f"{VISION_PREFIX}{index}.adapter_mlp.{name}": parameter
            for index, adapter in enumerate(self.vision.adapters)
            for name, parameter in adapter.named_parameters()
        }
        slots = {name: fusion.pop(name) for name in ("adapter_emb1", "adapter_emb2")}
        return slots | vision | fusion

    def tensors_without_gradient(self) -> frozenset[str]:
        """Return the names that the loss does not reach while no row has an image.

        The last block's adapter is never run (Q21), and nothing reads the class token then. All
        other tensors are reached, if only by zeros, as the published code sends black images
        through CLIP.
        """
        last = f"{VISION_PREFIX}{len(self.vision.adapters) - 1}."
        return frozenset(
            name for name in self.adapter_tensors() if name.startswith((last, "adapter_proj_cls."))
        )

    def load_adapter(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Copy an adapter's tensors into the tuned parameters.

        Raises:
            CheckpointError: names or shapes differ; all of them are listed.
        """
        own = self.adapter_tensors()
        missing = [name for name in own if name not in tensors]
        unexpected = [name for name in tensors if name not in own]
        misshapen = [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in tensors and tensors[name].shape != own[name].shape
        ]
        problems = {"missing": missing, "unexpected": unexpected, "wrong shape": misshapen}
        found = [f"{what}: {_some(names)}" for what, names in problems.items() if names]
        if found:
            raise CheckpointError(
                f"the adapter {source} does not fit the model; {'; '.join(found)}"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])


def _some(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
