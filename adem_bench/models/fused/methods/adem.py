"""ADEM-VL: parameter-free attention over a shared visual memory with an adaptive drop rule.

All that is this method's is here: settings, tensors and their published names, the tuned vision
adapters, the memory, the fused term, prefix and class token, the cut of long prompts, checkpoints.
Source: arXiv 2410.17779 section 3; ADEM-VL cec09b8; docs/method.md.

Shapes: N images, P patches, M = sum(scales) memory slots, C vision width, D language width, B rows,
T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.errors import CheckpointError
from adem_bench.models.device import kernels_for
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
from adem_bench.models.fused.sequence import InputLayout, PromptRow
from adem_bench.prompts import TEMPLATE
from adem_bench.records import Json
from adem_bench.schemas import MOST_WIDTH, MethodSettings

NAMES_IN_ORDER = ("adapter_emb", "backbone.", "adapter_proj.", "adapter_proj_cls.")
LAYOUT = InputLayout("Image: ", "Image: N/A", image_tokens=1)
ARGUMENTS = {
    "alpha": "alpha",
    "beta": "beta",
    "drop_ratio": "drop_ratio",
    "scales": "down_sample_num",
    "hidden_proj": "hidden_proj",
    "adapter_dim": "adapter_dim",
}
"""Our settings and the published trainer's arguments (`train.py`) of the same meaning.

`no_cls`, the opposite of `cls_token`, is the one that this table cannot hold.
"""


class AdemSettings(MethodSettings):
    """Hyper-parameters of ADEM-VL; the defaults are the paper's."""

    FIRST_FIELDS = frozenset(
        {
            "alpha", "beta", "drop_ratio", "scales", "cls_token", "hidden_proj", "adapter_dim",
        }
    )  # fmt: skip

    kind: str = "adem"
    from_tensors: ClassVar[frozenset[str]] = frozenset({"hidden_proj", "adapter_dim"})

    alpha: float = 0.1
    """Weight of the fused term in each decoder layer."""
    beta: float = 0.01
    """Weight of the projected visual features."""
    drop_ratio: float = Field(default=0.1, lt=1)
    """Share of visual slots dropped per token."""
    scales: tuple[int, ...] = Field(default=(256, 64), min_length=1)
    """Patch counts after pooling, in order. If nothing is said and the tower has not 16 x 16
    patches: all of them, and those of the next grid that divides theirs evenly."""
    cls_token: bool = True
    """Whether the class token and its prefix enter the input."""
    hidden_proj: int = Field(default=128, ge=1, le=MOST_WIDTH)
    """Hidden width of the two projectors."""
    adapter_dim: int = Field(default=12, ge=1, le=MOST_WIDTH)
    """Hidden width of the CLIP adapters (train.py's own default is 8, its README says 12, Q3)."""


