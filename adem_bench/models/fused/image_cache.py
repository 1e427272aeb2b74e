"""Visual memories of images on disk: each distinct image is read and encoded once."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adem_bench.images import Square, UnreadableImageError, load_square
from adem_bench.models.fused.method import VisualMemory
from adem_bench.models.settling import NOT_FINITE
from adem_bench.records import ImageNormalization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adem_bench.models.fused.network import FusedNetwork
    from adem_bench.schemas import Reading

ENCODED_TOGETHER = {"cpu": 4, "cuda": 32}
"""Images that go through the vision tower at once: on a CPU, as many as its caches hold."""
MAX_BYTES = 512 << 20
"""Memories kept for requests to come; two questions on one image arrive close together."""


@dataclass(frozen=True, slots=True)
class ImageKey:
    """An image as a model sees it."""

    path: Path
    normalization: ImageNormalization


class ImageReader:
    """Reads images ahead in threads, so that decoding overlaps with computing."""

    def __init__(self, size: int, reading: Reading = "published") -> None:
        """Make a reader.

        Args:
            size: Sides of the squares, in pixels.
            reading: How a file becomes RGB (Q33).
        """
        self._size = size
        self._reading = reading
        # PIL releases the interpreter lock while it decodes and resizes.
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "image-reader")
        self._pending: dict[ImageKey, Future[Square]] = {}

    def prefetch(self, keys: Iterable[ImageKey]) -> None:
        """Start reading images that `read` will be called for."""
        for key in keys:
            if key not in self._pending:
                self._pending[key] = self._pool.submit(
                    load_square, key.path, self._size, key.normalization, self._reading
                )

    def read(self, key: ImageKey) -> Square:
        """Return an image, waiting for it if need be.

        Raises:
            UnreadableImageError: the file cannot be read.
        """
        self.prefetch([key])
        return self._pending.pop(key).result()


class ImageCache:
    """The visual memories of one network's images."""

    def __init__(
        self, network: FusedNetwork, reader: ImageReader, max_bytes: int = MAX_BYTES
    ) -> None:
        """Begin empty.

        Args:
            network: Encodes images.
            reader: Reads them.
            max_bytes: Of the memories that are kept; the least recently used go first.
        """
        self._network = network
        self._reader = reader
        self._max_bytes = max_bytes
        self._kept: OrderedDict[ImageKey, VisualMemory] = OrderedDict()
        self._bytes = 0
        self._differing: set[ImageKey] = set()

    def prefetch(self, keys: Iterable[ImageKey]) -> None:
        """Start reading the images that are not in the cache."""
        self._reader.prefetch(key for key in keys if key not in self._kept)

    def readings_differ(self, key: ImageKey) -> bool:
        """Return whether an image that was read is another one in the other reading (Q33)."""
        return key in self._differing

    def get(self, keys: Sequence[ImageKey]) -> tuple[VisualMemory, dict[int, str]]:
        """Return the memories of images, and why others cannot be read.

        Args:
            keys: At least one.

        Returns:
            An entry for each key whose image can be read, in order; and for the places of the
            other keys, the reason.
        """
        known: dict[ImageKey, VisualMemory] = {}
        self.prefetch(keys)
        distinct = list(dict.fromkeys(keys))
        for key in distinct:
            if key in self._kept:
                self._kept.move_to_end(key)
                known[key] = self._kept[key]
        missing, reasons = self._read([key for key in distinct if key not in known])
        names = list(missing)
        together = ENCODED_TOGETHER.get(self._network.device.type, 32)
        for start in range(0, len(names), together):
            part = names[start : start + together]
            memory = self._network.encode_images(self._stacked([missing[key] for key in part]))
            for index, (key, is_finite) in enumerate(zip(part, memory.finite(), strict=True)):
                if is_finite:
                    known[key] = self._keep(key, memory.entry(index))
                else:
                    reasons[key] = f"{key.path.name}: {NOT_FINITE}"
        errors = {place: reasons[key] for place, key in enumerate(keys) if key in reasons}
        memories = [known[key] for key in keys if key in known]
        return type(memories[0]).join(memories) if memories else VisualMemory(), errors

    def encode_together(
        self, keys: Sequence[ImageKey | None]
    ) -> tuple[VisualMemory, dict[int, str]]:
        """Return the memory of a batch whose rows depend on each other; nothing of it is kept.

        Args:
            keys: One for each row, None where it has no image.

        Returns:
            As for `get`, with an entry for each row without image too.
        """
        pixels, reasons = self._read([key for key in dict.fromkeys(keys) if key is not None])
        rows = [key for key in keys if key not in reasons]
        images = [pixels[key] for key in rows if key is not None]
        device = self._network.device
        indicators = torch.tensor([int(key is not None) for key in rows], device=device)
        stacked = self._stacked(images) if images else torch.empty(0)
        errors = {place: reasons[key] for place, key in enumerate(keys) if key and key in reasons}
        return self._network.batch_memory(stacked, indicators), errors

    def _read(
        self, keys: Sequence[ImageKey]
    ) -> tuple[dict[ImageKey, NDArray[np.float32]], dict[ImageKey, str]]:
        """Return the pixels of images, and why others cannot be read."""
        pixels: dict[ImageKey, NDArray[np.float32]] = {}
        reasons: dict[ImageKey, str] = {}
        self._reader.prefetch(keys)
        for key in keys:
            try:
                square = self._reader.read(key)
            except UnreadableImageError as error:
                reasons[key] = str(error)
                continue
            pixels[key] = square.pixels
            if square.differs:
                self._differing.add(key)
        return pixels, reasons

    def _stacked(self, images: Sequence[NDArray[np.float32]]) -> Tensor:
        device = self._network.device
        shape = (len(images), *images[0].shape)
        # Pinned memory is used again and again; other memory is new, and slow to begin with.
        stacked = torch.empty(shape, pin_memory=device.type == "cuda")
        for place, image in enumerate(images):
            stacked[place] = torch.from_numpy(image)
        return stacked.to(device, non_blocking=True)

    def _keep(self, key: ImageKey, memory: VisualMemory) -> VisualMemory:
        self._kept[key] = memory
        self._bytes += memory.nbytes
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return memory
