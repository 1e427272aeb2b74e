"""The frozen parts of an ADEM-VL model, found through the card and loaded once."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adem_bench.errors import CheckpointError
from adem_bench.files import file_digest
from adem_bench.models.adem.disk.llama_files import load_language_model
from adem_bench.models.adem.disk.vision_files import load_visual
from adem_bench.models.adem.packing import can_pack, pack, pack_llama
from adem_bench.models.adem.signature import language_model_signature
from adem_bench.models.adem.tokenizer import Tokenizer, load_tokenizer
from adem_bench.models.base import ModelOptions
from adem_bench.models.weights import missing_message, weights_path
from adem_bench.schemas import ModelCard

WEIGHT_FILES = ("*.pth", "*.safetensors", "*.json", "tokenizer.model")


class FrozenParts:
    """Tokenizer, language model and vision tower; the tower only once it is asked for."""

    def __init__(self, card: ModelCard, options: ModelOptions, trainable: bool = False) -> None:
        """Load the tokenizer and the language model.

        Args:
            card: Names them.
            options: How to load them.
            trainable: Whether gradients must pass through, which packed layers cannot do.

        Raises:
            CheckpointError: they are missing or cannot be read.
        """
        self.card = card
        self._options = options
        self.device = pick_device(options.device)
        self.dtype = pick_dtype(card.dtype, self.device)
        self._visual_parameters = 0
        self._source = self._find_language_model()
        self.tokenizer: Tokenizer = load_tokenizer(self._source, self._tokenizer_file())
        self.llama: Any = load_language_model(self._source, self.dtype, self.device)
        self.signature = language_model_signature(self.llama)
        self._packs = not trainable and can_pack(self.device, self.dtype)
        self._llama_parameters = count_parameters(self.llama)
        if self._packs:
            pack_llama(self.llama)

    @cached_property
    def visual(self) -> Any:
        """The vision tower.

        Raises:
            CheckpointError: it is missing or cannot be read.
        """
        visual = load_visual(self.card.vision, self._vision_file(), self.dtype).to(self.device)
        self._visual_parameters = count_parameters(visual)
        if self._packs:
            pack(visual)
        return visual

    @property
    def parameters(self) -> int:
        """Number of frozen weights that are loaded."""
        return self._llama_parameters + self._visual_parameters

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the weight files (or the names, of hub weights)."""
        parts = [str(self.dtype)]
        if isinstance(self._source, Path):
            files = {file for glob in WEIGHT_FILES for file in self._source.glob(glob)}
            parts += [f"{file.name} {file_digest(file)}" for file in sorted(files)]
        else:
            parts.append(self._source)
        tokenizer, vision = self._tokenizer_file(), self._vision_file()
        parts.append(file_digest(tokenizer) if tokenizer else "")
        source = self.card.vision
        parts.append(file_digest(vision) if vision else f"{source.name} {source.pretrained}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def device_name(self) -> str:
        """The device in words."""
        return name_of(self.device)

    def _find(self, path: str) -> Path | None:
        return weights_path(path, self.card, self._options.data_root)

    @property
    def vision_name(self) -> str:
        """The tower's file name, or open_clip's name and tag."""
        file, source = self._vision_file(), self.card.vision
        return file.name if file else f"{source.name} {source.pretrained}"

    @property
    def files(self) -> dict[str, str]:
        """Where the parts were found, by the card field that names them."""
        tokenizer, vision = self._tokenizer_file(), self._vision_file()
        found = {"language_model.path": self._source, "language_model.tokenizer": tokenizer}
        found["vision.path"] = vision
        return {
            # Absolute, since who reads them need not stand where this process does.
            name: str(place.absolute() if isinstance(place, Path) else place)
            for name, place in found.items()
            if place is not None
        }

    def _find_language_model(self) -> Path | str:
        path = self.card.language_model.path
        found = self._find(path)
        if found is not None:
            return found
        if self.card.language_model.hub:
            return path
        raise CheckpointError(missing_message(path, self.card, self._options.data_root))

    def _tokenizer_file(self) -> Path | None:
        """Return `tokenizer.model`: as the card says, else in the model's folder or beside it."""
        named = self.card.language_model.tokenizer
        if named:
            found = self._find(named)
            if found is None:
                raise CheckpointError(missing_message(named, self.card, self._options.data_root))
            return found
        if not isinstance(self._source, Path):
            return None
        candidates = (self._source / "tokenizer.model", self._source.parent / "tokenizer.model")
        return next((file for file in candidates if file.is_file()), None)

    def _vision_file(self) -> Path | None:
        """Return the tower's file; None leaves it to open_clip's tag."""
        path = self.card.vision.path
        if not path:
            return None
        found = self._find(path)
        if found is None and not self.card.vision.pretrained:
            raise CheckpointError(missing_message(path, self.card, self._options.data_root))
        return found


def count_parameters(module: nn.Module) -> int:
    """Return the number of a module's weights."""
    return sum(weight.numel() for weight in module.parameters())


def pick_device(name: str) -> torch.device:
    """Return the device for `auto` or a torch device string.

    Raises:
        CheckpointError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(
            f"--device {name} is no device; use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def name_of(device: torch.device) -> str:
    """Return a device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(device)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the precision for a card's `dtype`; `auto` is float16 on a GPU, else float32."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype
