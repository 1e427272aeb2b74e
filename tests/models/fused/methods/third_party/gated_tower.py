"""A method of others: trained adapters in the vision blocks, a term before attention and one next
to the feed-forward part in each layer, a tensor that no gradient reaches, no image token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adem_bench.models.fused.method import Method, VisualMemory, linear_as
from adem_bench.registry import METHODS
from adem_bench.schemas import MethodSettings


class GatedTowerSettings(MethodSettings):
    kind: str = "gated_tower"
    rank: int = 4
    from_tensors = frozenset({"rank"})
    strength: float = 0.5
    """Weight of both terms in a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(VisualMemory):
    state: Tensor
    """(N, D)."""


@METHODS.register("gated_tower")
class GatedTower(Method):
    title = "gated tower"
    settings = GatedTowerSettings
    recognised_by = "spare, gates and towers.0.weight"

    def __init__(self, chosen, sizes):
        super().__init__(chosen, sizes)
        self.strength = chosen.strength
        width = sizes.vision_width
        self.towers = nn.ModuleList(nn.Linear(width, width) for _ in range(sizes.vision_blocks))
        self.down = nn.Linear(width, chosen.rank, bias=False)
        self.up = nn.Linear(chosen.rank, sizes.language_width, bias=False)
        self.nothing = nn.Parameter(torch.randn(1, sizes.language_width) * 0.1)
        self.gates = nn.Parameter(torch.ones(sizes.language_layers, 2))
        self.spare = nn.Parameter(torch.ones(3))

    def encode_images(self, frame, images):
        x = frame.vision.embed(images)
        for index, tower in enumerate(self.towers):
            x = frame.vision.block(
                index, x, before_attention=lambda y, t=tower: y + linear_as(t, y)
            )
        state = linear_as(self.up, linear_as(self.down, x[:, 0]))
        return Summary(state=state.to(frame.dtype))

    def no_image_memory(self, frame):
        return Summary(state=self.nothing.to(frame.dtype))

    def before_attention(self, layer, hidden_states, memory):
        gate = self.strength * self.gates[layer, 0].to(hidden_states.dtype)
        return hidden_states + gate * memory.state[:, None]

    def after_feed_forward(self, layer, residual, normed, fed, memory):
        gate = self.strength * self.gates[layer, 1].to(normed.dtype)
        return residual + (fed + gate * normed * memory.state[:, None])

    def tensors_without_gradient(self):
        seen = ("towers.", "down.", "up.", "spare")
        return frozenset(name for name in self.adapter_tensors() if name.startswith(seen))

    @classmethod
    def settings_from(cls, tensors, stated):
        return {**stated, "rank": tensors["down.weight"].shape[0]}


def _adapted(tower, y):
    return y + linear_as(tower, y)