class AdemVl(Method):
    """Every layer adds `alpha * drop(SiLU(q) K^T) U`, with `K = SiLU(V + E1)`, `U = V + E2`.

    `V = beta * projector(pooled patches)`; without an image V is 0 and the learned E1, E2 act
    alone. There is no scale, softmax or per-layer parameter.

    Source: arXiv 2410.17779 section 3; ADEM-VL cec09b8 `adem/model.py:268-283`,
    `adem/adapter.py:28-44`. Attribute names are the published checkpoint's.
    """

    title = "ADEM-VL"
    settings = AdemSettings
    needs_class_token = False
    recognised_by = "adapter_emb1, adapter_proj.fc1.weight and ….adapter_mlp.fc1.weight"
    instruction = TEMPLATE
    # What the README's training command uses; its evaluation asks otherwise (Q1, Q2).
    released_prompts: ClassVar[Mapping[str, Mapping[str, Json]]] = {
        PROMPTED: {"prompt_format": "CQM-A", "captions": False}
    }

    def __init__(self, chosen: MethodSettings, sizes: FrozenSizes) -> None:
        """Make untrained parameters (docs/method.md, section 7.1).

        Args:
            chosen: `AdemSettings`.
            sizes: Of the frozen parts.

        Raises:
            CheckpointError: the scales do not suit the vision tower.
        """
        assert isinstance(chosen, AdemSettings)
        if "scales" not in chosen.model_fields_set:
            chosen = chosen.model_copy(update={"scales": scales_of(sizes.patches)})
        super().__init__(chosen, sizes)
        _check_scales(chosen.scales, sizes.patches)
        self.scales = chosen.scales
        self.alpha, self.beta, self.drop_ratio = chosen.alpha, chosen.beta, chosen.drop_ratio
        self.vision_adapters = VisionAdapters(sizes, chosen.adapter_dim)
        slots, width = sum(chosen.scales), sizes.language_width
        self.adapter_emb1 = nn.Parameter(torch.randn(1, slots, width) * 0.02)
        self.adapter_emb2 = nn.Parameter(torch.zeros(1, slots, width))
        self.adapter_proj = Projector(sizes.vision_width, chosen.hidden_proj, width)
        self.adapter_proj_cls = None
        if chosen.cls_token:
            self.adapter_proj_cls = Projector(sizes.vision_width, chosen.hidden_proj, width)
            # Without the class token there is no prefix either, as published.
            self.layout = LAYOUT

    def encode_images(self, frame: Frame, images: Tensor) -> KeyValueMemory:
        """Return keys, values and class token of (N, 3, S, S) images.

        In a tower without class token, the mean of the normed patches stands for it.
        """
        features = self.vision_adapters.features(frame, images)
        patches = pool_patches(frame.vision.patch_states(features), self.scales)
        # The factor takes the features' precision, as published: in half precision the paper's
        # beta 0.01 becomes 0.0100021 (Q19).
        visual = self.adapter_proj(patches) * features.new_tensor(self.beta)
        token = None
        if self.adapter_proj_cls is not None:
            token = self.adapter_proj_cls(frame.vision.summary(features))
        return KeyValueMemory(
            keys=F.silu(visual + self.adapter_emb1).to(frame.dtype),
            values=(visual + self.adapter_emb2).to(frame.dtype),
            tokens=None if token is None else token[:, None].to(frame.dtype),
        )

    def no_image_memory(self, frame: Frame) -> KeyValueMemory:
        """Return the learned slots alone (Q18)."""
        return KeyValueMemory(
            keys=F.silu(self.adapter_emb1).to(frame.dtype),
            values=self.adapter_emb2.to(frame.dtype),
        )

    def after_feed_forward(
        self, layer: int, residual: Tensor, normed: Tensor, fed: Tensor, memory: VisualMemory
    ) -> Tensor:
        """Add the feed-forward part first, the fused term last, as published.

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
        term = memory.read(F.silu(normed), lambda x: adaptive_drop(x, self.drop_ratio))
        if kernels := kernels_for(term):
            added: Tensor = kernels.add_terms(residual, fed, term, self.alpha)
            return added
        return residual + fed + self.alpha * term

    def cut_prompt(self, row: PromptRow, max_length: int, max_new_tokens: int) -> PromptRow:
        """Cut a prompt that does not fit as published: it loses its end.

        The class token is then written as many places too early as the row is too long, and not at
        all where that would be at BOS or before (Q9).

        Args:
            row: The prompt; with its answer it is longer than `max_length`.
            max_length: Most tokens of prompt and answer together.
            max_new_tokens: Of the answer.
        """
        room = max_length - max_new_tokens
        excess, at = len(row.ids) - room, row.image_tokens_at
        at = None if at is None or at - excess < 1 else at - excess
        return replace(row, ids=row.ids[:room], image_tokens_at=at, notes=("Q9",))

    def adapter_tensors(self) -> dict[str, nn.Parameter]:
        """Return the tuned parameters under their published names, in the published order.

        7B has 58 tensors with 4,530,432 values (docs/method.md, section 7.2).
        """
        return published_tensors(dict(self.named_parameters()))

    def tensors_without_gradient(self) -> frozenset[str]:
        """Return the names that the loss does not reach while no row has an image.

        The last block's adapter is never run (Q21), and nothing reads the class token then. All
        other tensors are reached, if only by zeros, as the published code sends black images
        through CLIP.
        """
        last = f"{VISION_PREFIX}{len(self.vision_adapters) - 1}."
        return frozenset(
            name for name in self.adapter_tensors() if name.startswith((last, "adapter_proj_cls."))
        )

    def load_adapter(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Copy an adapter's tensors into the tuned parameters.

        Where a card switched the class token off, its projector has nothing to do.

        Raises:
            CheckpointError: names or shapes differ; all of them are listed.
        """
        if self.adapter_proj_cls is None:
            tensors = {n: t for n, t in tensors.items() if not n.startswith("adapter_proj_cls.")}
        super().load_adapter(tensors, source)

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether a file that does not say its method is one of this method."""
        return (
            {"adapter_emb1", "adapter_proj.fc1.weight"} <= set(tensors)
            and any("adapter_mlp.fc1" in name for name in tensors)
            and "adapter_modality_embedding.weight" not in tensors  # MemVP has one
        )

    @classmethod
    def settings_from(
        cls, tensors: Mapping[str, Tensor], stated: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the settings of a file; shapes outrank any stated value (Q3).

        Args:
            tensors: Under their published names.
            stated: Settings by name.

        Raises:
            CheckpointError: a tensor is missing, or the scales do not make the slots.
        """
        try:
            hidden_proj = tensors["adapter_proj.fc1.weight"].shape[0]
            slots = tensors["adapter_emb1"].shape[1]
            adapter_dim = next(
                tensor.shape[0] for name, tensor in tensors.items() if "adapter_mlp.fc1" in name
            )
        except (KeyError, StopIteration, IndexError) as error:
            raise CheckpointError(
                f"not an ADEM-VL adapter: it needs {cls.recognised_by}, and has "
                f"{', '.join(list(tensors)[:4]) or 'nothing'}, …"
            ) from error
        scales = stated.get("scales")
        if scales is not None and sum(scales) != slots:
            raise CheckpointError(
                f"scales {list(scales)} make {sum(scales)} memory slots, but its adapter_emb1 has "
                f"{slots}"
            )
        return {
            **stated,
            "hidden_proj": hidden_proj,
            "adapter_dim": adapter_dim,
            "cls_token": "adapter_proj_cls.fc1.weight" in tensors,
        }

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> AdapterSettings:
        """Return what the published trainer's arguments say; shapes are not asked here."""
        found = {name: arguments.get(theirs) for name, theirs in ARGUMENTS.items()}
        values: dict[str, Any] = {
            name: float(value)
            for name in ("alpha", "beta", "drop_ratio")
            if isinstance(value := found[name], int | float)
        }
        scales = _scales(found["scales"])
        return AdapterSettings(
            method=cls.settings.model_fields["kind"].default,
            values=values if scales is None else values | {"scales": scales},
            language_model=text_or_none(arguments.get("llm_model")),
            vision=text_or_none(arguments.get("clip")),
            prompts=prompts_from(arguments),
        )

    @classmethod
    def to_arguments(cls, settings: AdapterSettings) -> dict[str, Any]:
        """Return settings as the published trainer's arguments; those it lacks are left out."""
        values = settings.values
        stated: dict[str, Any] = {
            theirs: values[name] for name, theirs in ARGUMENTS.items() if name in values
        }
        stated |= {"llm_model": settings.language_model, "clip": settings.vision}
        found = {name: value for name, value in stated.items() if value is not None}
        if "down_sample_num" in found:
            found["down_sample_num"] = list(found["down_sample_num"])
        if values.get("cls_token") is not None:
            found["no_cls"] = not values["cls_token"]
        return found | prompts_to(settings)

    @classmethod
    def known_arguments(cls) -> frozenset[str]:
        """Return the published trainer's arguments that `from_arguments` reads."""
        others = ("llm_model", "clip", "no_cls")
        return frozenset({*ARGUMENTS.values(), *PROMPT_ARGUMENTS.values(), *others})

    @classmethod
    def published_order(cls, names: Sequence[str]) -> list[str]:
        """Return tensor names in the order of the published model's `named_parameters`."""
        return published_order(names, NAMES_IN_ORDER)


