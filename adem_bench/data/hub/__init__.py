"""Data sets of the Hugging Face hub as the official layouts: the data source `hub`.

A data set is read once, row by row, and written to the cache in the layout that the card's kind
has everywhere: images as they stand in the rows, under their official names. So tasks, sample
ids, prompts and scores are those of the files. What the hub's rows lack (question ids, captions by
machines, who belongs to a Karpathy split) is taken from the official annotation files below the
data root, where they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from adem_bench.data.hub.layout import Layout
from adem_bench.data.hub.rows import HubRows, place_of
from adem_bench.data.paths import cache_root, default_data_root, is_trial, made_once
from adem_bench.errors import CardError, DataError
from adem_bench.files import file_digest
from adem_bench.registry import TASK_KINDS
from adem_bench.schemas import TaskCard

HUB = "hub"
"""The data source of this name."""
VERSION = 1
"""Raised whenever the same rows would be written otherwise."""


def hub_root(
    card: TaskCard, data_root: Path | None, progress: Callable[[int], None] | None = None
) -> Path:
    """Return a data root that holds a split of a hub data set, making it at the first call.

    Args:
        card: Its `data.source` is `hub:ID`, `hub:FOLDER`, or `hub` for the data set in `data.hub`.
        data_root: Where annotation files are looked for; None for the default root.
        progress: Called with the number of rows read so far.

    Raises:
        CardError: the card names no data set, or its kind has no such source.
        DataError: the data set cannot be read or does not fit, or annotation files are needed.
    """
    layout = _layout(card, data_root or default_data_root())
    place = place_of(card)
    parts = {
        "version": VERSION,
        "kind": card.kind,
        "data": place.identity(),
        "split": layout.key,
        "annotations": {path.name: file_digest(path) for path in layout.annotations},
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_root() / f"hub-{card.kind}-{digest}"

    def make(made: Path) -> None:
        if is_trial():
            raise DataError(f"{place.name} is read from the hub when the task is first run")
        layout.write(made, HubRows(place, progress))

    return made_once(folder, make)


def _layout(card: TaskCard, data_root: Path) -> Layout:
    kind = TASK_KINDS.load(card.kind)
    if not hasattr(kind, "hub_layout"):
        kinds = [
            name for name in TASK_KINDS.table() if hasattr(TASK_KINDS.load(name), "hub_layout")
        ]
        raise CardError(
            f"task {card.name} is of kind {card.kind}, which is not read from the hub; these are: "
            f"{', '.join(kinds)}"
        )
    layout: Layout = kind.hub_layout(card, data_root)
    return layout
