"""COCO captions: the Karpathy splits as BLIP publishes them, and plain COCO annotation files.

Below the data root are `coco_caption/coco_karpathy_SPLIT.json` (one row per image, in the train
file one per caption), next to it (optionally) `coco_karpathy_SPLIT_gt.json`, which then gives the
references as in the published scoring, and `images/{train,val}2014/`. A plain COCO file is
`captions_SPLIT.json` in `coco_caption/` or `annotations/`, its images in `images/SPLIT/`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from adem_bench.data.reading import (
    RowError,
    SkippedRow,
    broken,
    data_digest,
    load_json,
    missing,
    name_below,
    whole_id,
)
from adem_bench.schemas import DataSource

KARPATHY_HOLDS = "a list of {image, caption: [texts]} (BLIP's Karpathy layout)"
NAMES = ("image", "id", "image_id")
"""Fields of a row that say which image it is of."""
NUMBER_AT_END = re.compile(r"(?:^|_)([0-9]{1,18})$")
COCO_HOLDS = "an object with `images` and `annotations` (COCO captions)"


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image with its reference captions."""

    id: int
    image: Path
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainingCaption:
    """One caption, to be learned."""

    id: str
    """Image id and the caption's place among those of the image, such as `42/0`."""
    image: Path
    text: str


