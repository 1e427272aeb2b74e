"""MemVP: visual memory next to the feed-forward part, with learned slots and no drop rule.

Source: arXiv 2405.05615; MemVP 5eef19f.

Shapes: N images, P patches, M memory slots, C vision width, D language width, B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.method import (
    AdapterSettings,
    Frame,
    FrozenSizes,
    Method,
    VisualMemory,
)
from adem_bench.models.fused.methods.parts import (
    PROMPT_ARGUMENTS,
    PROMPTED,
    VISION_PREFIX,
    KeyValueMemory,
    Projector,
    VisionAdapters,
    prompts_from,
    prompts_to,
    published_order,
    published_tensors,
    text_or_none,
)
from adem_bench.models.fused.sequence import PromptRow
from adem_bench.records import Json
from adem_bench.schemas import MOST_WIDTH, MethodSettings

SCORE_DROPOUT = 0.1
UNUSED = "adapter_modality_embedding.weight"
"""Saved and counted by the published code, and never read."""
NAMES_IN_ORDER = ("adapter_emb", "backbone.", "adapter_proj.", "adapter_modality_embedding.")
ARGUMENTS = {
    "adapter_scale": "adapter_scale",
    "slots": "emb",
    "hidden_proj": "hidden_proj",
    "adapter_dim": "adapter_dim",
}
"""Our settings and the published trainer's arguments (`train.py`) of the same meaning."""


class MemvpSettings(MethodSettings):
    """Hyper-parameters of MemVP; the defaults are those of its 7B script."""

    from_tensors: ClassVar[frozenset[str]] = frozenset({"slots", "hidden_proj", "adapter_dim"})

    FIRST_FIELDS = frozenset({"kind", "adapter_scale", "slots", "hidden_proj", "adapter_dim"})

    kind: str = "memvp"
    adapter_scale: float = 0.1
    """Weight of the memory's term in each decoder layer."""
    slots: int = Field(default=320, ge=1, le=MOST_WIDTH)
    """Memory slots: one for each patch, and learned ones beyond (7B: 320, 13B: 400). If nothing is
    said and 320 do not hold an image's patches: a quarter more than these, as in 7B."""
    hidden_proj: int = Field(default=128, ge=1, le=MOST_WIDTH)
    """Hidden width of the projector."""
    adapter_dim: int = Field(default=12, ge=1, le=MOST_WIDTH)
    """Hidden width of the CLIP adapters (train.py's own default is 8)."""
    visual_scale: float = 0.01
    """Factor on projected patches, a constant in the published code (`memvp/model.py`). It is a
    Python number: half precision rounds the product, never the factor."""


