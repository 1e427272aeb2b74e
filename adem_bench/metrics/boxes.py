"""Boxes in answers, as models write them, and how far two boxes overlap.

| model | a box |
|---|---|
| lists (Shikra, CogVLM, LLaVA) | `[0.1, 0.2, 0.3, 0.4]`, `[[100,200,300,400]]` |
| Qwen-VL, Qwen2-VL | `<box>(100,200),(300,400)</box>`, `<|box_start|>…<|box_end|>`, thousandths |
| Qwen2.5-VL, Qwen3-VL | `{"bbox_2d": [100, 200, 300, 400]}` |
| InternVL | `<box>[[100, 200, 300, 400]]</box>`, thousandths |
| DeepSeek-VL2 | `<|det|>[[100, 200, 300, 400]]<|/det|>`, thousandths |
| MiniGPT-v2 | `{<10><20><30><40>}` |
| Kosmos-2 | `<patch_index_0044><patch_index_0863>`: cells of a grid of 32 by 32 |
| Florence-2 | `<loc_100><loc_200><loc_300><loc_400>`: thousand bins, left first |
| PaliGemma | `<loc0205><loc0102><loc0410><loc0307>`: 1024 bins, top first |
| Gemini | `{"box_2d": [200, 100, 400, 300]}`: thousandths, top first |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

NUMBER = r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
BETWEEN = r"(?:\s*,\s*|\s+)"
LIST = re.compile(r"\[\s*" + r"\s*,\s*".join([NUMBER] * 4) + r"\s*(?:,\s*)?\]")
FOUR = r"[\[(<{>]\s*" + BETWEEN.join([NUMBER] * 4) + r"\s*[\])>}<]"
PAIRS = (
    rf"[\[(]\s*{NUMBER}{BETWEEN}{NUMBER}\s*[\])]\s*,?\s*[\[(]\s*{NUMBER}{BETWEEN}{NUMBER}\s*[\])]"
)
ANGLES = r"<\s*" + r"\s*>\s*<\s*".join([NUMBER] * 4) + r"\s*>"
THOUSANDTHS_TAG = re.compile(r"<(?:box|\|box_start\||\|det\|)>?[\s\[(]*\Z")
TOP_FIRST = re.compile(r"(?<![A-Za-z_])[\"']?box_2d[\"']?\s*[:=]\s*\Z")
PLAIN = re.compile(f"{FOUR}|{PAIRS}|{ANGLES}")
PATCHES = re.compile(r"<patch_index_(\d{1,4})>\s*<patch_index_(\d{1,4})>")
LOCATIONS = re.compile(r"\s*".join([r"<loc_(\d{1,3})>"] * 4))
LOCATIONS_1024 = re.compile(r"\s*".join([r"<loc(\d{4})>"] * 4))
LOOK_BACK = 40
"""Characters before a box in which its tag stands."""
GRID = 32
"""Cells of Kosmos-2's grid in each direction."""


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
    return _inside([float(value) / scale for value in found.groups()]) if found else []


def read_first(text: str, scale: float = 1.0) -> list[float]:
    """Read the first box in any of the forms above, whatever stands around; as `read_official`.

    Tokens of places have their own scale. Numbers beyond 1 in the tags of Qwen-VL, InternVL and
    DeepSeek-VL2 are thousandths even if `scale` is 1: these models write no others.
    """
    found = [
        (match.start(), read(match, text, scale))
        for pattern, read in FORMS
        if (match := pattern.search(text))
    ]
    return _inside(min(found)[1]) if found else []


def _plain(match: re.Match[str], text: str, scale: float) -> list[float]:
    numbers = [float(value) for value in match.groups() if value is not None]
    before = text[max(0, match.start() - LOOK_BACK) : match.start()]
    if TOP_FIRST.search(before):
        top, left, bottom, right = numbers
        return [value / 1000 for value in (left, top, right, bottom)]
    is_tagged = scale == 1 and THOUSANDTHS_TAG.search(before) and max(numbers) > 1
    return [value / (1000 if is_tagged else scale) for value in numbers]


def _patches(match: re.Match[str], text: str, scale: float) -> list[float]:
    """Return the box between two cells, from centre to centre, or their edges if it has no area.

    Source: transformers' `patch_index_to_coordinate` of Kosmos-2.
    """
    (top, left), (bottom, right) = (divmod(int(number), GRID) for number in match.groups())
    is_flat = top == bottom or left == right
    near, far = (0.0, 1.0) if is_flat else (0.5, 0.5)
    return [(left + near) / GRID, (top + near) / GRID, (right + far) / GRID, (bottom + far) / GRID]


def _locations(match: re.Match[str], text: str, scale: float) -> list[float]:
    """Return the box of Florence-2's bins, from centre to centre (its `BoxQuantizer`)."""
    return [(int(number) + 0.5) / 1000 for number in match.groups()]


def _locations_1024(match: re.Match[str], text: str, scale: float) -> list[float]:
    top, left, bottom, right = (int(number) / 1024 for number in match.groups())
    return [left, top, right, bottom]


FORMS: Sequence[tuple[re.Pattern[str], Callable[[re.Match[str], str, float], list[float]]]] = (
    (PLAIN, _plain),
    (PATCHES, _patches),
    (LOCATIONS, _locations),
    (LOCATIONS_1024, _locations_1024),
)


def _inside(box: Sequence[float]) -> list[float]:
    """Return a box if it lies in the image and has an area."""
    left, top, right, bottom = box
    is_inside = 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    return [left, top, right, bottom] if is_inside else []


READERS: dict[str, Callable[[str, float], list[float]]] = {
    "official": read_official,
    "first": read_first,
}
