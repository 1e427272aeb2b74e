"""The protocol of methods: all that joins a frozen language model and a frozen vision tower.

A method is one class, chosen by a card's `fusion.kind` (or a recipe's `method.kind`). It owns what
is tuned: its settings, its tensors and their published names, which vision blocks run and what is
read of them, the memory of an image and of none, the tokens and the text it puts into the input,
what it does in each decoder layer, and the rules of its checkpoints. The frame (`network`,
`decoder`, `sequence`, `generation`, `model`, the trainer) names no method.

Shapes: B rows, T tokens, N images, K image tokens, P patches, C vision width, D language width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, Self

import torch
from pydantic import create_model
from torch import Tensor, nn
from torch.nn import functional as F

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.card import FusionSettings
from adem_bench.models.fused.sequence import InputLayout, PromptRow
from adem_bench.records import Json
from adem_bench.schemas import DEFAULT_METHOD, MethodSettings

if TYPE_CHECKING:
    from adem_bench.models.fused.vision import VisionTower


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualMemory:
    """What the network keeps of images: an entry per distinct image, or one for no image.

    Methods derive from it and add tensors of their own, each (N, …).
    """

    tokens: Tensor | None = None
    """(N, K, D) embeddings that enter the input, where the method has such."""

    def __len__(self) -> int:
        """Return N; memory without tensors has one entry."""
        return next((len(tensor) for tensor in self._tensors().values()), 1)

    def select(self, rows: Tensor) -> Self:
        """Return the memory with entry `rows[b]` (B,) for row b; a single entry serves all rows."""
        return self if len(self) == 1 else self._map(lambda tensor: tensor[rows])

    def entry(self, index: int) -> Self:
        """Return one entry as storage of its own, so that dropping it frees memory."""
        return self._map(lambda tensor: tensor[index : index + 1].clone())

    def finite(self) -> list[bool]:
        """Return for each entry whether no number of it is NaN or infinite."""
        known = [x.isfinite().flatten(1).all(dim=1) for x in self._tensors().values()]
        # All at once: a GPU is waited for each time that something is asked of it.
        return torch.stack(known).all(dim=0).tolist() if known else [True]

    @property
    def nbytes(self) -> int:
        """Bytes held by the entries."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    @classmethod
    def join(cls, memories: Sequence[Self]) -> Self:
        """Return one memory with the entries of all, in order.

        A tensor that only some have is zero in the entries of the others, which never read it.
        """
        joined: dict[str, Tensor] = {}
        for name in (one.name for one in fields(cls)):
            known = [tensor for memory in memories if (tensor := getattr(memory, name)) is not None]
            if known:
                parts = [
                    known[0].new_zeros(len(memory), *known[0].shape[1:])
                    if getattr(memory, name) is None
                    else getattr(memory, name)
                    for memory in memories
                ]
                joined[name] = torch.cat(parts)
        return replace(memories[0], **joined)

    def _tensors(self) -> dict[str, Tensor]:
        named = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{name: change(x) for name, x in self._tensors().items()})


@dataclass(frozen=True, slots=True)
class FrozenSizes:
    """The sizes of the frozen parts, which a method's tensors follow."""

    vision_width: int
    """C."""
    vision_blocks: int
    patches: int
    """P, the patches of an image."""
    language_width: int
    """D."""
    language_layers: int
    projections: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Inputs and outputs of a decoder layer's projections, by name (`self_attn.q_proj`)."""
    class_token: bool = True
    """Whether the vision tower has a class token before its patches."""


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """What an adapter says of itself; None, or left out, where its file does not say."""

    method: str = DEFAULT_METHOD
    values: Mapping[str, Json] = field(default_factory=dict)
    """The method's settings, by name."""
    language_model: str | None = None
    """Name of the base model it was tuned on."""
    language_model_architecture: str | None = None
    """Its kind and sizes in words (`language_architecture`)."""
    vision: str | None = None
    """Name of the tower."""
    vision_architecture: str | None = None
    """Its sizes in words (`TowerSizes.described`)."""
    prompts: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    """Task kind to the `prompt_settings` that training prompts had (Q1, Q2)."""
    language_model_signature: tuple[float, ...] | None = None
    """A few numbers of the language model it was tuned on, so that another one is noticed."""
    vision_signature: tuple[float, ...] | None = None
    """The same of the tower."""


