"""Where the files that a model card names are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.data.paths import default_data_root
from adem_bench.schemas import ModelCard

if TYPE_CHECKING:
    pass

NO_ADAPTER = "none"
"""In place of an adapter's path: the plain language model."""


def weights_folder(data_root: Path | None) -> Path:
    """Return the folder for downloaded weights below a data root (None: the default root)."""
    return (data_root or default_data_root()) / "weights"


def candidate_paths(path: str, card: ModelCard, data_root: Path | None) -> list[Path]:
    """Return every place where `path` may be, in the order in which they are tried."""
    given = Path(path).expanduser()
    if given.is_absolute():
        return [given]
    beside = [card.path.parent / given] if card.path else []
    return [*beside, weights_folder(data_root) / given]


def weights_path(path: str, card: ModelCard, data_root: Path | None) -> Path | None:
    """Return the file or folder that a card's `path` stands for, or None if it is nowhere.

    Args:
        path: Absolute, below the home folder (`~/…`), beside the card, or below
            `<data root>/weights`.
        card: The card that names it.
        data_root: None for `$ADEM_BENCH_DATA`, else `./data`.
    """
    if not path:
        return None
    candidates = candidate_paths(path, card, data_root)
    return next((candidate for candidate in candidates if candidate.exists()), None)
