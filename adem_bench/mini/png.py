"""A PNG writer whose bytes depend on nothing but the pixels.

Deflate streams differ between zlib versions; stored blocks do not.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

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