def adaptive_drop(similarity: Tensor, ratio: float) -> Tensor:
    """Set the lowest similarities of every token to zero.

    Args:
        similarity: (…, M), signed.
        ratio: Share of the M slots to drop, below 1; 0 or less returns the input.

    Returns:
        (…, M). Entries strictly below the value at ascending position `int(ratio * M)`
        (from 0) are 0; ties with it and NaN survive.

    Source: ADEM-VL cec09b8 `adem/adapter.py:33-38`. The rule is on signed values: the most
    negative slots go, not those of least magnitude.
    """
    if ratio <= 0:
        return similarity
    rank = int(ratio * similarity.shape[-1])
    if kernels := kernels_for(similarity):
        dropped: Tensor = kernels.adaptive_drop(similarity, rank)
        return dropped
    threshold = _order_statistic(similarity.detach(), rank)
    return torch.where(similarity < threshold, 0.0, similarity)


def _order_statistic(x: Tensor, rank: int) -> Tensor:
    """Return the (…, 1) value at ascending position `rank`, NaN counted as largest."""
    if x.device.type == "cpu" and x.dtype != torch.float64:
        # 0.5 ms against kthvalue's 1.9 ms and sort's 5.7 ms for (4, 150, 320) on two cores;
        # half precision passes through float32 unchanged.
        ordered = np.partition(x.float().numpy(), rank, axis=-1)
        return torch.from_numpy(ordered[..., rank : rank + 1]).to(x.dtype)
    return x.kthvalue(rank + 1, dim=-1, keepdim=True).values


