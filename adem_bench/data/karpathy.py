"""COCO captions: the Karpathy splits as BLIP publishes them, and plain COCO annotation files.

Below the data root lie `coco_caption/coco_karpathy_SPLIT.json`, beside it (optionally)
`coco_karpathy_SPLIT_gt.json`, which then gives the references as in the published scoring, and
`images/{train,val}2014/`. A plain COCO file is `captions_SPLIT.json` in `coco_caption/` or
`annotations/`, its images in `images/SPLIT/`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from adem_bench.data.reading import (
    BadRow,
    BadRowError,
    broken,
    data_digest,
    is_safe_name,
    missing,
    read_json,
)
from adem_bench.schemas import DataSource

KARPATHY_HOLDS = "a list of {image, caption: [texts]} (BLIP's Karpathy layout)"
COCO_HOLDS = "an object with `images` and `annotations` (COCO captions)"


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image with its reference captions."""

    id: int
    image: Path
    captions: tuple[str, ...]


class CaptionFiles:
    """The files of one split below a data root, read when first needed."""

    def __init__(self, root: Path, split: str, source: DataSource, annotations: str = "") -> None:
        self.root = root
        self.split = split
        self.source = source
        self.annotations = annotations

    @cached_property
    def path(self) -> Path:
        """The annotation file: the one named in the card, else Karpathy's, else COCO's own.

        Raises:
            DataError: none of them is there.
        """
        if self.annotations:
            candidates = [self.root / self.annotations]
        else:
            candidates = [
                self.root / "coco_caption" / f"coco_karpathy_{self.split}.json",
                self.root / "coco_caption" / f"captions_{self.split}.json",
                self.root / "annotations" / f"captions_{self.split}.json",
            ]
        for path in candidates:
            if path.is_file():
                return path
        raise missing(candidates[0], f"{KARPATHY_HOLDS}, or {COCO_HOLDS}", self.source)

    @cached_property
    def _data(self) -> Any:
        return read_json(self.path, f"{KARPATHY_HOLDS}, or {COCO_HOLDS}", self.source)

    @cached_property
    def _published_references(self) -> Mapping[int, list[Any]] | None:
        path = self.path.with_name(f"{self.path.stem}_gt.json")
        if not path.is_file():
            return None
        return self._references(read_json(path, COCO_HOLDS, self.source), path)

    def _references(self, data: Any, path: Path) -> Mapping[int, list[Any]]:
        found: dict[int, list[Any]] = defaultdict(list)
        try:
            for row in data["annotations"]:
                found[int(row["image_id"])].append(row["caption"])
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            problem = f"an annotation without image_id or caption ({error!r})"
            raise broken(path, COCO_HOLDS, problem, self.source) from error
        return found

    def rows(self) -> Iterator[CaptionedImage | BadRow]:
        """Yield the images in the file's order, malformed or repeated ones as `BadRow`.

        Raises:
            DataError: a file is missing or malformed.
        """
        if isinstance(self._data, list) and self._data:
            raw_rows = self._karpathy_rows(self._data)
        elif isinstance(self._data, dict) and isinstance(self._data.get("images"), list):
            raw_rows = self._coco_rows(self._data)
        else:
            found = "neither" if self._data else "nothing in it"
            raise broken(self.path, f"{KARPATHY_HOLDS}, or {COCO_HOLDS}", found, self.source)
        seen: set[int] = set()
        for number, (raw, captions) in enumerate(raw_rows):
            place = f"{self.path.name}, row {number}"
            try:
                row = self._row(raw, captions)
            except BadRowError as error:
                yield BadRow(f"row {number}", f"{place}: {error}")
                continue
            if row.id in seen:
                yield BadRow(f"row {number}", f"{place}: image id {row.id} stands twice")
            else:
                seen.add(row.id)
                yield row

    def _karpathy_rows(self, rows: list[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield rows with their captions; the train file's rows of one image become one."""
        grouped: dict[str, list[Any]] = {}
        for row in rows:
            if not isinstance(row, dict):
                yield row, None
            elif isinstance(row.get("caption"), str):
                grouped.setdefault(str(row.get("image")), []).append(row)
            else:
                yield row, row.get("caption")
        for group in grouped.values():
            yield group[0], [row["caption"] for row in group]

    def _coco_rows(self, data: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        references = self._references(data, self.path)
        for image in data["images"]:
            if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
                yield image, None
                continue
            name = image["file_name"]
            row = {"image": name if "/" in name else f"{self.split}/{name}", "id": image.get("id")}
            key = image.get("id")
            yield row, references.get(key, []) if isinstance(key, int) else []

    def _row(self, raw: Any, captions: Any) -> CaptionedImage:
        if not isinstance(raw, dict):
            raise BadRowError("expected an object with `image` and its captions")
        name = raw.get("image")
        if not isinstance(name, str) or not is_safe_name(name):
            raise BadRowError(f"image name {name!r} is no name below the image folder")
        image_id = _image_id(raw, name)
        if self._published_references is not None:
            captions = self._published_references.get(image_id, [])
        if not isinstance(captions, list) or not captions:
            raise BadRowError(f"image {image_id} has no reference caption")
        if not all(isinstance(caption, str) and caption.strip() for caption in captions):
            raise BadRowError(f"image {image_id} has an empty caption or one that is no text")
        return CaptionedImage(image_id, self.root / "images" / name, tuple(captions))

    def check_image_folder(self) -> None:
        """Refuse data without any images.

        Raises:
            DataError: there is no image folder.
        """
        folder = self.root / "images"
        if not folder.is_dir():
            raise missing(folder, "COCO's images, in train2014/ and val2014/", self.source)

    def digest(self) -> str:
        """Return a digest of annotation files and image listing; no image is opened."""
        images = [row.image for row in self.rows() if isinstance(row, CaptionedImage)]
        self.check_image_folder()
        references = self.path.with_name(f"{self.path.stem}_gt.json")
        files = [self.path, references] if references.is_file() else [self.path]
        return data_digest(files, images, self.root)


def _image_id(raw: Mapping[str, Any], name: str) -> int:
    """Return COCO's number of an image: the row's own, else the end of the file name (Q15)."""
    if type(raw.get("id")) is int:
        return int(raw["id"])
    for text in (PurePosixPath(name).stem, str(raw.get("image_id", ""))):
        found = re.search(r"(?:^|_)([0-9]{1,18})$", text)
        if found:
            return int(found.group(1))
    raise BadRowError(f"no image id at the end of the name {name!r}")
