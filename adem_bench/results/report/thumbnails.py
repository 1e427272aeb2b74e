"""Small copies of images for a page, decoded and encoded anew: no file of a data set goes in."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adem_bench.images import UnreadableImageError, open_rgb

SIDE, QUALITY = 160, 70
"""Longest side in pixels, and JPEG's quality."""
WORKERS = 4


def thumbnails(images: Mapping[Path, int]) -> dict[int, str]:
    """Return data URIs of images by their places; unreadable images are left out."""
    with ThreadPoolExecutor(WORKERS) as pool:
        made = pool.map(_thumbnail, images)
        return {
            place: uri for place, uri in zip(images.values(), made, strict=True) if uri is not None
        }


def _thumbnail(path: Path) -> str | None:
    try:
        image = open_rgb(path, at_least=SIDE)
    except UnreadableImageError:
        return None
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
