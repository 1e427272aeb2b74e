"""The trainings that are compared, and their runs: made side by side, each once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from adem_bench.cards import MODEL_CARD_NAME

METHODS = {
    "mini": "ADEM-VL",
    "memvp_mini": "MemVP",
    "lavin_mini": "LaVIN",
    "llava_mini": "LLaVA",
}
"""Recipe to the name of its method."""
TASKS = ("mini_mme", "mini_sqa", "mini_caption")
SHORT = {
    "epochs": 1, "data.0.limit": 4000, "data.1.limit": 8000, "data.2.limit": 12000,
    "effective_batch": 16, "batch_size": 16, "base_learning_rate": 0.048, "warmup_epochs": 0.05,
}  # fmt: skip
"""Replaces fields of all recipes alike: 1,500 steps of 16 rows, at the recipes' own peak
learning rate of 3e-3. Captions, half of them here, say most about an image."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """One training of one method."""

    recipe: str
    seed: int
    """Of initialization, dropout and, with the next lower one, the order of samples."""
    is_full: bool
    """Whether the recipe is left as it is."""
    root: Path
    """Folder of all trainings and runs."""

    @property
    def name(self) -> str:
        """What its folders are called."""
        return f"{self.recipe}-{'full' if self.is_full else 'short'}-seed{self.seed}"

    @property
    def output(self) -> Path:
        """What training makes; a model."""
        return self.root / "trainings" / self.name

    @property
    def results(self) -> Path:
        """Where its runs are."""
        return self.root / "runs" / self.name

    @property
    def is_trained(self) -> bool:
        """Whether its training is finished."""
        return (self.output / MODEL_CARD_NAME).is_file()

    def commands(self) -> list[list[str]]:
        """Return what makes it: a training and its evaluation, which continue or do nothing."""
        settings = {"seed": self.seed, "shuffle_seed": self.seed - 1}
        settings |= {"workers": 0}  # one process is one core
        settings |= {} if self.is_full else SHORT
        train = ["train", "--recipe", self.recipe, "--output", str(self.output)]
        train += ["--log-to", "none"]
        train += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        run = ["run", "--model", str(self.output), "--tasks", ",".join(TASKS)]
        return [train, [*run, "--results", str(self.results)]]


def make(tunings: Sequence[Tuning], at_once: int) -> None:
    """Train and evaluate what is not done, several at a time, each on one thread.

    Args:
        tunings: In order.
        at_once: Processes side by side.

    Raises:
        SystemExit: a training or an evaluation failed; its last words are told.
    """
    with ThreadPoolExecutor(at_once) as pool:
        for failure in pool.map(_make_one, tunings):
            if failure:
                pool.shutdown(cancel_futures=True)
                sys.exit(failure)


def _make_one(tuning: Tuning) -> str:
    """Return what went wrong, or nothing."""
    log = tuning.root / "logs" / f"{tuning.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for arguments in tuning.commands():
        with log.open("a", encoding="utf-8") as stream:
            done = subprocess.run(
                [sys.executable, "-m", "adem_bench", *arguments],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            last = log.read_text(encoding="utf-8").splitlines()[-3:]
            return f"{tuning.name}: {' '.join(last)}"
    print(f"{tuning.name}: done in {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    return ""
