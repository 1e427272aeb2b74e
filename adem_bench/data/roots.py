"""Where data lies: the user's data root, and a cache for data that the package makes itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from adem_bench.errors import CardError, DataError, nearest_hint

GENERATED_SPLITS = {
    **{name: (name,) for name in ("train", "val", "test")},
    **{f"mini{name}": (name,) for name in ("train", "val", "test")},
    "trainval": ("train", "val"),
    "all": ("train",),
}
"""Split of a task to the splits that must be generated for it; `all` is the instructions'."""
TRAIN_SIZE = 24_000
"""Items of each generated train split: what the shipped adapter is trained on."""


def default_data_root() -> Path:
    """Return `$ADEM_BENCH_DATA`, or `./data`."""
    return Path(os.environ.get("ADEM_BENCH_DATA") or "data").expanduser()


def cache_root() -> Path:
    """Return `$ADEM_BENCH_CACHE`, or `~/.cache/adem-bench`."""
    chosen = os.environ.get("ADEM_BENCH_CACHE")
    return Path(chosen or "~/.cache/adem-bench").expanduser()


def generated_root(generator: str, split: str) -> Path:
    """Return a data root that holds generated data, making it at the first call.

    The folder appears whole or not at all, once per version of the generator, whichever and
    however many processes ask for it.

    Args:
        generator: Name of the generator; `mini` is the only one.
        split: Split that will be read.

    Raises:
        CardError: no such generator or split.
        DataError: the cache folder cannot be written.
    """
    from adem_bench.data.mini import MINI_VERSION

    if generator != "mini":
        raise CardError(f"unknown generator {generator!r}{nearest_hint(generator, ['mini'])}")
    if split not in GENERATED_SPLITS:
        raise CardError(f"unknown split {split!r}{nearest_hint(split, GENERATED_SPLITS)}")
    splits = GENERATED_SPLITS[split]
    size = f"-{TRAIN_SIZE}" if "train" in splits else ""
    folder = cache_root() / f"mini-{MINI_VERSION}-{'-'.join(splits)}{size}"
    if not folder.is_dir():
        try:
            _generate(folder, splits)
        except OSError as error:
            raise DataError(
                f"the mini benchmark cannot be written to {folder.parent} "
                f"({error.strerror or error}); set ADEM_BENCH_CACHE to a folder that can be written"
            ) from error
    return folder


def _generate(folder: Path, splits: tuple[str, ...]) -> None:
    from filelock import FileLock

    from adem_bench.data.mini import write_mini
    from adem_bench.errors import ResultsError

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():  # another process was first
            return
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            write_mini(partial, splits=splits, train_size=TRAIN_SIZE)
            partial.chmod(0o755)
            partial.replace(folder)
        except ResultsError as error:
            raise OSError(str(error)) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
