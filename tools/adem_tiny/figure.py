"""One figure of all logs: a loss curve for each stage, and the scores next to each other.

Drawn with Pillow, which the package needs anyway.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

PANEL = (380, 240)
MARGIN = 45
COLUMNS = 3
STAGES = ("reading", "answering", "vision", "adapter")
SCORES = (("mme", "mini-MME"), ("sqa", "mini-SQA"), ("CIDEr", "CIDEr"))
LINE, AXIS = (45, 80, 200), (110, 110, 110)
BARS = ((190, 190, 190), (150, 170, 220), (235, 150, 60), (45, 80, 200), (90, 160, 90))


def draw(folder: Path) -> None:
    """Write `figure.png` from the logs of a folder; logs that are missing leave a blank."""
    figure = Image.new("RGB", (COLUMNS * PANEL[0], 2 * PANEL[1]), "white")
    for index, stage in enumerate(STAGES):
        points = [(line["step"], line["loss"]) for line in _read(folder, stage) if "loss" in line]
        if points:
            figure.paste(_curve(f"{stage}: loss by step", points), _place(index))
    scores = _read(folder, "scores")
    if scores:
        figure.paste(_bars(scores), _place(len(STAGES)))
    figure.save(folder / "figure.png", optimize=True)


def _place(index: int) -> tuple[int, int]:
    row, column = divmod(index, COLUMNS)
    return column * PANEL[0], row * PANEL[1]


def _read(folder: Path, stage: str) -> list[dict[str, Any]]:
    file = folder / f"{stage}.jsonl"
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _panel(title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    panel = Image.new("RGB", PANEL, "white")
    pen = ImageDraw.Draw(panel)
    pen.text((MARGIN, 10), title, fill="black")
    bottom = PANEL[1] - MARGIN
    pen.line([(MARGIN, 30), (MARGIN, bottom), (PANEL[0] - 15, bottom)], fill=AXIS)
    return panel, pen


def _curve(title: str, points: Sequence[tuple[float, float]]) -> Image.Image:
    panel, pen = _panel(title)
    last, highest = points[-1][0] or 1, max(loss for _, loss in points)
    width, height = PANEL[0] - 15 - MARGIN, PANEL[1] - MARGIN - 30
    bottom = PANEL[1] - MARGIN
    places = [
        (MARGIN + width * step / last, bottom - height * loss / highest) for step, loss in points
    ]
    pen.line(places, fill=LINE, width=2)
    pen.text((4, 30), f"{highest:.3g}", fill=AXIS)
    pen.text((4, bottom - 8), "0", fill=AXIS)
    pen.text((PANEL[0] - 45, bottom + 5), f"{last}", fill=AXIS)
    return panel


def _bars(scores: Sequence[dict[str, Any]]) -> Image.Image:
    panel, pen = _panel("test splits (CIDEr / 10)")
    bottom, height = PANEL[1] - MARGIN, PANEL[1] - MARGIN - 60
    group = (PANEL[0] - 15 - MARGIN) // len(SCORES)
    bar = (group - 12) // len(scores)
    for column, (name, title) in enumerate(SCORES):
        left = MARGIN + 6 + column * group
        pen.text((left, bottom + 3), title, fill="black")
        for index, line in enumerate(scores):
            share = line.get(name, 0) / (10 if name == "CIDEr" else 1)
            x = left + index * bar
            pen.rectangle((x, bottom - height * share, x + bar - 2, bottom), fill=BARS[index])
    for index, line in enumerate(scores):
        place = (MARGIN + 4 + index % 2 * 150, PANEL[1] - 28 + index // 2 * 13)
        pen.rectangle((place[0], place[1] + 2, place[0] + 7, place[1] + 9), fill=BARS[index])
        pen.text((place[0] + 11, place[1]), line["model"], fill="black")
    return panel
