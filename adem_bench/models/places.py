"""Where a model's files are on this machine."""

from __future__ import annotations

from pathlib import Path

from adem_bench.data.paths import default_data_root
from adem_bench.files import exists, expand_home
from adem_bench.schemas import ModelCard

NO_ADAPTER = "none"
"""In place of an adapter's path: the plain language model."""


def weights_folder(data_root: Path | None) -> Path:
    """Return the folder for downloaded weights below a data root (None: the default root)."""
    return (data_root or default_data_root()) / "weights"


def candidate_paths(path: str, card: ModelCard, data_root: Path | None) -> list[Path]:
    """Return every place where `path` may be, in the order in which they are tried.

    Args:
        path: As for `weights_path`.
        card: The card that names it.
        data_root: None for the default data root.
    """
    given = expand_home(path)
    if given.is_absolute():
        return [given]
    next_to_card = [card.path.parent / given] if card.path else []
    return [*next_to_card, weights_folder(data_root) / given]


def weights_path(path: str, card: ModelCard, data_root: Path | None) -> Path | None:
    """Return the file or folder that a card's `path` stands for, or None if it is nowhere.

    Args:
        path: Absolute, below the home folder (`~/…`), next to the card, or below
            `<data root>/weights`.
        card: The card that names it.
        data_root: None for `$ADEM_BENCH_DATA`, else `./data`.
    """
    if not path:
        return None
    candidates = candidate_paths(path, card, data_root)
    return next(filter(exists, candidates), None)
