"""Requests shaped like those of the three benchmarks: lengths, images and answer lengths."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from adem_bench.models.fused.tokenizer import Tokenizer
from adem_bench.records import Request

WORDS = (
    "which", "of", "these", "is", "the", "one", "that", "has", "a", "red", "or", "blue", "shape",
    "on", "left", "right", "and", "two",
)  # fmt: skip
SQA_TOKENS = (70, 90, 110, 130, 160, 200, 260)
"""Prompt lengths about those of ScienceQA in LLaMA's vocabulary."""


def sqa(folder: Path, count: int, tokenizer: Tokenizer) -> list[Request]:
    """Return questions of which half have an image, with one new token each.

    Args:
        folder: Images are written there.
        count: Number of requests.
        tokenizer: Measures the prompts.
    """
    draw = random.Random(1)
    requests = []
    for index in range(count):
        prompt = _prompt(draw, draw.choice(SQA_TOKENS), tokenizer)
        images = (_image(folder, index),) if index % 2 else ()
        requests.append(Request(f"{prompt}\nResponse:The answer is", images, max_new_tokens=1))
    return requests


def coco_caption(folder: Path, count: int, tokenizer: Tokenizer) -> list[Request]:
    """Return one image each, the same short prompt, 20 new tokens.

    Args:
        folder: Images are written there.
        count: Number of requests.
        tokenizer: Measures the prompts.
    """
    return [Request("a picture of", (_image(folder, index),), 20, "clip") for index in range(count)]


def mme(folder: Path, count: int, tokenizer: Tokenizer) -> list[Request]:
    """Return two questions per image, 10 new tokens.

    Args:
        folder: Images are written there.
        count: Number of requests.
        tokenizer: Measures the prompts.
    """
    draw = random.Random(2)
    return [
        Request(
            f"Instruction: {_prompt(draw, 20, tokenizer)} Please answer yes or no.\nResponse:",
            (_image(folder, index // 2),),
            10,
        )
        for index in range(count)
    ]


def _prompt(draw: random.Random, tokens: int, tokenizer: Tokenizer) -> str:
    words = ["Question:"]
    while len(tokenizer.encode(" ".join(words))) < tokens:
        words.append(draw.choice(WORDS))
    return " ".join(words)


def _image(folder: Path, index: int) -> Path:
    """Return a photograph-sized JPEG of smooth noise."""
    path = folder / f"{index}.jpg"
    if not path.exists():
        noise = np.random.default_rng(index).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
    return path
