"""The frozen parts of an ADEM-VL model, loaded once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from adem_bench.models.adem.disk.llama_files import load_language_model
from adem_bench.models.adem.disk.vision_files import load_visual
from adem_bench.models.adem.frozen_files import FrozenFiles
from adem_bench.models.adem.packing import can_pack, pack, pack_llama
from adem_bench.models.adem.signature import language_model_signature
from adem_bench.models.adem.tokenizer import Tokenizer, load_tokenizer
from adem_bench.models.base import ModelOptions
from adem_bench.models.device import count_parameters, name_of, pick_device
from adem_bench.schemas import ModelCard


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
        self.device = pick_device(options.device)
        self.dtype = pick_dtype(card.dtype, self.device)
        self._visual_parameters = 0
        self._found = FrozenFiles(card, options.data_root, self.dtype)
        source = self._found.language_model
        self.tokenizer: Tokenizer = load_tokenizer(source, self._found.tokenizer)
        self.llama: Any = load_language_model(source, self.dtype, self.device)
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
        visual = load_visual(self.card.vision, self._found.vision, self.dtype).to(self.device)
        self._visual_parameters = count_parameters(visual)
        if self._packs:
            pack(visual)
        return visual

    @property
    def parameters(self) -> int:
        """Number of frozen weights that are loaded."""
        return self._llama_parameters + self._visual_parameters

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


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the precision for a card's `dtype`; `auto` is float16 on a GPU, else float32."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype
