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

from adem_bench.images import UnreadableImageError, load_image
from adem_bench.models.fused.method import VisualMemory
from adem_bench.records import ImageNormalization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adem_bench.models.fused.network import FusedNetwork

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

    def __init__(self, size: int, threads: int | None = None) -> None:
        """Make a reader of squares of `size` pixels."""
        self._size = size
        # PIL releases the interpreter lock while it decodes and resizes.
        self._pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1), "image-reader")
        self._pending: dict[ImageKey, Future[NDArray[np.float32]]] = {}

    def prefetch(self, keys: Iterable[ImageKey]) -> None:
        """Start reading images that `read` will be called for."""
        for key in keys:
            if key not in self._pending:
                self._pending[key] = self._pool.submit(
                    load_image, key.path, self._size, key.normalization
                )

    def read(self, key: ImageKey) -> NDArray[np.float32]:
        """Return a (3, size, size) array, waiting for it if need be.

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

    def prefetch(self, keys: Iterable[ImageKey]) -> None:
        """Start reading the images that are not in the cache."""
        self._reader.prefetch(key for key in keys if key not in self._kept)

    def get(self, keys: Sequence[ImageKey]) -> dict[ImageKey, VisualMemory | str]:
        """Return the memory of every key, or why its image cannot be read."""
        found: dict[ImageKey, VisualMemory | str] = {}
        missing: dict[ImageKey, NDArray[np.float32]] = {}
        self.prefetch(keys)
        for key in dict.fromkeys(keys):
            if key in self._kept:
                self._kept.move_to_end(key)
                found[key] = self._kept[key]
                continue
            try:
                missing[key] = self._reader.read(key)
            except UnreadableImageError as error:
                found[key] = str(error)
        names = list(missing)
        together = ENCODED_TOGETHER.get(self._network.device.type, 32)
        for start in range(0, len(names), together):
            part = names[start : start + together]
            images = torch.stack([torch.from_numpy(missing[key]) for key in part])
            memory = self._network.encode_images(images.to(self._network.device))
            for index, key in enumerate(part):
                found[key] = self._keep(key, memory.entry(index))
        return found

    def _keep(self, key: ImageKey, memory: VisualMemory) -> VisualMemory:
        self._kept[key] = memory
        self._bytes += memory.nbytes
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return memory
