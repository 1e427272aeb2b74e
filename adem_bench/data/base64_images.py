"""Images that stand in a file as base64, taken out into the cache once each.

A file is named by its content. It appears whole or not at all, and one of another length than
the content's (a torn write) is written again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterable
from functools import cached_property
from io import BytesIO
from pathlib import Path

from adem_bench.data.paths import cache_root
from adem_bench.data.reading import RowError
from adem_bench.errors import DataError

FOLDER = "tsv-images"
SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
"""First bytes of a file to the suffix that viewers and servers expect."""


class ImageCache:
    """A folder of images below the cache root."""

    @cached_property
    def folder(self) -> Path:
        """The folder, which need not be there yet.

        Raises:
            DataError: there is no place for it.
        """
        return cache_root() / FOLDER

    def path_of(self, text: str) -> Path:
        """Return where the image of a base64 text belongs; nothing is decoded but its start.

        Raises:
            DataError: there is no place for it.
        """
        name = hashlib.blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name}{suffix_of(text)}"

    def fill(self, images: Iterable[tuple[Path, str]]) -> None:
        """Write images that are not there yet.

        Args:
            images: Paths as `path_of` gives them, with their base64 texts.

        Raises:
            RowError: a text is not base64, no image, or one of absurd size.
            DataError: the cache cannot be written.
        """
        for path, text in images:
            try:
                if not path.is_file() or path.stat().st_size != _size(text):
                    self._write(path, _decoded(text))
            except OSError as error:
                raise DataError(
                    f"images cannot be taken out into {self.folder} ({error.strerror or error}); "
                    "set ADEM_BENCH_CACHE to a folder with room"
                ) from error

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def suffix_of(text: str) -> str:
    """Return the suffix for the image of a base64 text; empty where its start is that of none."""
    try:
        first = base64.b64decode(text[:16])
    except (binascii.Error, ValueError):
        return ""
    return next((suffix for magic, suffix in SUFFIXES.items() if first.startswith(magic)), "")


def _size(text: str) -> int:
    """Return how many bytes a base64 text stands for."""
    return len(text) * 3 // 4 - text[-2:].count("=")


def _decoded(text: str) -> bytes:
    """Return an image's bytes, its header checked."""
    from PIL import Image

    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(f"its image is not base64 ({error})") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(BytesIO(data)).close()
    except (Image.DecompressionBombError, MemoryError) as error:
        raise RowError(f"its image is too large: {error}") from error
    except Exception as error:  # broken files raise nearly anything in Pillow
        raise RowError(f"its image is of no known format ({len(data)} bytes)") from error
    return data
