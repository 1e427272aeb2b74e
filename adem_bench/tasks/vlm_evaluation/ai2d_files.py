"""AI2D: multiple-choice questions about school-book diagrams, a file of questions a diagram."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from adem_bench.data.reading import RowError, broken, load_json, missing
from adem_bench.files import read_text
from adem_bench.tasks.vlm_evaluation.files import (
    Question,
    QuestionFiles,
    identifier,
    one_of,
    text,
    texts,
    whole_number,
)

IDS_HOLD = "AI2D's test images, one number a line"
MIN_CHOICES, MAX_CHOICES = 2, 5


class Ai2dFiles(QuestionFiles):
    """AI2D: images that are not named by the file of test images are the split `val`."""

    holds = "AI2D's questions, an object {imageName, questions}"
    splits = ("all", "test", "val")
    groups = ("test", "val")
    image_folders = ("ai2d/images", "download/ai2d/val_qa/images")
    id_name = "id"

    @cached_property
    def _question_files(self) -> list[Path]:
        folders = [self.root / "ai2d/questions", self.root / "download/ai2d/val_qa/questions"]
        for folder in folders:
            files = [path for path in folder.glob("*.json") if not path.name.startswith(".")]
            if files:
                return sorted(files, key=lambda path: (_number(path.name), path.name))
        raise missing(folders[0], "a folder of AI2D's questions, one file a diagram", self.source)

    @cached_property
    def _ids_file(self) -> Path:
        name = "ai2d_test_ids.csv"
        return self.find(f"ai2d/{name}", f"download/ai2d/{name}", what=IDS_HOLD)

    def _files(self) -> list[Path]:
        return [self._ids_file, *self._question_files]

    @property
    def main_file(self) -> Path:
        """The folder of questions, or the suite's index."""
        return self.index or self._question_files[0].parent

    @cached_property
    def _test_images(self) -> set[int]:
        try:
            rows = read_text(self._ids_file).split()
            return {int(row.split(",")[0]) for row in rows}
        except (OSError, ValueError) as error:
            raise broken(self._ids_file, IDS_HOLD, str(error), self.source) from error

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        for path in self._question_files:
            raw = load_json(path, self.holds, self.source)
            asked = raw.get("questions") if isinstance(raw, dict) else None
            if not isinstance(asked, dict):
                yield path.name, raw
                continue
            for number, (words, row) in enumerate(asked.items(), 1):
                found = {"file": path.name, "image": raw.get("imageName"), "question": words}
                yield f"{path.name} question {number}", {**found, "row": row}

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question | None:
        row = raw.get("row")
        if not isinstance(row, dict):
            raise RowError("expected `questions`, an object of objects")
        group = "test" if _number(raw["file"]) in self._test_images else "val"
        if self.split not in ("all", group):
            return None
        named = {"question": raw["question"], "id": row.get("questionId"), "split": group}
        answered = {"choices": row.get("answerTexts"), "answer": row.get("correctAnswer")}
        image = self.image(raw["image"])
        return _question({**named, **answered}, identifier(named, "id"), image, "")

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question | None:
        group = one_of(raw, "split", self.groups)
        if self.split not in ("all", group):
            return None
        image, number = self.indexed_image(raw), identifier(raw, "question_id")
        answered = {"choices": raw.get("answer_choices"), "answer": raw.get("answer_label")}
        # The suite counts questions in the order in which its file system lists them.
        return _question({**raw, **answered}, f"{image.name}#{number}", image, place)


def _question(raw: Mapping[str, Any], question_id: str, image: Path, suite_id: str) -> Question:
    choices, answer = texts(raw["choices"], "choices"), whole_number(raw, "answer")
    if not MIN_CHOICES <= len(choices) <= MAX_CHOICES:
        raise RowError(f"{len(choices)} options, expected {MIN_CHOICES} to {MAX_CHOICES}")
    if not 0 <= answer < len(choices):
        raise RowError(f"the answer must be the index of an option, found {answer}")
    return Question(
        id=question_id,
        text=text(raw, "question"),
        reference=answer,
        image=image,
        groups=(str(raw["split"]),),
        choices=tuple(choices),
        suite_id=suite_id,
    )


def _number(name: str) -> int:
    """Return the number of a diagram, which its files start with; -1 without one."""
    found = re.match("[0-9]{1,9}", name)
    return int(found.group()) if found else -1
