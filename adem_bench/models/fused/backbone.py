"""The frozen parts of a fused model, loaded once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from adem_bench.errors import CardError, CheckpointError
from adem_bench.files import MISSING, file_digest, why_missing
from adem_bench.models.base import ModelOptions
from adem_bench.models.device import count_parameters, name_of, pick_device
from adem_bench.models.fused.card import FusedCard
from adem_bench.models.fused.decoder import check_architecture
from adem_bench.models.fused.onednn import can_pack, pack_linear_layers, pack_llama
from adem_bench.models.fused.sharding import check_group, spread_ends, spread_layer
from adem_bench.models.fused.tokenizer import (
    Tokenizer,
    check_vocabulary,
    load_tokenizer,
    tokenizer_file,
)
from adem_bench.models.fused.vision import vision_tower
from adem_bench.models.fused.weights.clip import (
    load_visual,
    pixel_statistics,
    reading_of_file,
)
from adem_bench.models.fused.weights.llama import language_config, load_language_model
from adem_bench.models.places import candidate_paths, weights_path
from adem_bench.models.quantization import (
    BNB_4BIT,
    BNB_8BIT,
    check_quantization,
    quantize_linear_layers,
)
from adem_bench.records import ImageNormalization
from adem_bench.schemas import NOT_QUANTIZED


@dataclass(frozen=True, slots=True)
class Identity:
    """What a frozen part is, as far as it is known; adapters state the same of theirs."""

    field: Literal["language_model", "vision"]
    """What an adapter's statements of such a part begin with."""
    name: str
    architecture: str | None
    """Kind and sizes, in words."""
    signature: tuple[float, ...] | None = None
    """A few numbers of the weights."""


