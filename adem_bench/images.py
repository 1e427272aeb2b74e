"""Image files as pixels, by one rule (docs/images.md), and as vision towers take them; no torch.

`open_rgb` gives what a viewer shows. The published code of ADEM-VL, MemVP and LaVIN reads files
otherwise (`reading="published"`, quirk Q33), and `load_square` says where that makes a difference.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.errors import AdemBenchError, locale_remedy, why_unread
from adem_bench.files import BEGINNING, check_regular, no_text
from adem_bench.records import ImageNormalization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from adem_bench.schemas import Reading

PIXEL_STATISTICS: dict[ImageNormalization, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of RGB in [0, 1]: captions use CLIP's, the rest ImageNet's, and some
towers have their own.

Source: docs/method.md, section 9.1.
"""
ORIENTATION_TAG, BITS_TAG = 0x0112, 0x0102
"""EXIF's (and TIFF's) orientation, and TIFF's bits per sample."""
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""Orientation to Pillow's `Transpose` that sets it upright; 5 to 8 swap width and height."""
PNG_DEPTH = 24
"""Where a PNG says how many bits a value has."""
MAX_PNG_PIXELS = 4_000_000
"""Of a photograph that is written anew as PNG; a larger one would be too much for many servers."""
JPEG_QUALITY = 95
NO_IMAGES = (
    (re.compile(rb"\s*(<\?xml.*)?<svg", re.IGNORECASE | re.DOTALL), "it is SVG; convert it to PNG"),
    (re.compile(rb"....ftyp(hei|mif|avi)", re.DOTALL), "it is HEIC or AVIF; convert it to PNG"),
    (re.compile(rb"%PDF-"), "it is PDF; convert it to PNG"),
)
"""What files that Pillow does not know begin with, and what to do about them, besides `no_text`."""
PROGRAMS = ("EPS", "WMF")
"""Formats whose files Pillow hands to other programs, which draw what a stranger wrote."""


class UnreadableImageError(AdemBenchError):
    """An image file is missing, broken or absurdly large."""


@dataclass(frozen=True, slots=True)
class Square:
    """An image as a vision tower takes it."""

    pixels: NDArray[np.float32]
    """(3, size, size), normalized."""
    differs: bool
    """Whether the two readings of its file differ."""


@dataclass(frozen=True, slots=True)
class CommonForm:
    """An image in a form that every program reads alike."""

    media_type: str
    """`image/png` or `image/jpeg`."""
    data: bytes
    is_own: bool
    """Whether these are the file's own bytes."""


def load_square(
    path: Path, size: int, normalization: ImageNormalization, reading: Reading = "published"
) -> Square:
    """Return an image as the published evaluation feeds it to its tower.

    It becomes RGB and is resized bicubically to the square, its aspect ignored and nothing
    cropped (docs/method.md, section 9.1).

    Args:
        path: The file.
        size: Sides of the square, in pixels.
        normalization: Which mean and standard deviation.
        reading: How the file becomes RGB.

    Raises:
        UnreadableImageError: the file is missing, not an image, or a decompression bomb.
    """
    from PIL import Image

    with _opened(path) as image:
        rgb, differs = _rgb(image, reading), _readings_differ(image)
    square = rgb.resize((size, size), Image.Resampling.BICUBIC)
    return Square(normalized(square, normalization), differs)


def open_rgb(path: Path, at_least: int | None = None, reading: Reading = "shown") -> Image:
    """Return an image file's content, decoded, as RGB.

    Args:
        path: The file.
        at_least: If given, a JPEG may be decoded to a fraction of its size whose sides are no
            shorter than this: several times faster, and good enough to look at.
        reading: How the file becomes RGB.

    Raises:
        UnreadableImageError: the file is missing, not an image, or a decompression bomb.
    """
    with _opened(path) as image:
        if at_least:
            image.draft("RGB", (at_least, at_least))
        return _rgb(image, reading)


