"""Where the frozen parts of an ADEM-VL model lie, found through the card; nothing is loaded."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import torch

from adem_bench.errors import CheckpointError
from adem_bench.files import file_digest
from adem_bench.models.adem.tokenizer import tokenizer_file
from adem_bench.models.weights import missing_message, weights_path
from adem_bench.schemas import ModelCard

WEIGHT_FILES = ("*.pth", "*.safetensors", "*.json", "tokenizer.model")


class FrozenFiles:
    """The files of tokenizer, language model and vision tower."""

    def __init__(self, card: ModelCard, data_root: Path | None, dtype: torch.dtype) -> None:
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
        if isinstance(self.language_model, Path):
            files = {file for glob in WEIGHT_FILES for file in self.language_model.glob(glob)}
            parts += [f"{file.name} {file_digest(file)}" for file in sorted(files)]
        else:
            parts.append(self.language_model)
        parts.append(file_digest(self.tokenizer) if self.tokenizer else "")
        parts.append(file_digest(self.vision) if self.vision else self.vision_name)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

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
            # Absolute, since who reads them need not stand where this process does.
            name: str(place.absolute() if isinstance(place, Path) else place)
            for name, place in found.items()
            if place is not None
        }

    def _find_language_model(self) -> Path | str:
        source = self._card.language_model
        found = weights_path(source.path, self._card, self._data_root)
        if found is None and not source.hub:
            raise self._missing(source.path)
        return found or source.path

    @cached_property
    def tokenizer(self) -> Path | None:
        """`tokenizer.model`: as the card says, else in the model's folder or beside it.

        Raises:
            CheckpointError: the one that the card names is missing.
        """
        named = self._card.language_model.tokenizer
        if named:
            found = weights_path(named, self._card, self._data_root)
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
        found = weights_path(path, self._card, self._data_root)
        if path and found is None and not self._card.vision.pretrained:
            raise self._missing(path)
        return found

    def _missing(self, path: str) -> CheckpointError:
        return CheckpointError(missing_message(path, self._card, self._data_root))