class FrozenParts:
    """Tokenizer, language model and vision tower; weights are loaded once they are asked for."""

    def __init__(self, card: FusedCard, options: ModelOptions, trainable: bool = False) -> None:
        """Find the parts, and load the tokenizer.

        Args:
            card: Names them.
            options: How to load them.
            trainable: Whether gradients must pass through, which packed layers cannot do.

        Raises:
            CheckpointError: the tokenizer or the language model is missing or cannot be read, or
                they do not go together.
        """
        self.card = card
        self.device = pick_device(options.device)
        self.dtype = pick_dtype(card.dtype, self.device)
        check_quantization(card, self.device, self.dtype)
        if card.shard:
            _check_sharding(card)
        self._found = FrozenFiles(card, options.data_root, self.dtype)
        source = self._found.language_model
        config = language_config(source)
        check_architecture(config, card.max_sequence_length)
        self.tokenizer: Tokenizer = load_tokenizer(
            source, self._found.tokenizer, card.language_model
        )
        check_vocabulary(self.tokenizer, config.vocab_size, source)
        self._visual_parameters = 0
        self._packs = not (trainable or card.shard) and can_pack(self.device, self.dtype)

    @property
    def is_loaded(self) -> bool:
        """Whether the language model's weights are."""
        return "_language_model" in self.__dict__

    @property
    def llama(self) -> Any:
        """The language model.

        Raises:
            CheckpointError: it cannot be read.
        """
        return self._language_model[0]

    @property
    def signature(self) -> tuple[float, ...]:
        """A few numbers of the language model, as `language_model_signature` makes them.

        Raises:
            CheckpointError: it cannot be read.
        """
        return self._language_model[1]

    @cached_property
    def _language_model(self) -> tuple[Any, tuple[float, ...], int]:
        """Return the language model, its signature and the number of its weights."""
        llama, signature = self._load_language_model()
        parameters = count_parameters(llama)
        if self._packs:
            pack_llama(llama)
        return llama, signature, parameters

    def _load_language_model(self) -> tuple[Any, tuple[float, ...]]:
        """Return the language model, quantized as the card says, and its signature."""
        source, quantization = self._found.language_model, self.card.quantization
        if quantization == NOT_QUANTIZED and not self.card.shard:
            llama = load_language_model(source, self.dtype, self.device)
            return llama, language_model_signature(llama)
        last: tuple[float, ...] = ()

        def take(layer: Any) -> None:
            nonlocal last
            last = _sums_of_rows(layer.mlp.down_proj.weight)  # as it was read
            if quantization != NOT_QUANTIZED:
                quantize_linear_layers(layer, quantization, self.dtype)
            if self.card.shard:
                spread_layer(layer, self.device)

        # Layers that are spread leave the host one by one: no device has to hold them all.
        place = torch.device("cpu") if self.card.shard else self.device
        llama = load_language_model(source, self.dtype, place, take)
        signature = (*_sums_of_rows(llama.model.embed_tokens.weight), *last)
        if self.card.shard:
            spread_ends(llama, self.device)
        return llama, signature

    @property
    def visual(self) -> Any:
        """The vision tower.

        Raises:
            CheckpointError: it is missing or cannot be read.
        """
        return self._visual[0]

    @property
    def vision_signature(self) -> tuple[float, ...]:
        """Numbers of the vision tower, as `signature` has of the language model.

        Raises:
            CheckpointError: it is missing or cannot be read.
        """
        return self._visual[1]

    @cached_property
    def _visual(self) -> tuple[Any, tuple[float, ...]]:
        """Return the vision tower and its signature."""
        visual = load_visual(self.card.vision, self._found.vision, self.dtype).to(self.device)
        signature = vision_signature(visual)
        self._visual_parameters = count_parameters(visual)
        if self._packs:
            pack_linear_layers(visual)
        return visual, signature

    def normalization(self, of_task: ImageNormalization) -> ImageNormalization:
        """Return the pixel statistics for a task that was published with `of_task`.

        Raises:
            CheckpointError: the tower's are asked for, and not known.
        """
        chosen = self.card.image_normalization
        is_silent = "image_normalization" not in self.card.model_fields_set
        if chosen == "tower" or (is_silent and self._is_of_another_kind):
            return self._tower_normalization
        return of_task if chosen == "task" else chosen

    def warnings(self) -> Iterator[str]:
        """Return what a user must know whose card leaves the pixel statistics to the tasks."""
        is_silent = "image_normalization" not in self.card.model_fields_set
        if is_silent and self._statistics is None:
            yield (
                f"{self.vision_name} was trained with pixel statistics that are not known here; "
                "images get those that each task was published with (Q14); set "
                "image_normalization=task if this is meant"
            )

    @property
    def _is_of_another_kind(self) -> bool:
        """Whether no tower with these statistics was ever given the published pixels."""
        return self._statistics not in (None, *PUBLISHED_STATISTICS)

    @cached_property
    def _statistics(self) -> ImageNormalization | None:
        """The tower's own pixel statistics; None if they are not known."""
        try:
            return self._tower_normalization
        except CheckpointError:
            return None

    @cached_property
    def _tower_normalization(self) -> ImageNormalization:
        return pixel_statistics(self.card.vision, self._found.vision)

    @property
    def identities(self) -> tuple[Identity, Identity]:
        """What the language model and the tower are.

        Raises:
            CheckpointError: the tower is missing or cannot be read.
        """
        language, sizes = language_architecture(self.llama.config), vision_tower(self.visual).sizes
        return (
            Identity("language_model", self.card.base_name, language, self.signature),
            Identity("vision", self.vision_name, sizes.described, self.vision_signature),
        )

    @property
    def parameters(self) -> int:
        """Number of frozen weights that are loaded."""
        return self._language_model[2] + self._visual_parameters

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the weight files (or the names, of hub weights)."""
        return self._found.fingerprint

    @property
    def device_name(self) -> str:
        """The device in words."""
        return name_of(self.device)

    @property
    def vision_name(self) -> str:
        """The tower's file name, or open_clip's name and tag."""
        return self._found.vision_name

    @property
    def files(self) -> dict[str, str]:
        """Where the parts were found, by the card field that names them."""
        return self._found.by_field


def _check_sharding(card: FusedCard) -> None:
    """Refuse to spread a model over processes that cannot be.

    Raises:
        CardError: there is one process, or the layers keep their weights in a form of their own.
    """
    if card.quantization in (BNB_4BIT, BNB_8BIT):
        raise CardError(
            f"shard=true cannot spread weights of {card.quantization}, whose layers keep them in a "
            "form of their own; leave one of the two out"
        )
    check_group()


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the precision for a card's `dtype`; `auto` is float16 on a GPU, else float32."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


PUBLISHED_STATISTICS = ("clip", "imagenet")
"""Those that tasks were published with, for towers that were trained with CLIP's."""
ROWS = 8
TOLERANCE = 4e-3
"""Root mean square over the numbers. Rounding to bfloat16 moves them by some 1e-3; weights that
were tuned by a hundredth of their size, by 1e-2."""


def language_model_signature(llama: Any) -> tuple[float, ...]:
    """Return 16 numbers, each a row of weights summed up with fixed signs, over its norm.

    The rows are of the input embedding and of the last layer's `down_proj`: neither tensor is
    permuted between the published and the Hugging Face layout. Both must be as they were read:
    quantization would move the numbers further than tuning does.
    """
    last = llama.model.layers[-1].mlp.down_proj.weight
    return (*_sums_of_rows(llama.model.embed_tokens.weight), *_sums_of_rows(last))


def vision_signature(visual: Any) -> tuple[float, ...]:
    """Return 16 numbers of a vision tower, before its layers are packed.

    They are made of the patch embedding and of the last block's second linear layer.
    """
    first, last = vision_tower(visual).first_and_last_weights
    return (*_sums_of_rows(first.flatten(1)), *_sums_of_rows(last))


def language_architecture(config: Any) -> str:
    """Return what a language model is, in words, as adapters name the one they were tuned on.

    Args:
        config: That of transformers.
    """
    layers, width = config.num_hidden_layers, config.hidden_size
    return f"{config.model_type}, {layers} layers of width {width}"


