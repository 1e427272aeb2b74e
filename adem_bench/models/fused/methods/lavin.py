"""LaVIN: routed adapters before attention, in the vision tower and in the language model.

Source: arXiv 2305.15023; LaVIN dd0a1bf. Its answers depend on the samples that share a batch; here
each image and each row is what the published code computes at batch size 1 (quirks L1, L2).

Shapes: N images, K image tokens, C vision width, L decoder layers, D language width, B rows,
T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

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
    linear_as,
)
from adem_bench.models.fused.methods.parts import (
    PROMPT_ARGUMENTS,
    PROMPTED,
    prompts_from,
    prompts_to,
    text_or_none,
)
from adem_bench.models.fused.sequence import InputLayout, PromptRow
from adem_bench.prompts import TEMPLATE
from adem_bench.records import Json
from adem_bench.schemas import MOST_WIDTH, MethodSettings

VISION_NAMES = "backbone.visual.transformer.resblocks."
OURS = {"vision_routers.": VISION_NAMES, "layer_routers.": "layers."}
"""Where a method of ours keeps the routers, and where published checkpoints do."""
PUBLISHED = "adapter_attn."
"""What published names have between the block's number and the router's own name."""
NAMES_IN_ORDER = ("layers.", "backbone.", "adapter_proj.", "adapter_modality_embedding.")
ROUTER_NAMES = ("conv_A", "conv_B", "conv_D", "expert_weights")
ARGUMENTS, SHAPES = ("temperature", "adapter_scale"), ("adapter_dim", "hidden_proj")
"""Settings that the published trainer has arguments of the same name for; shapes say the second."""
WIDTH_13B = 5120
"""Language width whose published files have another temperature."""


class LavinSettings(MethodSettings):
    """Hyper-parameters of LaVIN; the defaults are those of its 7B scripts."""

    FIRST_FIELDS = frozenset(
        {"kind", "temperature", "adapter_scale", "adapter_dim", "hidden_proj", "read_every"}
    )
    from_tensors: ClassVar[frozenset[str]] = frozenset({"adapter_dim", "hidden_proj"})

    kind: str = "lavin"
    temperature: float = Field(default=10.0, gt=0)
    """Of the routing's softmax (7B: 10, 13B: 5)."""
    adapter_scale: float = 1.0
    """Weight of both branches of a router."""
    adapter_dim: int = Field(default=8, ge=2, le=MOST_WIDTH, multiple_of=2)
    """Width of the routers, in two groups."""
    hidden_proj: int = Field(default=128, ge=1, le=MOST_WIDTH)
    """Hidden width of the projector."""
    read_every: int = Field(default=4, ge=1)
    """The class token is read after every so many vision blocks (published: 4)."""
    batch_routing: Literal["own", "first"] = "own"
    """What routes an image in the vision tower: its own tokens, as published at batch size 1, or
    those of the batch's first row, as published at any other (L1)."""
    new_positions: Literal["published", "shortest", "training"] = "published"
    """Positions of new tokens: one too small, as published at batch size 1; one too small from the
    end of the batch's shortest prompt on, as published at any other; or as in training (L2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedMemory(VisualMemory):
    """Image tokens, and how the layers route the tokens of rows of this modality."""

    routing: Tensor
    """(N, L, 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe(VisualMemory):
    """Stands for a memory while the modality vectors run through the layers by themselves."""

    routing: dict[int, Tensor] = field(default_factory=dict)
    """Layer to (2, 2): routing weights without and with an image."""


class Router(nn.Module):
    """`x + s w0 (B a) + s w1 (D a)` with `a = Dropout(A x)`, B and D in two groups."""

    def __init__(self, width: int, settings: LavinSettings) -> None:
        """Make a router that adds nothing yet."""
        super().__init__()
        hidden = settings.adapter_dim
        self.conv_A = nn.Conv1d(width, hidden, 1)
        self.conv_B = nn.Conv1d(hidden, width, 1, groups=2)
        self.conv_D = nn.Conv1d(hidden, width, 1, groups=2)
        self.expert_weights = nn.Linear(width, 2)
        self.dropout = nn.Dropout(0.1)
        self.scale, self.temperature = settings.adapter_scale, settings.temperature
        nn.init.xavier_uniform_(self.conv_A.weight)
        nn.init.zeros_(self.conv_A.bias)  # type: ignore[arg-type]
        for branch in (self.conv_B, self.conv_D):
            nn.init.zeros_(branch.weight)
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]

    def weights(self, x: Tensor) -> Tensor:
        """Return the (…, 2) routing weights of (…, width) states."""
        scores = linear_as(self.expert_weights, x) / self.temperature
        return scores.float().softmax(dim=-1).to(x.dtype)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return (B, T, width) states, routed.

        Args:
            x: (B, T, width).
            weights: (B, T or 1, 2).
        """
        hidden = self.dropout(_pointwise(self.conv_A, x))
        first, second = _pointwise(self.conv_B, hidden), _pointwise(self.conv_D, hidden)
        scaled = self.scale * weights
        return x + scaled[..., :1] * first + scaled[..., 1:] * second


class Lavin(Method):
    """Routers before attention in every vision block and decoder layer.

    Six class tokens of the tower, projected, stand in the input. A vector per modality (image or
    none) decides the routing in each layer; it runs through the layers by itself, which equals the
    published token that no other token sees.

    Source: LaVIN dd0a1bf `lavin/mm_adapter.py`, `lavin/mm_adaptation.py`, `lavin/model.py`.
    """

    title = "LaVIN"
    settings = LavinSettings
    needs_class_token = False
    recognised_by = "layers.0.adapter_attn.conv_A.weight and adapter_modality_embedding.weight"
    instruction = TEMPLATE
    # What its scripts train ScienceQA with.
    released_prompts: ClassVar[Mapping[str, Mapping[str, Json]]] = {
        PROMPTED: {"prompt_format": "QCM-ALE", "captions": False}
    }
    # The published code decodes answers with their prompts (L5).
    keeps_leading_blank = True
    skips_nan_loss = True

    def __init__(self, chosen: MethodSettings, sizes: FrozenSizes) -> None:
        """Make untrained parameters.

        Args:
            chosen: `LavinSettings`.
            sizes: Of the frozen parts.

        Raises:
            CheckpointError: the tower has fewer blocks than are skipped between two class tokens.
        """
        super().__init__(chosen, sizes)
        assert isinstance(chosen, LavinSettings)
        tokens = sizes.vision_blocks // chosen.read_every
        if not tokens:
            raise CheckpointError(
                f"read_every {chosen.read_every} reads no class token of a vision tower with "
                f"{sizes.vision_blocks} blocks; choose at most as many"
            )
        self.read_every = chosen.read_every
        self.routed_by_first = chosen.batch_routing == "first"
        # The published loop forgets the modality token's place once the prompt is read (L2).
        self.position_shift = 0 if chosen.new_positions == "training" else -1
        self.shifts_at_shortest = chosen.new_positions == "shortest"
        self.depends_on_batch = self.routed_by_first or self.shifts_at_shortest
        self.layout = InputLayout("Image: ", "Image: N/A", image_tokens=tokens, reserved=1)
        width, language = sizes.vision_width, sizes.language_width
        self.layer_routers = nn.ModuleList(
            Router(language, chosen) for _ in range(sizes.language_layers)
        )
        self.vision_routers = nn.ModuleList(
            Router(width, chosen) for _ in range(sizes.vision_blocks)
        )
        self.adapter_proj = nn.ModuleDict(
            {
                "conv_A": nn.Linear(width, chosen.hidden_proj),
                "conv_B": nn.Linear(chosen.hidden_proj, language),
            }
        )
        for layer in self.adapter_proj.values():
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.adapter_modality_embedding = nn.Embedding(2, language)

    def encode_images(self, frame: Frame, images: Tensor) -> RoutedMemory:
        """Return image tokens of (N, 3, S, S) images, and the routing of rows with an image."""
        return self._memory(frame, self.class_tokens(frame, images))

    def encode_batch(self, frame: Frame, images: Tensor, indicators: Tensor) -> RoutedMemory:
        """Return the memory of a batch's images, routed by its first row if settings say so (L1).

        Args:
            frame: The network.
            images: (N, 3, S, S), normalized: those of the rows that have one, in order.
            indicators: (B,) 1 where the row has an image, else 0; N of them are 1.
        """
        if not self.routed_by_first:
            return self.encode_images(frame, images)
        # A row without image has a black one in the published code.
        black = int(indicators[0] == 0)
        images = torch.cat([torch.zeros_like(images[:black]), images])
        return self._memory(frame, self.class_tokens(frame, images, by_first=True)[black:])

    def class_tokens(self, frame: Frame, images: Tensor, by_first: bool = False) -> Tensor:
        """Return (N, K, C): the raw class token after every `read_every`-th block.

        In towers that have none, the mean of the patches stands for it.

        Args:
            frame: The network.
            images: (N, 3, S, S), normalized.
            by_first: Whether the first image routes all.
        """
        x = frame.vision.embed(images)
        read = []
        for index, router in enumerate(self.vision_routers):
            assert isinstance(router, Router)
            route = partial(_routed_by_first if by_first else _routed_by_itself, router)
            x = frame.vision.block(index, x, before_attention=route)
            if (index + 1) % self.read_every == 0:
                read.append(frame.vision.summary(x))
        return torch.stack(read, dim=1)

    def _memory(self, frame: Frame, class_tokens: Tensor) -> RoutedMemory:
        hidden = F.silu(self._project("conv_A", class_tokens))
        routing = self._routing(frame)[1:].expand(len(class_tokens), -1, -1)
        return RoutedMemory(
            tokens=self._project("conv_B", hidden).to(frame.dtype), routing=routing.contiguous()
        )

    def no_image_memory(self, frame: Frame) -> RoutedMemory:
        """Return the routing of rows without image."""
        return RoutedMemory(routing=self._routing(frame)[:1])

    def _project(self, name: str, x: Tensor) -> Tensor:
        layer = self.adapter_proj[name]
        assert isinstance(layer, nn.Linear)
        return linear_as(layer, x)

    def _routing(self, frame: Frame) -> Tensor:
        """Return (2, L, 2): each layer's weights without and with an image."""
        probe = _Probe()
        frame.hidden_states(self.adapter_modality_embedding.weight[:, None].to(frame.dtype), probe)
        return torch.stack([probe.routing[layer] for layer in sorted(probe.routing)], dim=1)

    def before_attention(self, layer: int, hidden_states: Tensor, memory: VisualMemory) -> Tensor:
        """Route the states that attention reads.

        Args:
            layer: Index of the decoder layer.
            hidden_states: (B, T, D) after the layer's first norm.
            memory: `RoutedMemory`, an entry per row or a single one for all.

        Returns:
            (B, T, D).
        """
        router = self.layer_routers[layer]
        assert isinstance(router, Router)
        if isinstance(memory, _Probe):
            weights = router.weights(hidden_states)
            memory.routing[layer] = weights[:, 0]
        else:
            assert isinstance(memory, RoutedMemory)
            weights = memory.routing[:, layer, None]
        routed: Tensor = router(hidden_states, weights)
        return routed

    def cut_prompt(self, row: PromptRow, max_length: int, max_new_tokens: int) -> PromptRow:
        """Keep the entire prompt and answer with fewer tokens, or none, as published (L6).

        Args:
            row: The prompt; with its answer it is longer than `max_length`.
            max_length: Most tokens of prompt and answer together.
            max_new_tokens: Of the answer; overruled.
        """
        return replace(row, max_new_tokens=max(0, max_length - len(row.ids)), notes=("L6",))

    def adapter_tensors(self) -> dict[str, nn.Parameter]:
        """Return the tuned parameters under their published names, in the published order.

        7B has 453 tensors with 3,781,296 values, 13B 517 with 5,390,080.
        """
        return {_published(name): parameter for name, parameter in self.named_parameters()}

    def tensors_without_gradient(self) -> frozenset[str]:
        """Return the names that the loss does not reach while no row has an image."""
        return frozenset(
            name
            for name in self.adapter_tensors()
            if name.startswith((VISION_NAMES, "adapter_proj."))
        )

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether a file that does not say its method is one of this method."""
        required = {"layers.0.adapter_attn.conv_A.weight", "adapter_modality_embedding.weight"}
        return required <= set(tensors)

    @classmethod
    def settings_from(
        cls, tensors: Mapping[str, Tensor], stated: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the settings of a file; where it does not state the temperature, its size does.

        Args:
            tensors: Under their published names.
            stated: Settings by name.

        Raises:
            CheckpointError: a tensor is missing.
        """
        try:
            hidden, width, _ = tensors["layers.0.adapter_attn.conv_A.weight"].shape
            hidden_proj = tensors["adapter_proj.conv_A.weight"].shape[0]
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"not a LaVIN adapter: it needs {cls.recognised_by}, and has "
                f"{', '.join(list(tensors)[:4]) or 'nothing'}, …"
            ) from error
        usual = 5.0 if width == WIDTH_13B else 10.0
        return {
            "temperature": usual,
            **stated,
            "adapter_dim": hidden,
            "hidden_proj": hidden_proj,
        }

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> AdapterSettings:
        """Return what the published trainer's arguments say; shapes are not asked here."""
        return AdapterSettings(
            method="lavin",
            values={
                name: float(arguments[name])
                for name in ARGUMENTS
                if isinstance(arguments.get(name), int | float)
            },
            language_model=text_or_none(arguments.get("llm_model")),
            prompts=prompts_from(arguments),
        )

    @classmethod
    def to_arguments(cls, settings: AdapterSettings) -> dict[str, Any]:
        """Return settings as the published trainer's arguments; those it lacks are left out."""
        stated = {name: settings.values.get(name) for name in (*ARGUMENTS, *SHAPES)}
        stated["llm_model"] = settings.language_model
        found = {name: value for name, value in stated.items() if value is not None}
        return found | prompts_to(settings)

    @classmethod
    def known_arguments(cls) -> frozenset[str]:
        """Return the published trainer's arguments that `from_arguments` reads."""
        return frozenset({*ARGUMENTS, *SHAPES, *PROMPT_ARGUMENTS.values(), "llm_model"})

    @classmethod
    def published_order(cls, names: Sequence[str]) -> list[str]:
        """Return tensor names in the order of the published model's `named_parameters`."""
        return sorted(names, key=_place)


