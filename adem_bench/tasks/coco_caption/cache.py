"""Per-image caption statistics on disk, so that a set is scored once and not at every look.

METEOR and the official tokenizer take minutes for 5,000 images. A part is found again by a digest
of captions and references; it is numbers only, and losing the folder loses nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from adem_bench.data.paths import cache_root
from adem_bench.errors import AdemBenchError
from adem_bench.files import write_atomically
from adem_bench.tasks.coco_caption.scorers import ScorerPart

LAYOUT = 1
"""Raised whenever the numbers of a part could change."""


class CaptionParts:
    """What scorers made of one set of captions, kept below the cache folder."""

    def __init__(
        self, captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
    ) -> None:
        content = [LAYOUT, metadata.version("pycocoevalcap"), dict(captions)]
        text = json.dumps([*content, {image: list(references[image]) for image in captions}])
        self._images = len(captions)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        try:
            self._folder: Path | None = cache_root() / "captions" / name
        except AdemBenchError:
            self._folder = None  # nothing is kept where there is no place for it

    def get(self, name: str) -> ScorerPart | None:
        """Return a scorer's part; None if it is not there, or not whole."""
        import numpy as np

        if self._folder is None:
            return None
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as arrays:
                values, rows = arrays["values"], arrays["rows"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        if rows.ndim != 2 or len(rows) != self._images or rows.dtype != np.float64:
            return None
        return ScorerPart(tuple(values.tolist()), rows)

    def put(self, name: str, scored: ScorerPart) -> None:
        """Keep a scorer's part; a disk that refuses is not a reason to fail."""
        import numpy as np

        if self._folder is None:
            return
        stream = io.BytesIO()
        np.savez_compressed(stream, values=np.array(scored.values), rows=scored.rows)
        try:
            write_atomically(self._folder / f"{name}.npz", stream.getvalue())
        except AdemBenchError:
            return