@torch.no_grad()
def _sums_of_rows(weight: Tensor) -> tuple[float, ...]:
    """Return the 8 numbers that an (outputs, inputs) weight adds to the signature."""
    places = torch.linspace(0, len(weight) - 1, ROWS, device="cpu").long()
    rows = weight[places.to(weight.device)].float().cpu()
    fractions = torch.arange(rows.shape[1], device="cpu", dtype=torch.float64) * 0.6180339887
    signs = (fractions.frac() < 0.5).float() * 2 - 1
    numbers = (rows @ signs / rows.norm(dim=1).clamp_min(1e-9)).tolist()
    return tuple(round(number, 5) for number in numbers)


def is_same_model(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Return whether two signatures are of the same weights, rounding aside."""
    if len(first) != len(second):
        return False
    return math.dist(first, second) <= TOLERANCE * math.sqrt(len(first))


WEIGHT_FILES = ("*.pth", "*.safetensors", "*.json", "tokenizer.model")
TEMPLATE_FILES = ("*.jinja",)
"""Read where the card puts prompts into a chat template; older folders have it in a JSON file."""


class FrozenFiles:
    """The files of tokenizer, language model and vision tower."""

    def __init__(self, card: FusedCard, data_root: Path | None, dtype: torch.dtype) -> None:
        """Find the language model.

        Args:
            card: Names the parts.
            data_root: Folder below which `weights/` is looked for.
            dtype: Precision they are to be loaded in.

        Raises:
            CheckpointError: it is missing.
        """
        self._card, self._data_root, self._dtype = card, data_root, dtype
        self.language_model = self._find_language_model()
        """Its folder, or its hub id."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the weight files (or the names, of hub weights)."""
        parts = [str(self._dtype)]
        if self._card.quantization != NOT_QUANTIZED:
            parts.append(self._card.quantization)
        if isinstance(self.language_model, Path):
            templates = TEMPLATE_FILES if self._card.language_model.chat_template else ()
            globs = (*WEIGHT_FILES, *templates)
            files = {file for glob in globs for file in self.language_model.glob(glob)}
            parts += [f"{file.name} {file_digest(file)}" for file in sorted(files)]
        else:
            parts.append(self.language_model)
        parts.append(file_digest(self.tokenizer) if self.tokenizer else "")
        parts.append(file_digest(self.vision) if self.vision else self.vision_name)
        if self.vision and (reading := reading_of_file(self._card.vision)):
            parts.append(reading)
        return hashlib.sha256("\n".join(parts).encode(errors="backslashreplace")).hexdigest()[:16]

    @property
    def vision_name(self) -> str:
        """The tower's file name, or open_clip's name and tag."""
        source = self._card.vision
        return self.vision.name if self.vision else f"{source.name} {source.pretrained}"

    @property
    def by_field(self) -> dict[str, str]:
        """Where the parts were found, by the card field that names them."""
        found = {
            "language_model.path": self.language_model,
            "language_model.tokenizer": self.tokenizer,
            "vision.path": self.vision,
        }
        return {
            # Absolute: whoever reads them may run in another working directory.
            name: str(place.absolute() if isinstance(place, Path) else place)
            for name, place in found.items()
            if place is not None
        }

    def _find_language_model(self) -> Path | str:
        source = self._card.language_model
        found = self._find(source.path)
        if found is None and not source.hub:
            raise self._missing(source.path)
        return found or source.path

    @cached_property
    def tokenizer(self) -> Path | None:
        """`tokenizer.model`: as the card says, else in the model's folder or next to it.

        Raises:
            CheckpointError: the one that the card names is missing.
        """
        named = self._card.language_model.tokenizer
        if named:
            found = self._find(named)
            if found is None:
                raise self._missing(named)
            return found
        return (
            tokenizer_file(self.language_model) if isinstance(self.language_model, Path) else None
        )

    @cached_property
    def vision(self) -> Path | None:
        """The tower's file; None leaves it to open_clip's tag.

        Raises:
            CheckpointError: the card names no tag, and the file is missing.
        """
        path = self._card.vision.path
        found = self._find(path)
        if path and found is None and not self._card.vision.pretrained:
            raise self._missing(path)
        return found

    def _find(self, path: str) -> Path | None:
        """Return what a card's path stands for; None if it is nowhere.

        Raises:
            CheckpointError: a link to nothing is there; what is found by a name or a tag is not
                what someone has linked to.
        """
        found = weights_path(path, self._card, self._data_root)
        places = candidate_paths(path, self._card, self._data_root) if path and not found else []
        for place in places:
            if (why := why_missing(place)) != MISSING:
                raise CheckpointError(f"{place} {why}; link to where it is, or remove the link")
        return found

    def _missing(self, path: str) -> CheckpointError:
        return CheckpointError(self._card.missing(path, self._data_root))
