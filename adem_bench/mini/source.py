"""The mini world as a data source: made once, in the cache, unless the data root holds one."""

from __future__ import annotations

from pathlib import Path

from adem_bench.data.paths import cache_root, default_data_root, holds_mini, made_once
from adem_bench.errors import CardError, MissingDataError, nearest_hint
from adem_bench.schemas import TaskCard

MINI_VERSION = "1"
"""Raised whenever a byte of the test splits changes; caches of generated data are keyed by it."""
GENERATED_SPLITS = {
    **{name: (name,) for name in ("train", "val", "test")},
    **{f"mini{name}": (name,) for name in ("train", "val", "test")},
    "trainval": ("train", "val"),
    "all": ("train",),
}
"""Split of a task to the splits that must be generated for it; `all` is the instructions'."""
TRAIN_SIZE = 24_000
"""Items of each generated train split: what the shipped adapter is trained on."""


def mini_root(card: TaskCard, data_root: Path | None) -> Path:
    """Return the data root of a mini task: generated data (a data source), or a mini world there.

    The official data sets have the same layout, so that a root that holds those is passed over.

    Raises:
        MissingDataError: the data root was named and is not there: another world may be meant.
    """
    if data_root is not None and not data_root.is_dir():
        raise MissingDataError(
            f"{data_root} is not a folder; name another --data-root, or leave it out to have the "
            "mini world made in the cache"
        )
    root = data_root or default_data_root()
    return root if holds_mini(root) else generated_root(card.split)


def generated_root(split: str) -> Path:
    """Return a data root that holds the mini world, making it at the first call.

    It is made once per version of the generator.

    Args:
        split: Split that will be read.

    Raises:
        CardError: no such split.
        DataError: the cache folder cannot be written.
    """
    if split not in GENERATED_SPLITS:
        raise CardError(f"unknown split {split!r}{nearest_hint(split, GENERATED_SPLITS)}")
    splits = GENERATED_SPLITS[split]
    size = f"-{TRAIN_SIZE}" if "train" in splits else ""

    def make(folder: Path) -> None:
        from adem_bench.mini.writer import write_mini

        write_mini(folder, splits=splits, train_size=TRAIN_SIZE)

    return made_once(cache_root() / f"mini-{MINI_VERSION}-{'-'.join(splits)}{size}", make)
