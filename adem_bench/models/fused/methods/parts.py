"""What methods that read a visual memory are made of: projectors, vision adapters, keys and values.

Source: ADEM-VL cec09b8 and MemVP 5eef19f, whose `adapter.py` and `build.py` share these parts.

Shapes: N images, P patches, M memory slots, C vision width, D language width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.models.fused.method import (
    AdapterSettings,
    Frame,
    FrozenSizes,
    VisualMemory,
    linear_as,
)
from adem_bench.records import Json

VISION_ADAPTER_SCALE = 0.1
"""Constant in the published code (`adem/build.py`), independent of alpha (Q20)."""
VISION_PREFIX = "backbone.visual.transformer.resblocks."
"""Where published checkpoints keep the vision adapters: `PREFIX{block}.adapter_mlp.…`."""
PROMPTED = "scienceqa"
"""The one task kind whose prompt settings the published trainers have arguments for."""
PROMPT_ARGUMENTS = {"prompt_format": "prompt_format", "captions": "use_caption"}
OURS = "vision_adapters."
"""Where a method of ours keeps them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValueMemory(VisualMemory):
    """Keys and values that all layers read."""

    keys: Tensor
    """(N, M, D)."""
    values: Tensor
    """(N, M, D)."""

    def read(self, query: Tensor, weigh: Callable[[Tensor], Tensor]) -> Tensor:
        """Return `weigh(query K^T) U`, (B, T, D).

        Args:
            query: (B, T, D), its rows those of the memory, unless one entry serves all.
            weigh: Makes weights of the (B, T, M) similarities.
        """
        if len(self.keys) == 1:
            return weigh(query @ self.keys[0].T) @ self.values[0]
        return weigh(query @ self.keys.transpose(1, 2)) @ self.values


class Projector(nn.Module):
    """`fc2(SiLU(fc1(x)))` from the vision width to the language model's; (…, C) -> (…, D)."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        """Make Xavier-uniform weights and zero biases.

        Args:
            width: C, of the input.
            hidden: Width between the two layers.
            out: D, of the output.
        """
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Project in the precision of `x`; the weights stay float32 masters."""
        return linear_as(self.fc2, F.silu(linear_as(self.fc1, x)))


class VisionAdapter(nn.Module):
    """`fc2(Dropout(GELU(fc1(x))))` without biases, next to a block's MLP; (…, C) -> (…, C)."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.1) -> None:
        """Make an adapter that adds nothing yet.

        Args:
            width: C, of input and output.
            hidden: Width between the two layers.
            dropout: Probability, in training.
        """
        super().__init__()
        self.fc1 = nn.Linear(width, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.fc2.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapter's term, in the precision of `x`."""
        hidden = self.dropout(F.gelu(linear_as(self.fc1, x)))
        return VISION_ADAPTER_SCALE * linear_as(self.fc2, hidden)


class VisionAdapters(nn.ModuleList):
    """An adapter for each vision block. The last one is saved and counted, but never run.

    The published code skips that block (Q21).
    """

    def __init__(self, sizes: FrozenSizes, hidden: int) -> None:
        """Make adapters of width `hidden` that add nothing yet."""
        blocks = range(sizes.vision_blocks)
        super().__init__(VisionAdapter(sizes.vision_width, hidden) for _ in blocks)

    def features(self, frame: Frame, images: Tensor) -> Tensor:
        """Return (N, L, C) features after the tower's last norm, a class token first.

        Args:
            frame: The network, whose tower runs all blocks but the last.
            images: (N, 3, S, S), normalized.

        Source: ADEM-VL cec09b8 `clip/model.py` (all blocks but the last, `ln_post` on every
        token, no projection) and `adem/adapter.py:67-70`.
        """
        x = frame.vision.embed(images)
        for index, adapter in enumerate(list(self)[:-1]):
            x = frame.vision.block(index, x, beside_mlp=adapter)
        return frame.vision.final_norm(x)


def prompts_from(arguments: Mapping[str, Any]) -> dict[str, dict[str, Json]]:
    """Return the prompt settings that a published trainer's arguments say, by task kind."""
    found: dict[str, Json] = {
        ours: arguments[theirs]
        for ours, theirs in PROMPT_ARGUMENTS.items()
        if isinstance(arguments.get(theirs), str | bool)
    }
    return {PROMPTED: found} if found else {}


def prompts_to(settings: AdapterSettings) -> dict[str, Json]:
    """Return an adapter's prompt settings as a published trainer's arguments."""
    stated = settings.prompts.get(PROMPTED, {})
    return {theirs: stated[ours] for ours, theirs in PROMPT_ARGUMENTS.items() if ours in stated}


def text_or_none(value: object) -> str | None:
    """Return an argument that is a text; None for whatever else a file may hold."""
    return value if isinstance(value, str) else None


def published_tensors(own: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return a method's parameters under the published names: slots, vision adapters, the rest."""
    vision = {
        f"{VISION_PREFIX}{block}.adapter_mlp.{rest}": parameter
        for name, parameter in own.items()
        if name.startswith(OURS)
        for block, _, rest in [name.removeprefix(OURS).partition(".")]
    }
    slots = {name: own[name] for name in ("adapter_emb1", "adapter_emb2")}
    others = {n: p for n, p in own.items() if n not in slots and not n.startswith(OURS)}
    return slots | vision | others


def published_order(names: Sequence[str], starts: Sequence[str]) -> list[str]:
    """Return tensor names in the order of the published model's `named_parameters`.

    Args:
        names: In any order.
        starts: What the names of each part start with, in the order of the parts.
    """

    def place(name: str) -> tuple[int, int, str, bool, str]:
        part = next((n for n, start in enumerate(starts) if name.startswith(start)), len(starts))
        block = re.search(r"\.resblocks\.(\d+)\.", name)
        layer, _, kind = name.rpartition(".")
        return part, int(block.group(1)) if block else 0, layer, kind != "weight", name

    return sorted(names, key=place)