def pool_patches(patches: Tensor, scales: Sequence[int]) -> Tensor:
    """Average a square grid of patches to each scale and join them: (N, P, C) -> (N, M, C).

    Pooling comes before projection, as in the published code and unlike the paper's
    Algorithm 1; the two differ because the projector is not linear.

    Raises:
        ValueError: P or a scale is not a square number.
    """
    count, width = patches.shape[1:]
    side = _side(count)
    grid = patches.transpose(1, 2).reshape(-1, width, side, side)
    pooled = [
        patches
        if scale == count
        else F.adaptive_avg_pool2d(grid, _side(scale)).flatten(2).transpose(1, 2)
        for scale in scales
    ]
    return torch.cat(pooled, dim=1)


def scales_of(patches: int) -> tuple[int, ...]:
    """Return the scales for a tower where nothing is said: all patches, and a coarser grid.

    Its side is the longest that divides the patches' own evenly: (256, 64) as published for 256
    patches, (576, 144) for 576, (729, 81) for 729.

    Raises:
        ValueError: the number of patches is not a square number.
    """
    sides = _even_sides(_side(patches))
    return (patches, sides[-2] ** 2) if len(sides) > 1 else (patches,)


def _check_scales(scales: Sequence[int], patches: int) -> None:
    """Refuse scales that a tower's patches cannot be averaged to.

    Raises:
        CheckpointError: one is not a square number, or more than the patches.
    """
    for scale in scales:
        if not 1 <= scale <= patches or math.isqrt(scale) ** 2 != scale:
            even = ", ".join(str(side**2) for side in _even_sides(_side(patches)))
            raise CheckpointError(
                f"scale {scale} does not suit a vision tower with {patches} patches; scales are "
                f"square numbers up to that, of which {even} divide its grid evenly"
            )


def _even_sides(side: int) -> list[int]:
    """Return the sides of grids that divide one of `side` x `side` evenly, smallest first."""
    return [number for number in range(1, side + 1) if side % number == 0]


def _side(count: int) -> int:
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(f"expected a square number of patches, got {count}")
    return side


def _scales(value: object) -> tuple[int, ...] | None:
    """Return patch counts; the published code unwraps a single one (docs/method.md, 7.4)."""
    counts = [value] if isinstance(value, int) else value
    if not isinstance(counts, list | tuple) or not all(isinstance(n, int) for n in counts):
        return None
    return tuple(counts) or None
