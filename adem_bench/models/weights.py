"""Where the files that a model card names are on this machine, and what to say if they are not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.data.paths import default_data_root
from adem_bench.errors import CheckpointError
from adem_bench.schemas import ModelCard

if TYPE_CHECKING:
    from adem_bench.data.downloading import Download

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


def missing_message(path: str, card: ModelCard, data_root: Path | None) -> str:
    """Return one line: what is missing, every place that was looked at, and where to get it."""
    places = [str(place) for place in candidate_paths(path, card, data_root)]
    what = f"{_role(path, card)} {path!r} of model {card.name} is not on disk"
    return f"{what} (looked at {', '.join(places)}); {_remedy(path, card, places[-1])}"


def _role(path: str, card: ModelCard) -> str:
    if path == card.language_model.path:
        return "language model"
    if path == card.vision.path:
        return "CLIP tower"
    if path == card.language_model.tokenizer:
        return "tokenizer"
    return "adapter"


def _remedy(path: str, card: ModelCard, target: str) -> str:
    source = next((a for a in card.adapters.values() if a.path == path and a.url), None)
    if source:
        return f"`adem-bench models pull {card.name}` fetches it from {source.url}"
    if path in (card.language_model.path, card.language_model.tokenizer):
        if card.language_model.source:
            return f"get it from {card.language_model.source} and put it at {target}"
    elif path == card.vision.path:
        return "put OpenAI's file there, or leave vision.path empty to let open_clip fetch its own"
    return f"put it at {target}, or change the path in the card ({card.path or 'built in memory'})"


def downloads(card: ModelCard, data_root: Path | None) -> dict[str, Download]:
    """Return the adapters of a card that have a URL, by their path in the card, each file once.

    Raises:
        CheckpointError: a URL is not http(s), or a path leads out of the weights folder.
    """
    from adem_bench.data.downloading import Download  # a listing of models needs none of it

    folder = weights_folder(data_root)
    found: dict[str, Download] = {}
    for task, source in card.adapters.items():
        if not source.url:
            continue
        if not source.url.startswith(("http://", "https://")):
            raise CheckpointError(
                f"model {card.name}, adapter {task}: url {source.url!r} is not http(s)"
            )
        path = Path(source.path)
        if path.is_absolute() or ".." in path.parts or source.path.startswith("~"):
            raise CheckpointError(
                f"model {card.name}, adapter {task}: path {source.path!r} leads out of {folder}; "
                "only paths below it can be pulled"
            )
        digests = {"sha256": source.sha256} if source.sha256 else {}
        found[source.path] = Download(source.url, folder / path, source.size, digests)
    return found
