"""Writes the mini world below a data root, in the layouts of the official data sets.

ScienceQA: `scienceqa/{problems,pid_splits,captions}.json`, `scienceqa/images/SPLIT/QID/image.png`.
Captions: `coco_caption/coco_karpathy_SPLIT.json` and `…_gt.json`, `images/{val,train}2014/….png`.
MME (test): `MME_Benchmark_release_version/SUBTASK/…`; its training questions are instruction
data as LaVIN has them: `all_data.json`, `cocoimages/train/COCO_train2014_….png`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

MINI_VERSION = "1"
"""Raised whenever a byte of the test splits changes; caches of generated data are keyed by it."""
DEFAULT_SEED = 20240601
SPLITS = ("train", "val", "test")


def write_mini(
    root: Path,
    splits: Sequence[str] = ("test",),
    train_size: int = 6000,
    seed: int = DEFAULT_SEED,
) -> None:
    """Write the three mini benchmarks below a data root.

    The same arguments give the same bytes on every machine. Files of an earlier call with
    other splits are replaced.

    Args:
        root: Data root; created if missing.
        splits: Any of `train`, `val` and `test`; MME has no `val`.
        train_size: Items of each benchmark's train split; the others have fixed sizes.
        seed: Chooses the items. Scenes never cross splits, whatever the seed.

    Raises:
        ValueError: unknown split.
        ResultsError: the folder cannot be written.
    """
    raise NotImplementedError
