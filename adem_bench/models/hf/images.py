"""Images read ahead in threads, as many as a batch wants and no more."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.images import open_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_AHEAD = 64
"""Decoded images that wait; twelve megapixels are 36 MB."""


class ImagesAhead:
    """Reads images before they are asked for."""

    def __init__(self) -> None:
        # PIL releases the interpreter lock while it decodes.
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "image-reader")
        self._pending: dict[Path, Future[Image]] = {}

    def prefetch(self, paths: Iterable[Path]) -> None:
        """Start reading images that `read` will be asked for."""
        for path in paths:
            if path not in self._pending and len(self._pending) < MAX_AHEAD:
                self._pending[path] = self._pool.submit(open_rgb, path)

    def read(self, paths: Iterable[Path]) -> dict[Path, Image | str]:
        """Return every image, or why it cannot be read."""
        found: dict[Path, Image | str] = {}
        for path in paths:
            if path in found:
                continue
            future = self._pending.pop(path, None) or self._pool.submit(open_rgb, path)
            error = future.exception()
            found[path] = str(error) if error else future.result()
        return found
