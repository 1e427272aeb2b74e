"""The adapters that a model's card publishes, as downloads into the weights folder."""

from __future__ import annotations

from pathlib import Path

from adem_bench.data.downloading import Download
from adem_bench.errors import CheckpointError
from adem_bench.models.weights import weights_folder
from adem_bench.schemas import ModelCard


def downloads(card: ModelCard, data_root: Path | None) -> dict[str, Download]:
    """Return the adapters of a card that have a URL, by their path in the card, each file once.

    Raises:
        CheckpointError: a URL is not http(s), or a path leads out of the weights folder.
    """
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