class CaptionFiles:
    """The files of one split below a data root, read when first needed."""

    def __init__(self, root: Path, split: str, source: DataSource, annotations: str = "") -> None:
        """Name the files; nothing is read yet.

        Args:
            root: The data root.
            split: A split of Karpathy's, or of a file's name.
            source: Where the data is to be had, for messages.
            annotations: The annotation file below the data root; empty to find it by the split.
        """
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
        return load_json(self.path, f"{KARPATHY_HOLDS}, or {COCO_HOLDS}", self.source)

    @cached_property
    def _published_references(self) -> Mapping[int, list[Any]] | None:
        path = self.path.with_name(f"{self.path.stem}_gt.json")
        if not path.is_file():
            return None
        return self._references(load_json(path, COCO_HOLDS, self.source), path)

    def _references(self, data: Any, path: Path) -> Mapping[int, list[Any]]:
        found: dict[int, list[Any]] = defaultdict(list)
        try:
            for row in data["annotations"]:
                number = whole_id(row["image_id"])
                if number is None:
                    raise ValueError(f"image_id {row['image_id']!r:.60} is not a whole number")
                found[number].append(row["caption"])
        except (TypeError, KeyError, ValueError) as error:
            problem = f"an annotation without image_id or caption ({error!r})"
            raise broken(path, COCO_HOLDS, problem, self.source) from error
        return found

    def rows(self) -> Iterator[CaptionedImage | SkippedRow]:
        """Yield the images in the file's order, malformed or repeated ones as `SkippedRow`.

        Raises:
            DataError: a file is missing or malformed.
        """
        seen: set[int] = set()
        for number, raw, captions in _one_an_image(self._raw_rows()):
            try:
                row = self._row(raw, captions)
                if row.id in seen:
                    raise RowError(f"image id {row.id} stands twice")
            except RowError as error:
                yield self._bad_row(number, error)
                continue
            seen.add(row.id)
            yield row

    def captions(self) -> Iterator[TrainingCaption | SkippedRow]:
        """Yield every caption in the file's order; references for scoring play no part.

        Raises:
            DataError: a file is missing or malformed.
        """
        counts: Counter[int] = Counter()
        # The captions of an image stand together, each in a row of its own.
        known: tuple[list[str], tuple[int, Path]] = ([], (0, Path()))
        for number, raw, captions in self._raw_rows():
            try:
                named = [repr(raw.get(name)) for name in NAMES] if isinstance(raw, dict) else []
                if not named or named != known[0]:
                    known = named, self._image(raw)
                image_id, image = known[1]
                texts = _texts(image_id, [captions] if isinstance(captions, str) else captions)
            except RowError as error:
                yield self._bad_row(number, error)
                continue
            for text in texts:
                yield TrainingCaption(f"{image_id}/{counts[image_id]}", image, text)
                counts[image_id] += 1

    def _bad_row(self, number: int, error: RowError) -> SkippedRow:
        return SkippedRow(f"row {number}", f"{self.path.name}, row {number}: {error}")

    def _raw_rows(self) -> Iterator[tuple[int, Any, Any]]:
        """Yield number, row and captions of every row, none of them checked."""
        data = self._data
        if isinstance(data, list) and data:
            for number, row in enumerate(data):
                yield number, row, row.get("caption") if isinstance(row, dict) else None
        elif isinstance(data, dict) and isinstance(data.get("images"), list):
            for number, (row, captions) in enumerate(self._coco_rows(data)):
                yield number, row, captions
        else:
            found = "neither" if data else "nothing in it"
            raise broken(self.path, f"{KARPATHY_HOLDS}, or {COCO_HOLDS}", found, self.source)

    def _coco_rows(self, data: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        references = self._references(data, self.path)
        for image in data["images"]:
            if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
                yield image, None
                continue
            name = image["file_name"].replace("\\", "/")
            key = whole_id(image.get("id"))
            row = {"image": name if "/" in name else f"{self.split}/{name}", "id": key}
            yield row, references.get(key, []) if key is not None else []

    def _row(self, raw: Any, captions: Any) -> CaptionedImage:
        image_id, image = self._image(raw)
        if self._published_references is not None:
            captions = self._published_references.get(image_id, [])
        texts = _texts(image_id, captions)
        if not all(text.strip() for text in texts):
            raise RowError(f"image {image_id} has an empty caption")
        return CaptionedImage(image_id, image, texts)

    def _image(self, raw: Any) -> tuple[int, Path]:
        if not isinstance(raw, dict):
            raise RowError("expected an object with `image` and its captions")
        name = name_below(raw.get("image"))
        if name is None:
            raise RowError(f"image name {raw.get('image')!r} is no name below the image folder")
        return _image_id(raw, name), self._folder / name

    @cached_property
    def _folder(self) -> Path:
        return self.root / "images"

    def digest(self) -> str:
        """Return a digest of annotation files and image listing; no image is opened."""
        images = [row.image for row in self.rows() if isinstance(row, CaptionedImage)]
        references = self.path.with_name(f"{self.path.stem}_gt.json")
        files = [self.path, references] if references.is_file() else [self.path]
        return data_digest(files, images, self.root)


def _one_an_image(rows: Iterable[tuple[int, Any, Any]]) -> Iterator[tuple[int, Any, Any]]:
    """Join the train file's rows of one image, whose caption is a text, into one with a list."""
    joined: dict[Any, tuple[int, Any, Any]] = {}
    for number, row, captions in rows:
        if isinstance(captions, str):
            _, _, texts = joined.setdefault(str(row.get("image")), (number, row, []))
            texts.append(captions)
        else:
            joined[number] = (number, row, captions)
    yield from joined.values()


def _texts(image_id: int, captions: Any) -> tuple[str, ...]:
    if not isinstance(captions, list) or not captions:
        raise RowError(f"image {image_id} has no reference caption")
    if not all(isinstance(caption, str) for caption in captions):
        raise RowError(f"image {image_id} has a caption that is no text")
    return tuple(captions)


def _stem(name: str) -> str:
    """Return `PurePosixPath(name).stem`, in a fraction of its time: there is one for every row."""
    last = name.rpartition("/")[2]
    if last in ("", "."):
        return PurePosixPath(name).stem
    dot = last.rfind(".")
    return last[:dot] if 0 < dot < len(last) - 1 else last


def _image_id(raw: Mapping[str, Any], name: str) -> int:
    """Return COCO's number of an image: the row's own, else the end of the file name (Q15)."""
    if type(raw.get("id")) is int:
        return int(raw["id"])
    for text in (_stem(name), str(raw.get("image_id", "")), str(raw.get("id", ""))):
        found = NUMBER_AT_END.search(text)
        if found:
            return int(found.group(1))
    raise RowError(f"no image id at the end of the name {name!r}")