class MemVp(Method):
    """Every layer adds `s * Dropout(SiLU(q K^T)) U` to its feed-forward part.

    `K = V + E1` and `U = V + E2`, with `V = 0.01 * projector(patches)` in the first P slots and 0
    in the others; without an image V is 0 everywhere. SiLU is taken of the score. s is
    `adapter_scale`, and 0.01 is `visual_scale`.

    Source: MemVP 5eef19f `memvp/adapter.py`, `memvp/model.py`. Attribute names are the published
    checkpoint's.
    """

    title = "MemVP"
    settings = MemvpSettings
    needs_class_token = False
    recognised_by = f"adapter_emb1, ….adapter_mlp.fc1.weight and {UNUSED}"
    # What its scripts train with; its evaluation adds captions.
    released_prompts: ClassVar[Mapping[str, Mapping[str, Json]]] = {
        PROMPTED: {"prompt_format": "QCM-A", "captions": False}
    }

    def __init__(self, chosen: MethodSettings, sizes: FrozenSizes) -> None:
        """Make untrained parameters.

        Args:
            chosen: `MemvpSettings`.
            sizes: Of the frozen parts.

        Raises:
            CheckpointError: there are fewer slots than patches.
        """
        assert isinstance(chosen, MemvpSettings)
        if "slots" not in chosen.model_fields_set and chosen.slots < sizes.patches:
            chosen = chosen.model_copy(update={"slots": sizes.patches + sizes.patches // 4})
        super().__init__(chosen, sizes)
        if chosen.slots < sizes.patches:
            raise CheckpointError(
                f"{chosen.slots} slots do not hold the {sizes.patches} patches of an image; "
                "MemVP needs at least as many"
            )
        self.adapter_scale, self.visual_scale = chosen.adapter_scale, chosen.visual_scale
        width = sizes.language_width
        self.vision_adapters = VisionAdapters(sizes, chosen.adapter_dim)
        self.adapter_emb1 = nn.Parameter(torch.randn(1, chosen.slots, width) * 0.02)
        self.adapter_emb2 = nn.Parameter(torch.zeros(1, chosen.slots, width))
        self.adapter_proj = Projector(sizes.vision_width, chosen.hidden_proj, width)
        self.adapter_modality_embedding = nn.Embedding(2, width)
        self.score_dropout = nn.Dropout(SCORE_DROPOUT)

    def encode_images(self, frame: Frame, images: Tensor) -> KeyValueMemory:
        """Return keys and values of (N, 3, S, S) images; a class token is left out."""
        patches = frame.vision.patch_states(self.vision_adapters.features(frame, images))
        visual = self.adapter_proj(patches) * self.visual_scale
        visual = F.pad(visual, (0, 0, 0, self.adapter_emb1.shape[1] - visual.shape[1]))
        return KeyValueMemory(
            keys=(visual + self.adapter_emb1).to(frame.dtype),
            values=(visual + self.adapter_emb2).to(frame.dtype),
        )

    def no_image_memory(self, frame: Frame) -> KeyValueMemory:
        """Return the learned slots alone."""
        return KeyValueMemory(
            keys=self.adapter_emb1.to(frame.dtype), values=self.adapter_emb2.to(frame.dtype)
        )

    def after_feed_forward(
        self, layer: int, residual: Tensor, normed: Tensor, fed: Tensor, memory: VisualMemory
    ) -> Tensor:
        """Add the memory's term to the feed-forward part first, as published.

        Args:
            layer: Unused: all layers read the same memory in the same way.
            residual: (B, T, D) after attention.
            normed: (B, T, D), the query.
            fed: (B, T, D), the feed-forward part's output.
            memory: `KeyValueMemory`, an entry per row or a single one for all.

        Returns:
            (B, T, D).
        """
        assert isinstance(memory, KeyValueMemory)
        term = memory.read(normed, lambda x: self.score_dropout(F.silu(x)))
        return residual + (fed + self.adapter_scale * term)

    def cut_prompt(self, row: PromptRow, max_length: int, max_new_tokens: int) -> PromptRow:
        """Cut a prompt that does not fit as published: it loses its end (Q9).

        Args:
            row: The prompt; with its answer it is longer than `max_length`.
            max_length: Most tokens of prompt and answer together.
            max_new_tokens: Of the answer.
        """
        return replace(row, ids=row.ids[: max_length - max_new_tokens], notes=("Q9",))

    def adapter_tensors(self) -> dict[str, nn.Parameter]:
        """Return the tuned parameters under their published names, in the published order.

        7B has 55 tensors with 3,879,040 values, 13B as many with 5,487,744.
        """
        return published_tensors(dict(self.named_parameters()))

    def tensors_without_gradient(self) -> frozenset[str]:
        """Return the names that no loss ever reaches.

        All others are reached, if only by zeros, as the published code sends black images through
        CLIP.
        """
        last = f"{VISION_PREFIX}{len(self.vision_adapters) - 1}."
        return frozenset(
            name for name in self.adapter_tensors() if name == UNUSED or name.startswith(last)
        )

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether a file that does not say its method is one of this method."""
        return {"adapter_emb1", "adapter_proj.fc1.weight", UNUSED} <= set(tensors)

    @classmethod
    def settings_from(
        cls, tensors: Mapping[str, Tensor], stated: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the settings of a file; shapes outrank any stated value.

        Args:
            tensors: Under their published names.
            stated: Settings by name.

        Raises:
            CheckpointError: a tensor is missing.
        """
        try:
            return {
                **stated,
                "slots": tensors["adapter_emb1"].shape[1],
                "hidden_proj": tensors["adapter_proj.fc1.weight"].shape[0],
                "adapter_dim": next(
                    tensor.shape[0] for name, tensor in tensors.items() if "adapter_mlp.fc1" in name
                ),
            }
        except (KeyError, StopIteration, IndexError) as error:
            raise CheckpointError(
                f"not a MemVP adapter: it needs {cls.recognised_by}, and has "
                f"{', '.join(list(tensors)[:4]) or 'nothing'}, …"
            ) from error

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> AdapterSettings:
        """Return what the published trainer's arguments say; shapes are not asked here."""
        scale = arguments.get("adapter_scale")
        return AdapterSettings(
            method="memvp",
            values={"adapter_scale": float(scale)} if isinstance(scale, int | float) else {},
            language_model=text_or_none(arguments.get("llm_model")),
            prompts=prompts_from(arguments),
        )

    @classmethod
    def to_arguments(cls, settings: AdapterSettings) -> dict[str, Any]:
        """Return settings as the published trainer's arguments; those it lacks are left out."""
        values = settings.values
        stated = {theirs: values.get(ours) for ours, theirs in ARGUMENTS.items()}
        stated["llm_model"] = settings.language_model
        found = {name: value for name, value in stated.items() if value is not None}
        return found | prompts_to(settings)

    @classmethod
    def known_arguments(cls) -> frozenset[str]:
        """Return the published trainer's arguments that `from_arguments` reads."""
        return frozenset({*ARGUMENTS.values(), *PROMPT_ARGUMENTS.values(), "llm_model"})

    @classmethod
    def published_order(cls, names: Sequence[str]) -> list[str]:
        """Return tensor names in the order of the published model's `named_parameters`."""
        return published_order(names, NAMES_IN_ORDER)
