"""GQA: questions made from scene graphs, each with one answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adem_bench.data.questions import Question, QuestionFiles, identifier, text
from adem_bench.data.streaming import object_items

STRUCTURES = ("verify", "query", "choose", "logical", "compare")
MEANINGS = {"obj": "object", "attr": "attribute", "cat": "category", "rel": "relation"}
MEANINGS |= {"global": "scene"}
"""Semantic types, as the official figures name them (eval.py)."""


class GqaFiles(QuestionFiles):
    """One file of questions by id; those that are not of the balanced set are left out."""

    holds = "GQA's questions, an object of {question, answer, imageId}"
    splits = ("testdev_balanced", "val_balanced", "train_balanced", "testdev_all", "val_all")
    groups = ("binary", "open", *STRUCTURES, *MEANINGS.values())
    image_folders = ("gqa/images", "download/gqa/images")
    id_name, answer_name = "questionId", "prediction"

    def _files(self) -> list[Path]:
        name = f"{self.split}_questions.json"
        return [self.find(f"gqa/{name}", f"gqa/questions1.2/{name}", f"download/gqa/{name}")]

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        rows = object_items(self.main_file, self.holds, self.source)
        return ((name, row) for name, row in rows if _is_balanced(row))

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        image = self.image(f"{identifier(raw, 'imageId')}.jpg")
        types = raw.get("types")
        known = types if isinstance(types, dict) else {}
        structure, meaning = known.get("structural"), MEANINGS.get(str(known.get("semantic")))
        kind = "open" if structure == "query" else "binary"
        names = (kind if structure else None, structure, meaning)
        groups = tuple(name for name in names if isinstance(name, str))
        return Question(
            place, text(raw, "question"), text(raw, "answer"), image, groups, suite_id=place
        )

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question:
        number = identifier(raw, "question_id")
        image = self.indexed_image(raw)
        return Question(number, text(raw, "question"), text(raw, "answer"), image, suite_id=number)


def _is_balanced(row: object) -> bool:
    return not isinstance(row, dict) or row.get("isBalanced") is not False
