"""From an image file to the normalized array that a vision tower reads; no torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.errors import AdemBenchError
from adem_bench.records import ImageNormalization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

PIXEL_STATISTICS: dict[ImageNormalization, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of RGB in [0, 1]: captions use CLIP's, the rest ImageNet's, and some
towers have their own.

Source: docs/method.md, section 9.1.
"""


class UnreadableImageError(AdemBenchError):
    """An image file is missing, broken or absurdly large."""


def load_image(path: Path, size: int, normalization: ImageNormalization) -> NDArray[np.float32]:
    """Return a (3, size, size) float32 array.

    The image becomes RGB and is resized bicubically to the square, its aspect ignored and
    nothing cropped, as in the published evaluation (docs/method.md, section 9.1).

    Args:
        path: The file.
        size: Sides of the square, in pixels.
        normalization: Which mean and standard deviation.

    Raises:
        UnreadableImageError: the file is missing, not an image, or a decompression bomb.
    """
    from PIL import Image

    square = open_rgb(path).resize((size, size), Image.Resampling.BICUBIC)
    return normalized(square, normalization)


def open_rgb(path: Path, at_least: int | None = None) -> Image:
    """Return an image file's content, decoded, as RGB.

    Args:
        path: The file.
        at_least: If given, a JPEG may be decoded to a fraction of its size whose sides are no
            shorter than this: several times faster, and good enough to look at.

    Raises:
        UnreadableImageError: the file is missing, not an image, or a decompression bomb.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # A palette image with a transparency entry is still a good RGB image.
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(path) as image:
                if at_least:
                    image.draft("RGB", (at_least, at_least))
                return image.convert("RGB")
    except FileNotFoundError as error:
        raise UnreadableImageError(f"image {path} does not exist") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise UnreadableImageError(f"image {path} is too large: {error}") from error
    except Exception as error:  # broken files raise nearly anything in Pillow
        reason = str(error) or type(error).__name__
        raise UnreadableImageError(f"image {path} cannot be read: {reason}") from error


def normalized(square: Image, normalization: ImageNormalization) -> NDArray[np.float32]:
    """Return an S x S RGB image as (3, S, S), its mean taken off, over the standard deviation."""
    import numpy as np

    mean, std = (
        np.array(values, dtype=np.float32)[:, None, None]
        for values in PIXEL_STATISTICS[normalization]
    )
    # Plane by plane is three times as fast as three values a pixel.
    planes = np.asarray(square).transpose(2, 0, 1).astype(np.float32, order="C")
    return (planes / np.float32(255) - mean) / std
