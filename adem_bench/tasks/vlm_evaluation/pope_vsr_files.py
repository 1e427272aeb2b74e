"""Data sets of what is so and what is not: POPE's yes-or-no questions, VSR's statements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adem_bench.data.reading import RowError
from adem_bench.data.streaming import lines
from adem_bench.tasks.vlm_evaluation.files import (
    Question,
    QuestionFiles,
    identifier,
    numbered,
    one_of,
    text,
    whole_number,
)

SAMPLINGS = ("random", "popular", "adversarial")
"""How POPE chose the objects that are not in an image."""


class PopeFiles(QuestionFiles):
    """POPE: a file for each sampling, images of COCO's val2014; split `all` is the three."""

    holds = "POPE's questions, one object {question_id, image, text, label} a line"
    splits = ("all", *SAMPLINGS)
    groups = SAMPLINGS
    image_folders = ("images/val2014", "pope/val2014", "download/pope/val_images")
    id_name = "id"

    def _files(self) -> list[Path]:
        names = SAMPLINGS if self.split == "all" else (self.split,)
        files = [f"coco_pope_{name}.json" for name in names]
        return [self.find(f"pope/{file}", f"download/pope/{file}") for file in files]

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        for path in self._files():
            sampling = path.stem.removeprefix("coco_pope_")
            yield from numbered(lines(path, self.holds, self.source), f"{sampling} line")

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        sampling, image = place.split()[0], self.image(raw.get("image"))
        number = identifier(raw, "question_id")
        return _pope(sampling, number, text(raw, "text"), raw, "label", image, "")

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question | None:
        sampling = one_of(raw, "split", SAMPLINGS)
        if self.split not in ("all", sampling):
            return None
        number, image = identifier(raw, "split_question_id"), self.indexed_image(raw)
        return _pope(sampling, number, text(raw, "question"), raw, "answer", image, place)


def _pope(
    sampling: str,
    number: str,
    asked: str,
    raw: Mapping[str, Any],
    label: str,
    image: Path,
    suite_id: str,
) -> Question:
    answer = one_of(raw, label, ("yes", "no"))
    return Question(f"{sampling}/{number}", asked, answer, image, (sampling,), suite_id=suite_id)


class VsrFiles(QuestionFiles):
    """VSR: statements of where things are; the zero-shot splits, images of COCO."""

    holds = "VSR's statements, one object {image, caption, label} a line"
    splits = ("test", "dev", "train")
    image_folders = ("vsr/images", "download/vsr/images")
    id_name = "id"

    def _files(self) -> list[Path]:
        name = f"{self.split}.jsonl"
        return [self.find(f"vsr/{name}", f"vsr/splits/zeroshot/{name}", f"download/vsr/{name}")]

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        return numbered(lines(self.main_file, self.holds, self.source), "line")

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        label = whole_number(raw, "label")
        if label not in (0, 1):
            raise RowError(f"`label` must be 0 or 1, found {label}")
        # Statements have no id: the suite counts them, from 0, and so is done here.
        number = str(int(place.removeprefix("line ")) - 1)
        return _statement(number, raw, bool(label), self.image(raw.get("image")))

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question:
        if not isinstance(raw.get("true_false"), bool):
            raise RowError("`true_false` must be true or false")
        number = identifier(raw, "example_id")
        return _statement(number, raw, raw["true_false"], self.indexed_image(raw))


def _statement(number: str, raw: Mapping[str, Any], is_true: bool, image: Path) -> Question:
    answer = "yes" if is_true else "no"
    return Question(number, text(raw, "caption"), answer, image, suite_id=number)
