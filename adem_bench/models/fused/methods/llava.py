"""LLaVA: patch tokens through a two-layer projector, in front of the prompt, with LoRA or without.

The baseline that other methods have to beat. The tower stays frozen; so does the language model,
unless its projections have LoRA. A question costs as many more tokens as the image has patches.

Source: docs/method.md, section 17; arXiv 2310.03744 section 3; transformers
`models/llava/modeling_llava.py`, whose tensor names these are; LLaVA `llava/train/train.py`
for what LoRA tunes.

Shapes: N images, P patches, C vision width, D language width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.lora import LoraProjections, lora_facts
from adem_bench.models.fused.method import (
    Frame,
    FrozenSizes,
    Method,
    VisualMemory,
    linear_as,
)
from adem_bench.models.fused.sequence import InputLayout, PromptRow
from adem_bench.schemas import MOST_WIDTH, MethodSettings

PROJECTOR = "multi_modal_projector"


Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LlavaSettings(MethodSettings):
    """Hyper-parameters of LLaVA; the defaults are those of LLaVA-1.5 without LoRA."""

    FIRST_FIELDS = frozenset({"kind"})
    from_tensors = frozenset({"lora_rank", "lora_targets"})

    kind: str = "llava"
    skipped_blocks: int = Field(default=1, ge=0)
    """Vision blocks that are left out at the tower's end (LLaVA-1.5: 1)."""
    lora_rank: int = Field(default=0, ge=0, le=MOST_WIDTH)
    """Of LoRA on the language model's projections (LLaVA-1.5: 128); 0 leaves them frozen."""
    lora_alpha: float = Field(default=16.0, gt=0)
    """Scale of LoRA, before it is divided by the rank (LLaVA-1.5: 256)."""
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)
    """Share of a projection's inputs that LoRA does not see in training."""
    lora_targets: tuple[Target, ...] = get_args(Target)
    """The projections that LoRA tunes, in every layer."""


class Llava(Method):
    """`linear_2(GELU(linear_1(patches)))` in the input, and LoRA in the layers if asked for."""

    title = "LLaVA"
    settings = LlavaSettings
    needs_class_token = False
    recognised_by = f"{PROJECTOR}.linear_1.weight and {PROJECTOR}.linear_2.weight"

    def __init__(self, chosen: MethodSettings, sizes: FrozenSizes) -> None:
        """Make untrained parameters.

        Args:
            chosen: `LlavaSettings`.
            sizes: Of the frozen parts.

        Raises:
            CheckpointError: the tower has no block that is not left out, or LoRA's package is
                missing.
        """
        super().__init__(chosen, sizes)
        assert isinstance(chosen, LlavaSettings)
        self.blocks = sizes.vision_blocks - chosen.skipped_blocks
        if self.blocks < 1:
            raise CheckpointError(
                f"skipped_blocks {chosen.skipped_blocks} leaves nothing of a vision tower with "
                f"{sizes.vision_blocks} blocks; choose fewer"
            )
        self.layout = InputLayout(image_tokens=sizes.patches)
        width = sizes.language_width
        self.multi_modal_projector = nn.ModuleDict(
            {
                "linear_1": nn.Linear(sizes.vision_width, width),
                "linear_2": nn.Linear(width, width),
            }
        )
        self.lora = None
        if chosen.lora_rank:
            self._tuned = {
                name: sizes_of
                for name, sizes_of in sizes.projections.items()
                if name.rpartition(".")[2] in chosen.lora_targets
            }
            self.lora = LoraProjections(
                self._tuned,
                sizes.language_layers,
                chosen.lora_rank,
                chosen.lora_alpha,
                chosen.lora_dropout,
            )

    def encode_images(self, frame: Frame, images: Tensor) -> VisualMemory:
        """Return the (N, P, D) tokens of (N, 3, S, S) images; a class token is left out."""
        x = frame.vision.embed(images)
        for index in range(self.blocks):
            x = frame.vision.block(index, x)
        hidden = F.gelu(self._project("linear_1", frame.vision.patch_states(x)))
        return VisualMemory(tokens=self._project("linear_2", hidden).to(frame.dtype))

    def _project(self, name: str, x: Tensor) -> Tensor:
        layer = self.multi_modal_projector[name]
        assert isinstance(layer, nn.Linear)
        return linear_as(layer, x)

    def apply_projection(self, layer: int, name: str, frozen: nn.Module, x: Tensor) -> Tensor:
        """Return (B, T, outputs); arguments as in `Method.apply_projection`."""
        if self.lora is None or name not in self._tuned:
            return super().apply_projection(layer, name, frozen, x)
        return self.lora.run(layer, name, frozen, x)

    def cut_prompt(self, row: PromptRow, max_length: int, max_new_tokens: int) -> PromptRow:
        """Keep the image whole: the question loses its start.

        Args:
            row: The prompt; with its answer it is longer than `max_length`.
            max_length: Most tokens of prompt and answer together.
            max_new_tokens: Of the answer.

        Raises:
            CheckpointError: the image alone leaves no room for a question.
        """
        at = row.image_tokens_at
        head = 0 if at is None else at + self.layout.image_tokens
        room = max_length - max_new_tokens - head
        if room < 1:
            raise CheckpointError(
                f"an image takes {self.layout.image_tokens} tokens, which with {max_new_tokens} "
                f"new ones leave no room for a question in {max_length}; set "
                "max_sequence_length of the model's card"
            )
        return replace(row, ids=row.ids[:head] + row.ids[len(row.ids) - room :], notes=("cut",))

    def tensors_without_gradient(self) -> frozenset[str]:
        """Return the names that the loss does not reach before some row has an image."""
        return frozenset(self._projector_tensors())

    def adapter_tensors(self) -> dict[str, nn.Parameter]:
        """Return the projector, then LoRA's matrices by their names in peft's files."""
        lora = {} if self.lora is None else self.lora.tensors()
        return {**self._projector_tensors(), **lora}

    def _projector_tensors(self) -> dict[str, nn.Parameter]:
        return dict(self.multi_modal_projector.named_parameters(PROJECTOR))

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether a file that does not say its method is one of this method."""
        return {f"{PROJECTOR}.linear_1.weight", f"{PROJECTOR}.linear_2.weight"} <= set(tensors)

    @classmethod
    def settings_from(
        cls, tensors: Mapping[str, Tensor], stated: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the settings that a file states, with the rank and targets of its tensors.

        Args:
            tensors: Under their published names.
            stated: By name; tensors outrank them.
        """
        rank, targets = lora_facts(tensors)
        if not rank:
            return {**stated, "lora_rank": 0}
        ordered = tuple(name for name in get_args(Target) if name in targets)
        return {**stated, "lora_rank": rank, "lora_targets": ordered}
