"""COCO captions as lmms-lab/COCO-Caption2014 has them, by image: file_name, image, answer.

The hub has whole years. Which images a Karpathy split takes from them, and their references, the
official annotation file below the data root says; without it a split is a year, such as `val2014`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from adem_bench.data.hub.layout import image_bytes, put, safe_part, suffix_of, text
from adem_bench.data.hub.rows import HubRows
from adem_bench.errors import DataError, in_shell
from adem_bench.schemas import TaskCard
from adem_bench.tasks.coco_caption.files import CaptionedImage, CaptionFiles

KARPATHY = ("train", "val", "test")
PARTS = {"val": ("val", "validation"), "train": ("train",), "test": ("test",)}
YEAR = re.compile(r"(train|val|test)20\d\d")


class CaptionLayout:
    """`coco_caption/…json` and `images/YEAR/….jpg`."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        """Find the annotation files that the layout rests on.

        Raises:
            DataError: no annotation file says which images the split has.
        """
        self.key = card.split
        self._root = data_root
        named = str(card.options.get("annotations") or "")
        self._files = CaptionFiles(data_root, card.split, card.data, named)
        try:
            path = self._files.path
        except DataError as error:
            if card.split in KARPATHY or named:
                raise DataError(
                    f"{error}; the hub has whole years only: "
                    f"`adem-bench data fetch {in_shell(card.name)}` brings the annotation file, "
                    "or --split val2014 takes all of that year"
                ) from error
            self.annotations: tuple[Path, ...] = ()
            return
        references = path.with_name(f"{path.stem}_gt.json")
        self.annotations = (path, references) if references.is_file() else (path,)

    def write(self, folder: Path, rows: HubRows) -> None:
        """Write the annotations, and the images that they name.

        Raises:
            DataError: the rows lack images that the annotation file names, or there is no row.
        """
        if self.annotations:
            for path in self.annotations:
                place = folder / path.relative_to(self._root)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
            self._write_named(folder, rows)
        else:
            self._write_year(folder, rows)

    def _write_named(self, folder: Path, rows: HubRows) -> None:
        found = (row.image for row in self._files.rows() if isinstance(row, CaptionedImage))
        wanted = {path.name: folder / path.relative_to(self._root) for path in found}
        years = {year.group(1) for path in wanted.values() if (year := YEAR.search(str(path)))}
        likely = [name for year in sorted(years) for name in PARTS[year] if name in rows.splits]
        for split in dict.fromkeys([*likely, *rows.splits]):
            for row in rows.rows(split, ("image",)) if wanted else ():
                data = image_bytes(row)
                place = wanted.pop(_name(row), None) if data else None
                if place is not None and data:
                    put(place, data)
                if not wanted:
                    break
        if wanted:
            raise DataError(
                f"{rows.name} lacks {len(wanted)} images that {self.annotations[0]} names, the "
                f"first is {min(wanted)}"
            )

    def _write_year(self, folder: Path, rows: HubRows) -> None:
        year = YEAR.fullmatch(self.key)
        names = (self.key, *(PARTS[year.group(1)] if year else ()))
        found = list(self._rows(folder, rows, rows.split(names)))
        if not found:
            raise DataError(f"{rows.name} has no row of {self.key}; expected COCO's captions")
        text = json.dumps(found).encode()
        put(folder / "coco_caption" / f"captions_{self.key}.json", text)

    def _rows(self, folder: Path, rows: HubRows, split: str) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows.rows(split, ("image", "answer"))):
            data = image_bytes(row)
            name = safe_part(_name(row), f"row {number}: file_name", rows)
            if not PurePosixPath(name).suffix:
                name += suffix_of(data or b"")
            if data:
                put(folder / "images" / self.key / name, data)
            captions = row.get("answer")
            known = {"id": row["id"]} if isinstance(row.get("id"), int) else {}
            yield {"image": f"{self.key}/{name}", "caption": captions, **known}


def _name(row: Mapping[str, Any]) -> str:
    return PurePosixPath(text(row, "file_name") or text(row, "question_id")).name
