"""Data sets of expressions and the boxes they refer to: RefCOCO, RefCOCO+, RefCOCOg, OCID-Ref.

Boxes are handed on as left, top, right, bottom, in fractions of the image's width and height.
"""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adem_bench.data.reading import RowError, broken, whole_id
from adem_bench.data.streaming import array_items, object_items
from adem_bench.files import BEGINNING, no_text, open_bytes
from adem_bench.schemas import DataSource
from adem_bench.tasks.vlm_evaluation.files import (
    Question,
    QuestionFiles,
    identifier,
    one_of,
    text,
    whole_number,
)

REFS = {
    "RefCOCO": ("refcoco", "unc"),
    "RefCOCO+": ("refcoco+", "unc"),
    "RefCOCOg": ("refcocog", "umd"),
}
"""Data set to its folder and whose division into splits is used."""
REFS_HOLD = "a pickled list of references, as REFER publishes it"
INSTANCES_HOLD = "REFER's boxes, an object with the lists `images` and `annotations`"
CLUTTER = {"Minimum Clutter": 9, "Medium Clutter": 16, "Maximum Clutter": 20}
"""OCID's degrees of clutter, with the last take of each on a table top."""
OCID_SIZE = (640, 480)
"""Of every OCID image, in pixels."""
TOLERANCE = 1.0
"""Pixels by which a box may leave its image, for rounding."""
Box = tuple[float, float, float, float]


class RefCocoFiles(QuestionFiles):
    """RefCOCO's family: references of people to objects in images of COCO's train2014."""

    holds = REFS_HOLD
    splits = ("val", "test", "testA", "testB", "train")
    image_folders = ("images/train2014", "refcoco/train2014", "download/refcoco/train2014")
    id_name = "id"

    def __init__(
        self,
        root: Path,
        split: str,
        source: DataSource,
        index: str = "",
        sets: Sequence[str] = tuple(REFS),
    ) -> None:
        """Name the files; nothing is read yet.

        Args:
            root: The data root.
            split: One of `splits`.
            source: Where the data is to be had, for messages.
            index: An index file of the suite below the data root, to be read instead.
            sets: Which of the family.
        """
        super().__init__(root, split, source, index)
        self.sets = tuple(sets)
        self.groups = self.sets if len(self.sets) > 1 else ()

    def _paths(self, name: str) -> tuple[Path, Path]:
        folder, division = REFS[name]
        places = (f"refcoco/{folder}", folder, f"download/refcoco/{folder}")
        return (
            self.find(*(f"{place}/refs({division}).p" for place in places)),
            self.find(*(f"{place}/instances.json" for place in places), what=INSTANCES_HOLD),
        )

    def _files(self) -> list[Path]:
        return [path for name in self.sets for path in self._paths(name)]

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        for name in self.sets:
            refs_file, instances = self._paths(name)
            refs = [
                (f"{name} reference {number}", ref)
                for number, ref in enumerate(read_pickle(refs_file, self.source), 1)
                if not isinstance(ref, dict) or ref.get("split") == self.split
            ]
            boxes = _boxes(instances, {_box_number(ref) for _, ref in refs}, self.source)
            for place, ref in refs:
                sentences = ref.get("sentences") if isinstance(ref, dict) else None
                if not isinstance(sentences, list):
                    yield place, ref
                    continue
                found = {"set": name, "box": boxes.get(_box_number(ref))}
                for number, sentence in enumerate(sentences, 1):
                    yield f"{place}, sentence {number}", {**ref, **found, "sentence": sentence}

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        sentence = raw.get("sentence")
        if not isinstance(sentence, dict):
            raise RowError("`sentences` must be a list of {sent, sent_id}")
        image = self.image(f"COCO_train2014_{whole_number(raw, 'image_id'):012d}.jpg")
        if isinstance(raw["box"], str):
            raise RowError(raw["box"])
        if raw["box"] is None:
            raise RowError(f"instances.json has no box with the number {raw.get('ann_id')!r:.60}")
        numbers = (whole_number(raw, "ref_id"), whole_number(sentence, "sent_id"))
        return self._expression(raw["set"], numbers, text(sentence, "sent"), raw["box"], image)

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question | None:
        name = one_of(raw, "refer_dataset", tuple(REFS))
        if name not in self.sets:
            return None
        image, numbers = (
            self.indexed_image(raw),
            (whole_number(raw, "ref_id"), whole_number(raw, "sent_id")),
        )
        box, words = fractions(raw.get("bbox"), (1, 1)), text(raw, "ref_expression")
        return self._expression(name, numbers, words, box, image, place)

    def _expression(
        self,
        name: str,
        numbers: tuple[int, int],
        sentence: str,
        box: Box,
        image: Path,
        suite_id: str = "",
    ) -> Question:
        question_id = "/".join([name, *map(str, numbers)])
        groups = (name,) if self.groups else ()
        return Question(question_id, sentence, list(box), image, groups, suite_id=suite_id)


def _box_number(ref: object) -> int:
    number = whole_id(ref.get("ann_id")) if isinstance(ref, dict) else None
    return -1 if number is None else number


