"""Data sets with (usually ten) answers of people a question: VQAv2, VizWiz and TextVQA."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from adem_bench.data.reading import RowError, broken
from adem_bench.data.streaming import array_items, lines, object_items
from adem_bench.schemas import DataSource
from adem_bench.tasks.vlm_evaluation.files import (
    Question,
    QuestionFiles,
    identifier,
    numbered,
    text,
    texts,
    whole_number,
)

ANSWER_TYPES = ("yes/no", "number", "other")
QUESTIONS_HOLD = "VQAv2's questions, an object with a list `questions`"
ANNOTATIONS_HOLD = "VQAv2's answers, an object with a list `annotations`"
TOKENS_HOLD = "TextVQA's OCR tokens, an object with a list `data` of {image_id, ocr_tokens}"
SUITE_TOKENS_HOLD = "TextVQA's questions with OCR tokens, one per line, in the order of the data"
SUITE_TOKENS = re.compile(r"\nReference OCR token:([^\n]*)")
"""How the suite's files add OCR tokens to a question (textvqa.py)."""


class VqaV2Files(QuestionFiles):
    """VQAv2: questions and answers in two files, images of COCO 2014."""

    holds = ANNOTATIONS_HOLD
    splits = ("val", "train")
    groups = ANSWER_TYPES
    image_folders = (
        "images/{split}2014",
        "vqav2/{split}2014",
        "download/vqa-v2/images_{split}2014",
    )
    has_whole_ids = True

    def _files(self) -> list[Path]:
        name = f"mscoco_{self.split}2014"
        return [
            self.find(
                f"vqav2/v2_{name}_annotations.json",
                f"download/vqa-v2/v2_{self.split}2014_annotations.json",
            ),
            self.find(
                f"vqav2/v2_OpenEnded_{name}_questions.json",
                f"download/vqa-v2/v2_{self.split}2014_questions.json",
                what=QUESTIONS_HOLD,
            ),
        ]

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        return numbered(array_items(self.main_file, "annotations", self.holds, self.source))

    @cached_property
    def _texts(self) -> Mapping[int, str]:
        """Questions by number: few next to the answers, which are read one by one."""
        path = self._files()[1]
        rows = array_items(path, "questions", QUESTIONS_HOLD, self.source)
        try:
            return {int(row["question_id"]): row["question"] for row in rows}
        except (TypeError, KeyError, ValueError) as error:
            found = f"a question without question_id or question ({error!r})"
            raise broken(path, QUESTIONS_HOLD, found, self.source) from error

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        number = whole_number(raw, "question_id")
        if number not in self._texts:
            raise RowError(f"the file of questions has none with the number {number}")
        name = f"COCO_{self.split}2014_{whole_number(raw, 'image_id'):012d}.jpg"
        return self._question(number, {"question": self._texts[number]}, raw, self.image(name))

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question:
        answers = texts(raw.get("all_answers"), "all_answers")
        row = {**raw, "answers": [{"answer": answer} for answer in answers]}
        return self._question(whole_number(raw, "question_id"), raw, row, self.indexed_image(raw))

    def _question(
        self, number: int, asked: Mapping[str, Any], answered: Mapping[str, Any], image: Path
    ) -> Question:
        answer_type = answered.get("answer_type")
        return Question(
            id=str(number),
            text=text(asked, "question"),
            reference=answers_of(answered),
            image=image,
            groups=tuple(name for name in ANSWER_TYPES if name == answer_type),
            suite_id=str(number),
        )


class VizWizFiles(QuestionFiles):
    """VizWiz: photographs and questions of blind people, some of which cannot be answered."""

    holds = "VizWiz's questions, a list of {image, question, answers, answerable}"
    splits = ("val", "train")
    groups = ("answerable", "unanswerable")
    image_folders = ("vizwiz/{split}", "vizwiz/images/{split}", "download/vizwiz/{split}_images")
    id_name = "image"

    def _files(self) -> list[Path]:
        name = f"{self.split}.json"
        return [
            self.find(f"vizwiz/Annotations/{name}", f"vizwiz/{name}", f"download/vizwiz/{name}")
        ]

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        return numbered(array_items(self.main_file, "", self.holds, self.source))

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        # The suite numbers questions by their place, from 0.
        number = int(place.removeprefix("row ")) - 1
        return self._question(raw, raw.get("answers"), self.image(raw.get("image")), str(number))

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question:
        answers = raw.get("answers")
        # The suite wraps the list of answers into one more.
        inner = answers[0] if isinstance(answers, list) and len(answers) == 1 else answers
        return self._question(raw, inner, self.indexed_image(raw), identifier(raw, "question_id"))

    def _question(
        self, raw: Mapping[str, Any], answers: object, image: Path, suite_id: str
    ) -> Question:
        if raw.get("answerable") not in (0, 1):
            raise RowError(f"`answerable` must be 0 or 1, found {raw.get('answerable')!r:.60}")
        return Question(
            id=image.name,
            text=text(raw, "question"),
            reference=answers_of({"answers": answers}),
            image=image,
            groups=(self.groups[0] if raw["answerable"] else self.groups[1],),
            suite_id=suite_id,
        )


