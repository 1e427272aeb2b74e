"""Make the model `adem-tiny` from a seed: tokenizer, language model, image tower, adapter.

The adapter is `adem-bench train --recipe mini`. Two CPU cores need a little over half an hour:

    python tools/make_adem_tiny.py

Stages can be run one by one (`--stages adapter scores`); a stage reads what the ones before
it wrote below `models/adem-tiny/`. The log and the figure go to `docs/adem-tiny/`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from adem_tiny.facts import choice_rows, fact_rows
from adem_tiny.figure import draw
from adem_tiny.language import (
    LanguageRecipe,
    load_trained,
    new_language_model,
    save_language_model,
    train_language_model,
)
from adem_tiny.log import Log
from adem_tiny.scores import majority, score
from adem_tiny.texts import Row, rows_of
from adem_tiny.tokenizer import train_tokenizer
from adem_tiny.vision import VisionRecipe, save_visual, train_visual

import adem_bench
from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_bench.trainers.output import ADAPTER
from adem_bench.trainers.training_log import LOG_NAME, read_log

ROOT = Path(__file__).resolve().parent.parent
LOGGED_STEPS = 25
STAGES = ("reading", "answering", "vision", "adapter", "scores")


def main() -> None:
    """Run the stages that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "adem-tiny")
    parser.add_argument("--log", type=Path, default=ROOT / "docs" / "adem-tiny")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for stage in arguments.stages:
        torch.manual_seed(arguments.seed)
        log = Log(arguments.log / f"{stage}.jsonl", stage)
        RUN[stage](arguments.model, arguments.seed, log)
    draw(arguments.log)


def make_reading(folder: Path, seed: int, log: Log) -> None:
    """Train tokenizer and language model, mostly to read descriptions.

    Args:
        folder: Of the model.
        seed: The same one gives the same weights.
        log: Gets the losses and scores.
    """
    rows = [*rows_of("train", 50000, seed), *fact_rows("train", 70000, seed)]
    tokenizer = train_tokenizer(
        [*rows[:10000], *rows[-10000:]], folder / "language" / "tokenizer.model"
    )
    recipe = LanguageRecipe()
    model = new_language_model(recipe, tokenizer.vocab_size)
    train_language_model(model, rows, _held_out(seed), tokenizer, recipe, log)
    save_language_model(model, folder / "language")


def make_answering(folder: Path, seed: int, log: Log) -> None:
    """Train the language model further, mostly to answer.

    Args:
        folder: Of the model.
        seed: The same one gives the same weights.
        log: Gets the losses and scores.
    """
    rows = [
        *rows_of("train", 60000, seed + 1),
        *fact_rows("train", 30000, seed + 1),
        *choice_rows("train", 30000, seed + 1),
    ]
    tokenizer = SentencePieceTokenizer(folder / "language" / "tokenizer.model")
    model = load_trained(folder / "language")
    recipe = LanguageRecipe(steps=1400, rate=1.5e-3)
    train_language_model(model, rows, _held_out(seed), tokenizer, recipe, log)
    save_language_model(model, folder / "language")


def _held_out(seed: int) -> list[Row]:
    return [
        *rows_of("val", 600, seed),
        *fact_rows("val", 100, seed),
        *choice_rows("val", 100, seed),
    ]


def make_vision(folder: Path, seed: int, log: Log) -> None:
    """Train the image tower.

    Args:
        folder: Of the model.
        seed: The same one gives the same weights.
        log: Gets the losses and scores.
    """
    scenes = [row.scene for row in rows_of("train", 30000, seed) if row.scene is not None]
    held_out = [row.scene for row in rows_of("val", 600, seed) if row.scene is not None]
    save_visual(train_visual(scenes, held_out, VisionRecipe(), log), folder / "vision.safetensors")


def make_adapter(folder: Path, seed: int, log: Log) -> None:
    """Train the adapter by the package's recipe, and thin its log out.

    Args:
        folder: Of the model.
        seed: The same one gives the same weights.
        log: Gets the losses and scores.
    """
    with tempfile.TemporaryDirectory() as name:
        outcome = adem_bench.train(
            "mini", model=card_of(folder), output=name, settings={"seed": seed}
        )
        for line in read_log(outcome.output / LOG_NAME):
            if line["step"] % LOGGED_STEPS == 0 or line["step"] == outcome.steps:
                log.write(step=line["step"], loss=round(line["loss"], 4))
        shutil.rmtree(folder / ADAPTER, ignore_errors=True)
        shutil.copytree(outcome.output / ADAPTER, folder / ADAPTER)


def make_scores(folder: Path, seed: int, log: Log) -> None:
    """Score the test split: tuned, tuned without images, and the language model alone.

    Args:
        folder: Of the model.
        seed: Unused, as scores depend on the weights alone.
        log: Gets the scores.
    """
    card = card_of(folder)
    log.write(model="majority", **majority())
    log.write(model="language model alone", **score(card, adapter="none"))
    log.write(model="tuned", **score(card))
    log.write(model="tuned, no image", **score(card, blind=True))


def card_of(folder: Path) -> Path:
    """Return the model card that is put next to a model's folder."""
    return folder.with_suffix(".yaml")


RUN = {
    "reading": make_reading,
    "answering": make_answering,
    "vision": make_vision,
    "adapter": make_adapter,
    "scores": make_scores,
}

if __name__ == "__main__":
    main()