class OcidRefFiles(QuestionFiles):
    """OCID-Ref: references to things on a table top that fills from take to take."""

    holds = "OCID-Ref's expressions, an object of {scene_path, sentence, bbox, take_id}"
    splits = ("val", "test", "train")
    groups = tuple(CLUTTER)
    image_folders = (
        "ocid_ref/OCID-dataset",
        "OCID-dataset",
        "download/ocid-ref/OCID-dataset",
    )
    id_name = "id"

    def _files(self) -> list[Path]:
        name = f"{self.split}_expressions.json"
        return [self.find(f"ocid_ref/{name}", f"download/ocid-ref/{name}")]

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        return object_items(self.main_file, self.holds, self.source)

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        take = whole_number(raw, "take_id")
        group = next((name for name, last in CLUTTER.items() if 0 <= take <= last), None)
        if group is None:
            raise RowError(f"`take_id` must be 0 to {max(CLUTTER.values())}, found {take}")
        try:
            corners = json.loads(text(raw, "bbox"))
        except (ValueError, RecursionError) as error:
            raise RowError(f"`bbox` must be a list in text, found {raw['bbox']!r:.60}") from error
        box, image = fractions(corners, OCID_SIZE), self.image(raw.get("scene_path"))
        words = text(raw, "sentence")
        return Question(place, words, list(box), image, (group,), suite_id=place)

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question:
        number, group = identifier(raw, "example_id"), one_of(raw, "clutter_split", self.groups)
        box, image = fractions(raw.get("bbox"), (1, 1)), self.indexed_image(raw)
        words = text(raw, "ref_expression")
        return Question(number, words, list(box), image, (group,), suite_id=number)


def fractions(corners: object, size: tuple[float, float]) -> Box:
    """Return a box in fractions of the image.

    Args:
        corners: Left, top, right, bottom.
        size: Width and height of the image, in the unit of the corners.

    Raises:
        RowError: it is not a box of that image.
    """
    width, height = size
    if not isinstance(corners, list | tuple) or len(corners) != 4:
        raise RowError(f"expected four corners of a box, found {corners!r:.60}")
    if not all(type(value) in (int, float) and math.isfinite(value) for value in corners):
        raise RowError(f"corners of a box must be numbers, found {corners!r:.60}")
    left, top, right, bottom = corners
    slack = TOLERANCE if width > 1 else 0.0
    inside = -slack <= left < right <= width + slack and -slack <= top < bottom <= height + slack
    if not inside:
        raise RowError(f"box {corners!r:.60} does not lie in its image of {width} x {height}")
    return left / width, top / height, right / width, bottom / height


def _boxes(path: Path, wanted: set[int], source: DataSource) -> dict[int, Box | str]:
    """Return boxes (or what is wrong with them) by number; outlines are read over."""
    raws: dict[int, tuple[Any, Any]] = {}
    sizes: dict[Any, tuple[float, float]] = {}
    try:
        for row in array_items(path, "annotations", INSTANCES_HOLD, source):
            number = whole_id(row["id"])
            if number is not None and number in wanted:
                raws[number] = whole_id(row["image_id"]), row["bbox"]
        for row in array_items(path, "images", INSTANCES_HOLD, source):
            sizes[whole_id(row["id"])] = float(row["width"]), float(row["height"])
    except (TypeError, KeyError, ValueError) as error:
        found = f"a row without its fields ({error!r})"
        raise broken(path, INSTANCES_HOLD, found, source) from error
    return {number: _box(bbox, sizes.get(image)) for number, (image, bbox) in raws.items()}


def _box(bbox: object, size: tuple[float, float] | None) -> Box | str:
    if size is None:
        return "instances.json has no size of its image"
    if not isinstance(bbox, list) or not all(isinstance(value, int | float) for value in bbox):
        return f"`bbox` must be a list of numbers, found {bbox!r:.60}"
    if len(bbox) != 4:
        return f"`bbox` must have four numbers, found {len(bbox)}"
    left, top, width, height = bbox
    try:
        return fractions([left, top, left + width, top + height], size)
    except RowError as error:
        return str(error)


class _DataOnly(pickle.Unpickler):
    """Unpickles lists, objects of fields, texts and numbers; whatever would run code is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}; no code of a pickle is run")


def read_pickle(path: Path, source: DataSource) -> list[Any]:
    """Return REFER's list of references; it was pickled by Python 2.

    Raises:
        DataError: the file is not such a list, or would run code.
    """

    def load(file: io.BufferedReader) -> Any:
        if found := no_text(file.peek(BEGINNING)):
            raise ValueError(found)
        return _DataOnly(file, encoding="utf-8", errors="replace").load()

    try:
        with open_bytes(path) as file:
            refs = load(file)
    except Exception as error:  # broken pickles raise nearly anything
        raise broken(path, REFS_HOLD, f"cannot be read ({error})", source) from error
    if not isinstance(refs, list):
        raise broken(path, REFS_HOLD, f"a {type(refs).__name__}", source)
    return refs