class TextVqaFiles(QuestionFiles):
    """TextVQA: questions about text in images, with or without what an OCR program read."""

    holds = "TextVQA's questions, an object with a list `data`"
    splits = ("val", "train")
    image_folders = (
        "textvqa/train_images",
        "textvqa/train_val_images",
        "download/text-vqa/train_val_images",
    )
    has_whole_ids = True

    def __init__(
        self, root: Path, split: str, source: DataSource, index: str = "", ocr_tokens: bool = False
    ) -> None:
        """Name the files; nothing is read yet.

        Args:
            root: The data root.
            split: One of `splits`.
            source: Where the data is to be had, for messages.
            index: An index file of the suite below the data root, to be read instead.
            ocr_tokens: Whether questions come with what an OCR program read in the image.
        """
        super().__init__(root, split, source, index)
        self.ocr_tokens = ocr_tokens

    def _files(self) -> list[Path]:
        name = f"TextVQA_0.5.1_{self.split}.json"
        main = self.find(f"textvqa/{name}", f"download/text-vqa/{name}")
        return [main, self._tokens_file] if self.ocr_tokens else [main]

    @cached_property
    def _tokens_file(self) -> Path:
        name = f"TextVQA_Rosetta_OCR_v0.2_{self.split}.json"
        suite = f"textvqa_{self.split}_v051_ocr.jsonl"
        return self.find(
            f"textvqa/{name}",
            f"download/text-vqa/{name}",
            f"textvqa/{suite}",
            f"download/text-vqa/{suite}",
            what=TOKENS_HOLD,
        )

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        return numbered(array_items(self.main_file, "data", self.holds, self.source))

    @cached_property
    def _tokens(self) -> Mapping[str, list[Any]]:
        """OCR tokens by image, or by place among the questions in the suite's file."""
        path = self._tokens_file
        try:
            if path.suffix == ".jsonl":
                rows = numbered(lines(path, SUITE_TOKENS_HOLD, self.source))
                return {place: split_suite_tokens(row["text"])[1] for place, row in rows}
            rows_ = array_items(path, "data", TOKENS_HOLD, self.source)
            return {row["image_id"]: row["ocr_tokens"] for row in rows_}
        except (TypeError, KeyError) as error:
            found = f"a row without its fields ({error!r})"
            raise broken(path, TOKENS_HOLD, found, self.source) from error

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        image = identifier(raw, "image_id")
        tokens: list[str] = []
        if self.ocr_tokens:
            found = self._tokens.get(place, self._tokens.get(image))
            if found is None:
                raise RowError(f"{self._tokens_file.name} has no tokens of image {image!r}")
            tokens = texts(found, "ocr_tokens") if found else []
        return self._question(raw, text(raw, "question"), tokens, self.image(f"{image}.jpg"))

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question:
        asked, tokens = split_suite_tokens(text(raw, "question"))
        return self._question(
            raw, asked, tokens if self.ocr_tokens else [], self.indexed_image(raw)
        )

    def _question(
        self, raw: Mapping[str, Any], asked: str, tokens: list[str], image: Path
    ) -> Question:
        answers = [sys.intern(answer) for answer in texts(raw.get("answers"), "answers")]
        number = str(whole_number(raw, "question_id"))
        return Question(number, asked, list(answers), image, (), (), tuple(tokens), number)


def answers_of(raw: Mapping[str, Any]) -> list[Any]:
    """Return the answers of `{answers: [{answer: text}]}`.

    Raises:
        RowError: something else.
    """
    rows = raw.get("answers")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RowError("`answers` must be a list of {answer: text}")
    # A few thousand texts make up most of two million answers.
    return [sys.intern(answer) for answer in texts([r.get("answer") for r in rows], "answers")]


def split_suite_tokens(asked: str) -> tuple[str, list[str]]:
    """Return a question and the OCR tokens that the suite's files write behind it."""
    found = SUITE_TOKENS.search(asked)
    if not found:
        return asked, []
    return asked[: found.start()], [token for token in found[1].strip().split(", ") if token]


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
