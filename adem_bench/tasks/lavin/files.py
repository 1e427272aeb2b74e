"""LaVIN's instruction data: `all_data.json`, one object with a list `all`.

The layout is in docs/method.md, section 11.4. Its images are COCO's training images, in
`cocoimages/train/` as ADEM-VL has them or in `images/train2014/` where captions have theirs, and
ScienceQA's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adem_bench.data.reading import (
    RowError,
    SkippedRow,
    broken,
    data_digest,
    is_safe_name,
    load_json,
    missing,
    name_below,
)
from adem_bench.schemas import DataSource

FILE = "all_data.json"
SPLIT = "all"
HOLDS = "LaVIN's instructions, an object with a list `all`"
COCO_PREFIX = "COCO_train2014_"


@dataclass(frozen=True, slots=True)
class InstructionRow:
    """One instruction with its answer."""

    id: str
    instruction: str
    """As it stands in the file, `InstructionRow: …` and `Response:` included."""
    answer: str
    image: Path | None


class LavinFiles:
    """The file and its images below a data root."""

    def __init__(self, root: Path, source: DataSource) -> None:
        self.root = root
        self.source = source
        self.path = root / FILE

    def rows(self) -> Iterator[InstructionRow | SkippedRow]:
        """Yield the instructions in the file's order, malformed ones as `SkippedRow`.

        Raises:
            DataError: the file is missing or is not in its layout.
        """
        data = load_json(self.path, HOLDS, self.source)
        rows = data.get(SPLIT) if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise broken(self.path, HOLDS, "no list `all` in it", self.source)
        for number, raw in enumerate(rows):
            try:
                yield self._row(number, raw)
            except RowError as error:
                yield SkippedRow(f"row {number}", f"{FILE}, row {number}: {error}")

    def _row(self, number: int, raw: Any) -> InstructionRow:
        if not isinstance(raw, dict):
            raise RowError(f"expected an object, found {type(raw).__name__}")
        instruction, answer = raw.get("instruction"), raw.get("answer")
        if not isinstance(instruction, str) or not isinstance(answer, str):
            raise RowError("`instruction` and `answer` must be texts")
        qid = str(raw.get("qid", number))
        return InstructionRow(qid, instruction, answer, self._image(qid, raw))

    def _image(self, qid: str, raw: dict[str, Any]) -> Path | None:
        name, source = raw.get("image"), raw.get("image_source")
        if name is None:
            return None
        if source not in ("mscoco", "sqa", None):
            raise RowError(f"`image_source` must be mscoco or sqa, found {source!r}")
        below = name_below(name)
        if below is None or not is_safe_name(qid):
            raise RowError(f"image {name!r} of {qid!r} leaves the image folder")
        if source == "sqa":
            return self._scienceqa / qid / "image.png"
        return self._coco / f"{COCO_PREFIX}{below}"  # without a source, as published

    @cached_property
    def _coco(self) -> Path:
        """ADEM-VL's folder, or the one that captions use: one copy of COCO is enough."""
        published = self.root / "cocoimages" / "train"
        return published if published.is_dir() else self.root / "images" / "train2014"

    @cached_property
    def _scienceqa(self) -> Path:
        """The folder that ScienceQA's questions use here, or ADEM-VL's."""
        ours = self.root / "scienceqa" / "images" / "train"
        return ours if ours.is_dir() else self.root / "images" / "train"

    def digest(self) -> str:
        """Return a digest of the file; its images are too many to look at one by one.

        Raises:
            DataError: the file is missing.
        """
        if not self.path.is_file():
            raise missing(self.path, HOLDS, self.source)
        return data_digest([self.path], [], self.root)