def _pointwise(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a float32 1x1 convolution to the last dimension of `x`, in its precision."""
    groups = layer.groups
    weight = layer.weight.to(x.dtype).view(groups, layer.out_channels // groups, -1)
    parts = x.view(*x.shape[:-1], groups, -1)
    out = torch.einsum("...gi,goi->...go", parts, weight).flatten(-2)
    return out if layer.bias is None else out + layer.bias.to(x.dtype)


def _routed_by_itself(router: Router, x: Tensor) -> Tensor:
    routed: Tensor = router(x, router.weights(x))
    return routed


def _routed_by_first(router: Router, x: Tensor) -> Tensor:
    routed: Tensor = router(x, router.weights(x[:1]))
    return routed


def _published(name: str) -> str:
    for ours, theirs in OURS.items():
        if name.startswith(ours):
            index, _, rest = name.removeprefix(ours).partition(".")
            return f"{theirs}{index}.{PUBLISHED}{rest}"
    return name


def _place(name: str) -> tuple[int, int, int, bool]:
    """Return what sorts names as in published files."""
    part = next((n for n, s in enumerate(NAMES_IN_ORDER) if name.startswith(s)), 9)
    index = re.search(r"(?:layers|resblocks)\.(\d+)\.", name)
    layer, _, kind = name.rpartition(".")
    own = layer.rpartition(".")[2]
    rank = ROUTER_NAMES.index(own) if own in ROUTER_NAMES else 0
    return part, int(index.group(1)) if index else 0, rank, kind != "weight"
