"""Paints scenes as 64 x 64 RGB arrays, and writes them as PNG.

All is integer arithmetic, and nothing is compressed, so that bytes never differ.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from adem_bench.mini.world import Dice, Lettering, Scene, Thing

Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

SIDE = 64
CELL = SIDE // 2
GLYPH_SCALE = 3
NOISE = 6
INK = (20, 20, 20)

RGB = {
    "red": (215, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 80, 215),
    "yellow": (240, 215, 50),
    "purple": (140, 50, 170),
    "orange": (240, 135, 30),
}
PLACE_RGB = {
    "beach": ((150, 205, 245), (235, 215, 160)),
    "forest": ((175, 215, 190), (30, 85, 40)),
    "desert": ((250, 190, 130), (205, 150, 85)),
    "lake": ((200, 225, 245), (90, 150, 200)),
    "meadow": ((150, 205, 245), (130, 195, 90)),
    "cave": ((70, 65, 75), (115, 105, 100)),
}
"""Sky and ground."""


def paint(scene: Scene) -> NDArray[np.uint8]:
    """Return the (64, 64, 3) image of a scene."""
    dice = Dice("paint", scene.jitter)
    canvas = _background(scene.place, dice)
    for thing in scene.things:
        _paint_thing(canvas, thing, dice)
    if scene.lettering is not None:
        _paint_lettering(canvas, scene.lettering, dice)
    image: NDArray[np.uint8] = np.clip(canvas + _noise(dice.below(1 << 30)), 0, 255).astype(
        np.uint8
    )
    return image


def _background(place: str, dice: Dice) -> Ints:
    canvas = np.empty((SIDE, SIDE, 3), dtype=np.int64)
    if not place:
        shade = 225 + dice.below(25)
        canvas[:] = (shade, shade, shade)
        return canvas
    sky, ground = PLACE_RGB[place]
    horizon = SIDE // 2 + dice.below(17) - 8
    canvas[:horizon], canvas[horizon:] = sky, ground
    return canvas


def _paint_thing(canvas: Ints, thing: Thing, dice: Dice) -> None:
    row, column = divmod(thing.cell, 2)
    radius = 9 + dice.below(4)
    center_y = row * CELL + CELL // 2 + dice.below(5) - 2
    center_x = column * CELL + CELL // 2 + dice.below(5) - 2
    y, x = np.mgrid[:SIDE, :SIDE]
    dy, dx = y - center_y, x - center_x
    mask = MASKS[thing.shape]
    canvas[mask(dy, dx, radius + 1)] = INK
    canvas[mask(dy, dx, radius)] = _shade(thing.color, dice)


def _paint_lettering(canvas: Ints, lettering: Lettering, dice: Dice) -> None:
    top = 3 + 18 * lettering.row + dice.below(3)
    left = 4 + dice.below(6)
    color = _shade(lettering.color, dice)
    for index, character in enumerate(lettering.text):
        for row, line in enumerate(GLYPHS[character]):
            for column, dot in enumerate(line):
                if dot == "#":
                    y = top + GLYPH_SCALE * row
                    x = left + GLYPH_SCALE * (6 * index + column)
                    canvas[y : y + GLYPH_SCALE, x : x + GLYPH_SCALE] = color


def _shade(color: str, dice: Dice) -> tuple[int, ...]:
    return tuple(value + dice.below(21) - 10 for value in RGB[color])


def _noise(seed: int) -> Ints:
    """Return (64, 64, 3) integers from -NOISE to NOISE: a hash of the index, in 64 bits."""
    index = np.arange(SIDE * SIDE * 3, dtype=np.uint64) + np.uint64(seed * SIDE * SIDE * 3)
    index = (index ^ (index >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    index = (index ^ (index >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values = (index >> np.uint64(40)) % np.uint64(2 * NOISE + 1)
    return values.astype(np.int64).reshape(SIDE, SIDE, 3) - NOISE


def _circle(dy: Ints, dx: Ints, radius: int) -> Mask:
    return np.asarray(dy * dy + dx * dx <= radius * radius)


def _ring(dy: Ints, dx: Ints, radius: int) -> Mask:
    # The outline's mask is drawn with a larger radius, and must not shrink the hole.
    distance, hole = dy * dy + dx * dx, 5
    return np.asarray((distance <= radius * radius) & (distance >= hole * hole))


def _square(dy: Ints, dx: Ints, radius: int) -> Mask:
    return np.asarray(np.maximum(abs(dy), abs(dx)) <= radius - 1)


def _triangle(dy: Ints, dx: Ints, radius: int) -> Mask:
    return np.asarray((dy <= radius - 2) & (abs(dx) * 2 <= dy + radius + 2))


def _diamond(dy: Ints, dx: Ints, radius: int) -> Mask:
    return np.asarray(abs(dy) + abs(dx) <= radius + 1)


def _cross(dy: Ints, dx: Ints, radius: int) -> Mask:
    arm = radius - 7
    return np.asarray(
        (np.minimum(abs(dy), abs(dx)) <= arm) & (np.maximum(abs(dy), abs(dx)) <= radius)
    )


MASKS: dict[str, Callable[[Ints, Ints, int], Mask]] = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "cross": _cross,
}


_DOTS = {
    "a": ".###. #...# #...# ##### #...# #...# #...#",
    "b": "####. #...# #...# ####. #...# #...# ####.",
    "c": ".###. #...# #.... #.... #.... #...# .###.",
    "d": "####. #...# #...# #...# #...# #...# ####.",
    "e": "##### #.... #.... ####. #.... #.... #####",
    "f": "##### #.... #.... ####. #.... #.... #....",
    "g": ".###. #...# #.... #.### #...# #...# .###.",
    "h": "#...# #...# #...# ##### #...# #...# #...#",
    "i": ".###. ..#.. ..#.. ..#.. ..#.. ..#.. .###.",
    "l": "#.... #.... #.... #.... #.... #.... #####",
    "n": "#...# ##..# ##..# #.#.# #..## #..## #...#",
    "o": ".###. #...# #...# #...# #...# #...# .###.",
    "p": "####. #...# #...# ####. #.... #.... #....",
    "r": "####. #...# #...# ####. #.#.. #..#. #...#",
    "s": ".#### #.... #.... .###. ....# ....# ####.",
    "t": "##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..",
    "u": "#...# #...# #...# #...# #...# #...# .###.",
    "w": "#...# #...# #...# #.#.# #.#.# ##.## #...#",
    "1": "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    "2": ".###. #...# ....# ..##. .#... #.... #####",
    "3": "####. ....# ....# .###. ....# ....# ####.",
    "4": "...#. ..##. .#.#. #..#. ##### ...#. ...#.",
    "5": "##### #.... ####. ....# ....# #...# .###.",
    "+": "..... ..#.. ..#.. ##### ..#.. ..#.. .....",
}
GLYPHS = {character: rows.split() for character, rows in _DOTS.items()}
"""Capital letters, digits and a plus sign, 5 x 7 dots each."""


SIGNATURE = b"\x89PNG\r\n\x1a\n"
STORED_BLOCK = 65535


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an uncompressed 8-bit RGB PNG of a (height, width, 3) array."""
    height, width, _ = pixels.shape
    # Every line is preceded by its filter type: 0, none.
    lines = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", _stored(lines.tobytes())), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _stored(raw: bytes) -> bytes:
    """Return a zlib stream of stored blocks."""
    stream = [b"\x78\x01"]
    for start in range(0, len(raw), STORED_BLOCK):
        block = raw[start : start + STORED_BLOCK]
        last = start + STORED_BLOCK >= len(raw)
        stream.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    return b"".join(stream) + struct.pack(">I", zlib.adler32(raw))