class Frame(Protocol):
    """What a method may ask of the network that it is part of."""

    vision: VisionTower

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the language model's weights."""
        ...

    def hidden_states(self, inputs_embeds: Tensor, memory: VisualMemory) -> Tensor:
        """Run (B, T, D) embeddings through the decoder; return normed hidden states, (B, T, D)."""
        ...


class Method(nn.Module, ABC):
    """One way of letting a frozen language model see. Its parameters are what is tuned."""

    title: ClassVar[str]
    """The method's name for people."""
    settings: ClassVar[type[MethodSettings]]
    """Its hyper-parameters with their defaults: the fields of a recipe's `method`."""
    recognised_by: ClassVar[str]
    """The tensors that tell a file of this method, in words, for messages."""
    instruction: ClassVar[str] = "{question}"
    """How released weights were asked questions; for questions by hand."""
    released_prompts: ClassVar[Mapping[str, Mapping[str, Json]]] = {}
    """Task kind to the prompt settings that the released weights were tuned on."""
    layout: InputLayout = InputLayout()
    """Text and tokens that it puts into the input."""
    position_shift: int = 0
    """Added to the positions of new tokens (0: they go on where the prompt ends)."""
    shifts_at_shortest: bool = False
    """Whether `position_shift` counts from the end of a batch's shortest prompt on, in all rows."""
    depends_on_batch: bool = False
    """Whether an answer depends on the rows that share its batch; images are then encoded by
    `encode_batch`, and batches are the samples in order."""
    keeps_leading_blank: ClassVar[bool] = False
    """Whether the blank between prompt and answer belongs to the answer, as rules that count
    characters need it."""
    skips_nan_loss: ClassVar[bool] = False
    """Whether a micro-batch whose loss is not a number is left out, rather than counted as zero."""
    needs_class_token: ClassVar[bool] = True
    """Whether towers without a class token (SigLIP) are refused. A method that sets it to False
    asks the tower for `patch_states` and `summary` instead of cutting states itself."""

    def __init__(self, chosen: MethodSettings, sizes: FrozenSizes) -> None:
        """Make untrained parameters, in float32.

        Args:
            chosen: Settings, of the class that `settings` names.
            sizes: Of the frozen parts.

        Raises:
            CheckpointError: the settings do not suit the sizes, or the tower has no class token
                that the method needs.
        """
        super().__init__()
        if self.needs_class_token and not sizes.class_token:
            raise CheckpointError(
                f"{self.title} reads the class token of a vision tower, and this one has none; "
                "choose another tower (vision.name), or another method"
            )
        self.chosen = chosen
        """The settings in use, with what follows from the sizes where nothing was said."""

    # The image and its absence

    @abstractmethod
    def encode_images(self, frame: Frame, images: Tensor) -> VisualMemory:
        """Return the memory of images, an entry per image.

        Args:
            frame: Its vision tower runs the blocks that the method asks for.
            images: (N, 3, S, S), normalized.
        """

    def encode_batch(self, frame: Frame, images: Tensor, indicators: Tensor) -> VisualMemory:
        """Return the memory of a batch's images; by default of each by itself.

        Args:
            frame: As for `encode_images`.
            images: (N, 3, S, S), normalized: those of the rows that have one, in order.
            indicators: (B,) 1 where the row has an image, else 0; N of them are 1.
        """
        return self.encode_images(frame, images)

    def no_image_memory(self, frame: Frame) -> VisualMemory:
        """Return the one entry that all rows without image share."""
        return VisualMemory()

    # The decoder

    def before_attention(self, layer: int, hidden_states: Tensor, memory: VisualMemory) -> Tensor:
        """Return what attention reads in a layer.

        Args:
            layer: Index of the decoder layer.
            hidden_states: (B, T, D) after the layer's first norm.
            memory: An entry per row, or a single one for all.

        Returns:
            (B, T, D).
        """
        return hidden_states

    def apply_projection(self, layer: int, name: str, frozen: nn.Module, x: Tensor) -> Tensor:
        """Return what one of a layer's projections makes of its input.

        Args:
            layer: Index of the decoder layer.
            name: Of the projection in the layer, as `FrozenSizes.projections` has it.
            frozen: The projection itself, whatever its weights are kept in.
            x: (B, T, inputs).

        Returns:
            (B, T, outputs).
        """
        out: Tensor = frozen(x)
        return out

    def after_feed_forward(
        self, layer: int, residual: Tensor, normed: Tensor, fed: Tensor, memory: VisualMemory
    ) -> Tensor:
        """Return a layer's output, its terms added in the method's own order.

        Args:
            layer: Index of the decoder layer.
            residual: (B, T, D) after attention.
            normed: (B, T, D), `residual` after the layer's second norm.
            fed: (B, T, D), what the feed-forward part made of `normed`.
            memory: An entry per row, or a single one for all.

        Returns:
            (B, T, D).
        """
        return residual + fed

    # The input

    def cut_prompt(self, row: PromptRow, max_length: int, max_new_tokens: int) -> PromptRow:
        """Return a prompt that is too long so that it fits; by default it loses its end.

        Args:
            row: The prompt; with its answer it is longer than `max_length`.
            max_length: Most tokens of prompt and answer together.
            max_new_tokens: Of the answer.
        """
        return replace(row, ids=row.ids[: max_length - max_new_tokens], notes=("cut",))

    # Its tensors

    def adapter_tensors(self) -> dict[str, nn.Parameter]:
        """Return the tuned parameters under their published names, in the published order."""
        return dict(self.named_parameters())

    def tensors_without_gradient(self) -> frozenset[str]:
        """Return the names that the loss does not reach before some row has an image, or ever."""
        return frozenset()

    def load_adapter(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Copy an adapter's tensors into the tuned parameters.

        Raises:
            CheckpointError: names, shapes or kinds of numbers differ; all of them are listed.
        """
        own = self.adapter_tensors()
        missing = [name for name in own if name not in tensors]
        unexpected = [name for name in tensors if name not in own]
        misshapen = [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in tensors and tensors[name].shape != own[name].shape
        ]
        unreal = [f"{n} {t.dtype}" for n, t in tensors.items() if not t.is_floating_point()]
        problems = {
            "missing": missing,
            "unexpected": unexpected,
            "wrong shape": misshapen,
            "not of real numbers": unreal,
        }
        found = [f"{what}: {_some(names)}" for what, names in problems.items() if names]
        if found:
            raise CheckpointError(
                f"the adapter {source} does not fit the model; {'; '.join(found)}"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])

    # Its checkpoints

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether a file that does not say its method is one of this method."""
        return False

    @classmethod
    def settings_from(
        cls, tensors: Mapping[str, Tensor], stated: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the settings that a file states, with those that its tensors' shapes say.

        Args:
            tensors: Under their published names.
            stated: By name; shapes outrank them.

        Raises:
            CheckpointError: they contradict each other, or a tensor is missing.
        """
        return dict(stated)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> AdapterSettings:
        """Return what the arguments in a file of the published trainer say."""
        return AdapterSettings()

    @classmethod
    def to_arguments(cls, settings: AdapterSettings) -> dict[str, Any]:
        """Return settings as the published trainer's arguments; those it lacks are left out."""
        return {}

    @classmethod
    def known_arguments(cls) -> frozenset[str]:
        """Return the published trainer's arguments that `from_arguments` reads."""
        return frozenset()

    @classmethod
    def published_order(cls, names: Sequence[str]) -> list[str]:
        """Return tensor names in the order of the published trainer's files."""
        return list(names)

    overrides: ClassVar[type[FusionSettings]]
    """What a card may set of the settings: all but what tensors say, each empty by default."""

    def __init_subclass__(cls, **more: Any) -> None:
        """Derive `overrides` from `settings`."""
        super().__init_subclass__(**more)
        if "settings" in cls.__dict__:
            cls.overrides = _overrides(cls.settings)


def _overrides(settings: type[MethodSettings]) -> type[FusionSettings]:
    optional: dict[str, Any] = {}
    for name, described in settings.model_fields.items():
        if name != "kind" and name not in settings.from_tensors:
            value: Any = described.annotation
            if described.metadata:
                value = Annotated[(value, *described.metadata)]
            optional[name] = (value | None, None)
    kind = settings.model_fields["kind"].default
    made: type[FusionSettings] = create_model(
        "FusionSettings", __base__=FusionSettings, kind=(str, kind), **optional
    )
    return made


class LanguageModelAlone(Method):
    """No method: the language model as it is; nothing is remembered, nothing added."""

    title = "the language model alone"
    recognised_by = "nothing"

    def __init__(self) -> None:
        """Make no parameters."""
        nn.Module.__init__(self)

    def encode_images(self, frame: Frame, images: Tensor) -> VisualMemory:
        """Return a memory without tensors."""
        return VisualMemory()


def linear_as(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a float32 layer in the precision of `x`, as CUDA autocast would."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


def _some(names: Sequence[str], limit: int = 6) -> str:
    listed = ", ".join(names[:limit])
    return listed + (f" and {len(names) - limit} more" if len(names) > limit else "")
