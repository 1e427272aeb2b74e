"""A method of others: projected patch tokens in front of the prompt, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field
from torch import Tensor, nn

from adem_bench.models.fused.method import Method, VisualMemory, linear_as
from adem_bench.models.fused.sequence import InputLayout
from adem_bench.registry import METHODS
from adem_bench.schemas import MethodSettings


class PatchPrefixSettings(MethodSettings):
    kind: str = "patch_prefix"
    gain: float = Field(default=1.0, gt=0)
    """Weight of the projected patches."""


@METHODS.register("patch_prefix")
class PatchPrefix(Method):
    title = "patch prefix"
    settings = PatchPrefixSettings
    recognised_by = "project.weight"
    needs_class_token = False  # SigLIP's towers have none

    def __init__(self, chosen, sizes):
        super().__init__(chosen, sizes)
        self.gain = chosen.gain
        self.project = nn.Linear(sizes.vision_width, sizes.language_width)
        self.layout = InputLayout(image_tokens=sizes.patches)

    def encode_images(self, frame, images: Tensor) -> VisualMemory:
        x = frame.vision.embed(images)
        for index in range(frame.vision.blocks):
            x = frame.vision.block(index, x)
        patches = frame.vision.patch_states(frame.vision.final_norm(x))
        return VisualMemory(tokens=(self.gain * linear_as(self.project, patches)).to(frame.dtype))

    def tensors_without_gradient(self):
        return frozenset(self.adapter_tensors())  # before some row has an image

    def cut_prompt(self, row, max_length, max_new_tokens):
        # The image stays whole: the question loses its start.
        room = max_length - max_new_tokens
        head = 1 + (self.layout.image_tokens if row.image_tokens_at is not None else 0)
        return replace(row, ids=row.ids[:head] + row.ids[len(row.ids) - room + head :])
