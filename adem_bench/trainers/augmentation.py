"""The published augmentation of caption training: crop, flip, RandomAugment.

It is described in docs/method.md, section 9.2. Crop and flip are torchvision's. Of RandomAugment,
the tables are Pillow's, equal to the published ones, and so are the warps: the published ones are
OpenCV's, from which these differ by rounding. Pillow cuts off what OpenCV rounds, half a grey level
on average, and OpenCV 4 takes positions to a 32nd of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import ImageOps
from PIL.Image import Image, Resampling, Transform
from torchvision.transforms import InterpolationMode, RandomHorizontalFlip, RandomResizedCrop

OPERATIONS = 2
"""Drawn for an image, with replacement."""
PROBABILITY = 0.5
"""Of each to be applied."""
SHEAR, TRANSLATION, DEGREES = 0.15, 5.0, 15.0
"""Of level 5 of 10: 0.3, 10 pixels and 30 degrees at the highest."""
BORDER = (128, 128, 128)
Operation = Callable[[Image, float], Image]
"""Of an image and a sign, 1 or -1."""


def augment_caption_image(image: Image, size: int, seed: int) -> Image:
    """Return a randomly cropped, flipped and altered square.

    Args:
        image: RGB.
        size: Side of the square in pixels.
        seed: The same one gives the same square, in whichever process.

    Source: ADEM-VL cec09b8 `util/coco_karpathy_dataset.py`, `util/randaugment.py` (N=2, M=5).
    """
    crop = RandomResizedCrop(size, (0.5, 1.0), (3 / 4, 4 / 3), InterpolationMode.BICUBIC)
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs' generators as well, and takes longer.
        torch.default_generator.manual_seed(seed)
        square: Image = RandomHorizontalFlip()(crop(image))
    return random_augment(square, np.random.default_rng(seed))


def random_augment(image: Image, generator: np.random.Generator) -> Image:
    """Return an image after two random operations, each applied half of the time."""
    chosen = generator.choice(len(POOL), OPERATIONS)
    for operation in (POOL[index] for index in chosen):
        if generator.random() <= PROBABILITY:
            image = operation(image, -1.0 if generator.random() > 0.5 else 1.0)
    return image


def shear_x(image: Image, sign: float) -> Image:
    """Move rows to the right (1) or left, the further down the more; (0, 0) stays."""
    return _warped(image, (1, -SHEAR * sign, 0, 0, 1, 0))


def shear_y(image: Image, sign: float) -> Image:
    """Move columns down (1) or up, the further right the more; (0, 0) stays."""
    return _warped(image, (1, 0, 0, -SHEAR * sign, 1, 0))


def translate_x(image: Image, sign: float) -> Image:
    """Move the image to the left (1) or right."""
    return _warped(image, (1, 0, TRANSLATION * sign, 0, 1, 0))


def translate_y(image: Image, sign: float) -> Image:
    """Move the image up (1) or down."""
    return _warped(image, (1, 0, 0, 0, 1, TRANSLATION * sign))


def rotate(image: Image, sign: float) -> Image:
    """Turn the image about its centre, counter-clockwise (1) or clockwise."""
    angle = math.radians(DEGREES * sign)
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y = image.width / 2, image.height / 2
    across = (cosine, -sine, x - cosine * x + sine * y)
    down = (sine, cosine, y - sine * x - cosine * y)
    return _warped(image, (*across, *down))


def _warped(image: Image, inverse: tuple[float, ...]) -> Image:
    """Return the image whose pixel (x, y) is taken from where `inverse` sends it.

    The matrix is for pixel indices, as OpenCV has them; Pillow's is for positions, where the first
    pixel's middle is at 0.5. OpenCV blends edges with the border, Pillow does not: a frame of one
    pixel, which moves all positions by one, makes it.
    """
    a, b, c, d, e, f = inverse
    shifted = (a, b, c - (a + b - 1) / 2 + 1, d, e, f - (d + e - 1) / 2 + 1)
    framed = ImageOps.expand(image, 1, BORDER)
    return framed.transform(
        image.size, Transform.AFFINE, shifted, Resampling.BILINEAR, fillcolor=BORDER
    )


def _same(image: Image, sign: float) -> Image:
    """Return the image: identity, and brightness and sharpness by their factor of 1.0."""
    return image


POOL: tuple[Operation, ...] = (
    _same,
    lambda image, sign: ImageOps.autocontrast(image),
    _same,
    _same,
    lambda image, sign: ImageOps.equalize(image),
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    lambda image, sign: rotate(image, -sign),  # the published sign is the other one here
)
"""What is drawn from; three of the ten do nothing at level 5."""