def shown_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image as it is shown, from the head of its file.

    Raises:
        UnreadableImageError: the file is missing, not an image, or a decompression bomb.
    """
    with _opened(path) as image:
        width, height = image.size
        # Pillow's size of a TIFF is that of the upright image.
        is_turned = image.format != "TIFF" and _orientation(image) >= 5
    return (height, width) if is_turned else (width, height)


def common_form(path: Path) -> CommonForm:
    """Return an image for programs that read files in their own way: servers, other harnesses.

    A JPEG or PNG that all read alike goes as it is. Every other file is written anew, as it is
    shown: as PNG, or a photograph of more than `MAX_PNG_PIXELS` as JPEG.

    Raises:
        UnreadableImageError: it cannot be read to its end.
    """
    with _opened(path) as image:
        rgb = _rgb(image, "shown")
        is_jpeg, is_png = image.format in ("JPEG", "MPO"), image.format == "PNG"
        is_plain = image.mode != "CMYK" and not _readings_differ(image)
        is_plain &= is_jpeg or (is_png and not getattr(image, "is_animated", False))
        raw = path.read_bytes() if is_plain else b""
    if raw and (is_jpeg or raw[PNG_DEPTH] <= 8):
        return CommonForm("image/jpeg" if is_jpeg else "image/png", raw, is_own=True)
    stream = io.BytesIO()
    if is_jpeg and rgb.width * rgb.height > MAX_PNG_PIXELS:
        rgb.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return CommonForm("image/jpeg", stream.getvalue(), is_own=False)
    rgb.save(stream, "PNG")
    return CommonForm("image/png", stream.getvalue(), is_own=False)


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """Open an image, and name the file in whatever goes wrong while it is read."""
    from PIL import Image, UnidentifiedImageError

    try:
        check_regular(path)
        with warnings.catch_warnings():
            # Broken EXIF data and odd palettes: the pixels are good all the same.
            warnings.simplefilter("ignore", UserWarning)
            # Of pictures that are large and not yet too large.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.format in PROGRAMS:
                    raise UnreadableImageError(
                        f"image {path} is {image.format}, which is a program rather than pixels; "
                        "convert it to PNG"
                    )
                yield image
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"image {path} cannot be read: {_cause(path, error)}") from error
    except FileNotFoundError as error:
        raise UnreadableImageError(f"image {path} does not exist") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise UnreadableImageError(f"image {path} is too large: {error}") from error
    except Exception as error:  # broken files raise nearly anything in Pillow
        reason = why_unread(error) or f"it is broken ({type(error).__name__})"
        if isinstance(error, UnicodeEncodeError) and (remedy := locale_remedy(error)):
            reason = remedy
        raise UnreadableImageError(f"image {path} cannot be read: {reason}") from error


def _cause(path: Path, error: Exception) -> str:
    """Return what a file is that Pillow does not know, and what to do about it.

    Args:
        path: The file.
        error: What Pillow says.
    """
    with path.open("rb") as stream:
        beginning = stream.read(BEGINNING)
    for begins, remedy in NO_IMAGES:
        if begins.match(beginning):
            return remedy
    if not beginning:
        return "it is empty"
    return no_text(beginning) or why_unread(error)


def _rgb(image: Image, reading: Reading) -> Image:
    if reading == "published":
        return image.convert("RGB")
    image.load()  # a TIFF is upright and a PNG's late tags are known only then
    return _upright(_opaque(image), _orientation(image))


def _readings_differ(image: Image) -> bool:
    """Return whether the two readings of a decoded image differ, without making either."""
    return _orientation(image) > 1 or _is_deep(image) or _is_see_through(image)


def _orientation(image: Image) -> int:
    """Return how an image lies, 1 to 8; 1 where its tags say nothing that makes sense."""
    try:
        found = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # noqa: BLE001 - broken tags raise nearly anything in Pillow
        return 1
    return found if isinstance(found, int) and found in TURNS else 1


def _upright(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    return image.transpose(Transpose(TURNS[orientation])) if orientation in TURNS else image


def _is_deep(image: Image) -> bool:
    """Return whether an image is grey with more than 8 bits a pixel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _is_see_through(image: Image) -> bool:
    """Return whether some pixel of a decoded image is not opaque."""
    if not image.has_transparency_data:
        return False
    opaque = image.convert("RGBA").getchannel("A").histogram()[255]
    return opaque < image.width * image.height


def _opaque(image: Image) -> Image:
    """Return an image as RGB: what can be seen through is laid on white."""
    from PIL import Image as Pillow

    if _is_deep(image):
        return _eight_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Pillow.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _eight_bits(image: Image) -> Image:
    """Return a grey image of more than 8 bits as one of 8.

    Raises:
        ValueError: it has values that are not finite.
    """
    import numpy as np
    from PIL import Image as Pillow

    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are not finite")
    low, high = float(values.min()), float(values.max())
    bits = _bits(image, low, high)
    if bits:
        grey = values >> (bits - 8)
    elif image.mode == "F" and low >= 0 and high <= 1:
        grey = np.rint(values * 255)
    elif low >= 0 and high <= 255:
        grey = np.rint(values)
    else:
        grey = np.rint((values.astype(np.float64) - low) * (255 / ((high - low) or 1)))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey = np.where(values == clear, 255, grey)
    return Pillow.fromarray(grey.astype(np.uint8))


def _bits(image: Image, low: float, high: float) -> int:
    """Return how many bits whole numbers have, of which the upper 8 are shown; 0 if unknown.

    Args:
        image: Grey, of more than 8 bits.
        low: Its lowest value.
        high: Its highest value.
    """
    if image.mode.startswith("I;"):
        stated = getattr(image, "tag_v2", {}).get(BITS_TAG, (16,))
        return int(stated[0])
    is_short = image.format in ("PNG", "PPM") or (low >= 0 and 255 < high < 1 << 16)
    return 16 if image.mode == "I" and is_short else 0


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
