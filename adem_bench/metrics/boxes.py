"""Boxes: how far two overlap, and how one is read out of an answer.

A box is left, top, right, bottom, in fractions of the image's width and height.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

NUMBER = r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
BETWEEN = r"(?:\s*,\s*|\s+)"
LIST = re.compile(r"\[\s*" + r"\s*,\s*".join([NUMBER] * 4) + r"\s*(?:,\s*)?\]")
ANY_FOUR = re.compile(r"[\[(<]\s*" + BETWEEN.join([NUMBER] * 4) + r"\s*[\])>]")


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the area that two boxes share over the area that they cover together, 0 to 1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    covered = _area(first) + _area(second) - shared
    return shared / covered if covered else 0.0


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def read_official(text: str, scale: float = 1.0) -> list[float]:
    """Read an answer that is a list of four numbers and nothing else, as vlm-evaluation does.

    Args:
        text: The answer.
        scale: What stands for the whole width or height: 1, or 100 or 1000 of some models.

    Returns:
        The box; nothing if there is none, or one that does not lie in the image.
    """
    found = LIST.fullmatch(text.strip())
    return _box(found, scale)


def read_first(text: str, scale: float = 1.0) -> list[float]:
    """Read the first four numbers in brackets, whatever stands around; as `read_official`."""
    return _box(ANY_FOUR.search(text), scale)


def _box(found: re.Match[str] | None, scale: float) -> list[float]:
    if not found:
        return []
    left, top, right, bottom = (float(value) / scale for value in found.groups())
    inside = 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    return [left, top, right, bottom] if inside else []


READERS: dict[str, Callable[[str, float], list[float]]] = {
    "official": read_official,
    "first": read_first,
}
