"""A data set as a user would have it: one file of rows, and a card for each metric."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import yaml
from PIL import Image

CARDS = {
    "exact": {"metric": "exact_match", "question": "{ask}\nAnswer briefly.", "answer": "names"},
    "choice": {
        "metric": "multiple_choice", "question": "{ask}\n{choices}", "choices": "options",
        "answer": "letter", "groups": ["place"],
    },
    "binary": {"metric": "yes_no", "question": "Is it a {colour} one?", "answer": "so"},
    "vqa": {"metric": "vqa_accuracy", "question": "{ask}", "answer": "people"},
    "caption": {"metric": "caption", "answer": "captions", "max_new_tokens": 12},
}  # fmt: skip
"""Name of a card to its options."""
HEADLINES = {"caption": "CIDEr"}
COLOURS = ("red", "green", "blue", "yellow")
WRONG = [
    "{not JSON",
    json.dumps({"id": "p9", "picture": "../../secret.png", "ask": "What is it?"}),
]
"""Lines that no card can ask."""


def rows() -> list[dict[str, object]]:
    """Return six rows, one without an image, one with it in base64."""
    found: list[dict[str, object]] = []
    for number in range(6):
        colour = COLOURS[number % 4]
        found.append(
            {
                "id": f"p{number}",
                "picture": f"pictures/{colour}.png",
                "ask": f"What is number {number}?",
                "names": [f"a {colour} box", colour],
                "options": list(COLOURS[: 3 + number % 2]),
                "letter": "ABCD"[number % 3],
                "place": "indoors" if number < 3 else "outdoors",
                "colour": colour,
                "so": number % 2 == 0,
                "people": [colour] * 6 + ["box"] * 4,
                "captions": [f"a {colour} box on a table", f"one {colour} box"],
            }
        )
    found[4]["picture"] = None
    return found


def write_own_data(folder: Path) -> Path:
    """Write cards to `folder`, rows and pictures to its folder `data`; return the latter."""
    data = folder / "data" / "pets"
    (data / "pictures").mkdir(parents=True)
    for colour in COLOURS:
        Image.new("RGB", (64, 64), colour).save(data / "pictures" / f"{colour}.png")
    lines = rows()
    encoded = base64.b64encode((data / "pictures" / "red.png").read_bytes()).decode()
    lines[5]["picture"] = f"data:image/png;base64,{encoded}"
    texts = [json.dumps(line) for line in lines]
    (data / "pets.jsonl").write_text("\n".join([*texts, *WRONG]) + "\n")
    for name, options in CARDS.items():
        card = {
            "kind": "jsonl",
            "split": "test",
            "headline": HEADLINES.get(name, "accuracy"),
            "options": {"file": "pets/pets.jsonl", "id": "id", "image": "picture", **options},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(card))
    return folder / "data"
