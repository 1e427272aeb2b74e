"""Rows of the mini world in the columns of lmms-eval's data sets, a generator for each kind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from adem_bench.tasks.base import build_task

ROWS = 12
LETTERS = "ABCDE"
Row = dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    """A data set of the hub: what of it a task reads."""

    place: str
    configuration: str
    split: str
    rows: Callable[[], Iterator[Row]]
    images: tuple[str, ...] = ("image",)
    """Columns with an image, or with a list of images."""


def choices() -> Iterator[Row]:
    """Yield multiple choice questions."""
    kept = (sample for sample in build_task("mini_sqa", None).samples() if sample.images)
    for number, sample in enumerate(islice(kept, ROWS)):
        yield {
            "number": number,
            "image": str(sample.images[0]),
            "question": sample.fields["question"],
            "hint": sample.fields.get("hint", ""),
            "options": list(sample.fields["choices"]),
            "right": int(str(sample.reference)),
        }


def yes_no() -> Iterator[Row]:
    """Yield yes/no questions, two to an image."""
    for number, sample in enumerate(islice(build_task("mini_mme", None).samples(), ROWS)):
        yield {
            "number": number,
            "image": str(sample.images[0]),
            "question": sample.fields["question"],
            "answer": str(sample.reference),
        }


def captions() -> Iterator[Row]:
    """Yield images with captions."""
    samples = build_task("mini_caption", None).samples()
    for number, sample in enumerate(islice(samples, ROWS)):
        yield {
            "number": number,
            "image": str(sample.images[0]),
            "captions": list(sample.reference),
        }


def columns(rows: Callable[[], Iterator[Row]], **made: Any) -> Callable[[], Iterator[Row]]:
    """Return a generator of rows with an image and other columns.

    Args:
        rows: One of the generators above.
        **made: Of each column what makes it of such a row, or which of the row's values it is.
    """

    def found() -> Iterator[Row]:
        for row in rows():
            columns = {"image": "image", **made}
            yield {
                name: how(row) if callable(how) else row[how]
                for name, how in columns.items()
                if how is not None
            }

    return found


def letter(row: Row) -> str:
    return LETTERS[row["right"]]


def lettered(row: Row) -> str:
    texts = (f"{letter}. {text}" for letter, text in zip(LETTERS, row["options"], strict=False))
    return "\n".join([row["question"], *texts])


def lower(row: Row) -> str:
    return str(row["answer"]).lower()


def number(row: Row) -> str:
    return str(row["number"])


def among(*names: str) -> Callable[[Row], str]:
    """Return what gives each row one of some names, by turns."""
    return lambda row: names[row["number"] % len(names)]


def always(value: Any) -> Callable[[Row], Any]:
    return lambda row: value


def box(row: Row) -> list[float]:
    place = row["number"]
    return [4.0 + place, 6.0, 20.0, 10.0 + place]


MATHEMATICS = {
    "image": None,
    "decoded_image": "image",
    "pid": number,
    "question": "question",
    "query": lambda row: f"Question: {row['question']}\nSolution:",
    "choices": "options",
    "answer": lambda row: row["options"][row["right"]],
    "question_type": always("multi_choice"),
    "answer_type": always("text"),
    "precision": always(0.0),
    "unit": always(""),
    "caption": always(""),
    "ocr": always(""),
    "metadata": lambda row: {
        "split": "testmini",
        "language": "english",
        "source": among("IconQA", "FigureQA")(row),
        "category": among("math-targeted-vqa", "general-vqa")(row),
        "task": "figure question answering",
        "context": "synthetic scene",
        "grade": "elementary school",
        "skills": ["arithmetic reasoning", "statistical reasoning"][: 1 + row["number"] % 2],
    },
}
MMMU = {
    "question": lambda row: f"Look at <image 1> and <image 2>. {row['question']}",
    "image": None,
    "image_1": "image",
    "image_2": "image",
    "id": lambda row: f"validation_{among('Art', 'Math')(row)}_{row['number']}",
    "question_type": among("multiple-choice", "multiple-choice", "open"),
    "options": lambda row: repr(row["options"]),
    "answer": lambda row: letter(row) if row["number"] % 3 != 2 else "Yes",
}
BLINK = {
    "image": None,
    "image_1": "image",
    "image_2": "image",
    "image_3": always(None),
    "idx": lambda row: f"val_Counting_{row['number'] + 1}",
    "sub_task": always("Counting"),
    "prompt": lettered,
    "question": "question",
    "choices": "options",
    "answer": lambda row: f"({letter(row)})",
}
TASKS: Mapping[str, tuple[DataSet, ...]] = {
    "ai2d": (
        DataSet(
            "lmms-lab-encoder/ai2d",
            "default",
            "test",
            columns(
                choices,
                question="question",
                options="options",
                answer=lambda row: str(row["right"]),
            ),
        ),
    ),
    "scienceqa_img": (
        DataSet(
            "lmms-lab-encoder/ScienceQA",
            "ScienceQA-IMG",
            "test",
            columns(choices, question="question", choices="options", hint="hint", answer="right"),
        ),
    ),
    "realworldqa": (
        DataSet(
            "lmms-lab-encoder/RealWorldQA",
            "default",
            "test",
            columns(choices, question=lettered, answer=letter),
        ),
    ),
    "mmstar": (
        DataSet(
            "Lin-Chen/MMStar",
            "default",
            "val",
            columns(
                choices,
                question=lettered,
                answer=letter,
                index="number",
                category=among("math", "logical reasoning"),
                l2_category=among("geometry", "numbers", "deduction"),
            ),
        ),
    ),
    "seedbench": (
        DataSet(
            "lmms-lab-encoder/SEED-Bench",
            "default",
            "test",
            columns(
                choices,
                image=lambda row: [row["image"]],
                question="question",
                question_id=number,
                answer=letter,
                data_type=among("image", "video"),
                **{
                    f"choice_{name}": lambda row, place=place: (row["options"] * 4)[place]
                    for place, name in enumerate("abcd")
                },
            ),
        ),
    ),
    "muirbench": (
        DataSet(
            "MUIRBENCH/MUIRBENCH",
            "default",
            "test",
            columns(
                choices,
                image=None,
                image_list=lambda row: [row["image"]] * (2 + row["number"] % 2),
                question=lambda row: f"<image><image> {row['question']}",
                options="options",
                answer=letter,
                idx=number,
                task=among("Counting", "Ordering"),
                image_relation=among("Temporal", "Partial"),
                image_type=always("Photography"),
            ),
            images=("image_list",),
        ),
    ),
    "mmmu_val": (
        DataSet(
            "lmms-lab-encoder/MMMU",
            "default",
            "validation",
            columns(choices, **MMMU),
            images=("image_1", "image_2"),
        ),
    ),
    "blink_counting": (
        DataSet(
            "BLINK-Benchmark/BLINK",
            "Counting",
            "val",
            columns(choices, **BLINK),
            images=("image_1", "image_2", "image_3"),
        ),
    ),
    "pope": (
        DataSet(
            "lmms-lab-encoder/POPE",
            "default",
            "test",
            columns(yes_no, question="question", question_id=number, answer=lower),
        ),
    ),
    "mme": (
        DataSet(
            "lmms-lab-encoder/MME",
            "default",
            "test",
            columns(
                yes_no,
                question="question",
                question_id=lambda row: f"{row['number'] // 2}.png",
                answer="answer",
                category=lambda row: ("existence", "count", "code_reasoning")[row["number"] // 4],
            ),
        ),
    ),
    "gqa": (
        DataSet(
            "lmms-lab-encoder/GQA",
            "testdev_balanced_instructions",
            "testdev",
            columns(yes_no, image=None, question="question", answer=lower, imageId=number),
            images=(),
        ),
        DataSet(
            "lmms-lab-encoder/GQA",
            "testdev_balanced_images",
            "testdev",
            columns(yes_no, id=number),
        ),
    ),
    "vqav2_val": (
        DataSet(
            "lmms-lab-encoder/VQAv2",
            "default",
            "validation",
            columns(
                yes_no,
                question="question",
                question_id="number",
                answers=lambda row: [
                    {"answer": lower(row) if place < 7 else "maybe", "answer_id": place + 1}
                    for place in range(10)
                ],
                multiple_choice_answer=lower,
            ),
        ),
    ),
    "ok_vqa_val2014": (
        DataSet(
            "lmms-lab-encoder/OK-VQA",
            "default",
            "val2014",
            columns(
                yes_no,
                question="question",
                question_id="number",
                answers=lambda row: [lower(row)] * 7 + ["maybe"] * 3,
                answer=lower,
            ),
        ),
    ),
    "textvqa_val": (
        DataSet(
            "lmms-lab-encoder/textvqa",
            "default",
            "validation",
            columns(
                yes_no,
                question="question",
                question_id="number",
                answers=lambda row: [lower(row)] * 7 + ["maybe"] * 3,
                answer=lower,
                ocr_tokens=always(["a"]),
            ),
        ),
    ),
    "vizwiz_vqa_val": (
        DataSet(
            "lmms-lab-encoder/VizWiz-VQA",
            "default",
            "val",
            columns(
                yes_no,
                question="question",
                question_id=number,
                answers=lambda row: [lower(row)] * 9 + ["unanswerable"],
                category=among("yes/no", "other"),
            ),
        ),
    ),
    "docvqa_val": (
        DataSet(
            "lmms-lab-encoder/DocVQA",
            "DocVQA",
            "validation",
            columns(
                yes_no,
                question="question",
                questionId=number,
                answers=lambda row: [row["answer"], "perhaps"],
            ),
        ),
    ),
    "chartqa": (
        DataSet(
            "lmms-lab-encoder/ChartQA",
            "default",
            "test",
            columns(
                yes_no,
                question="question",
                answer=lambda row: str(row["answer"] if row["number"] % 2 else row["number"]),
                type=among("human_test", "augmented_test"),
            ),
        ),
    ),
    "ocrbench": (
        DataSet(
            "echo840/OCRBench",
            "default",
            "test",
            columns(
                yes_no,
                question="question",
                dataset=always("mini"),
                answer=lambda row: [row["answer"]],
                question_type=among(
                    "Regular Text Recognition", "Doc-oriented VQA", "Scene Text-centric VQA"
                ),
            ),
        ),
    ),
    "mathvista_testmini_format": (
        DataSet(
            "AI4Math/MathVista",
            "default",
            "testmini",
            columns(choices, **MATHEMATICS),
            images=("decoded_image",),
        ),
    ),
    "coco2017_cap_val": (
        DataSet(
            "lmms-lab-encoder/COCO-Caption2017",
            "default",
            "val",
            columns(
                captions,
                question_id=lambda row: f"{row['number']:012}.jpg",
                id="number",
                answer="captions",
            ),
        ),
    ),
    "refcoco_bbox_val": (
        DataSet(
            "lmms-lab-encoder/RefCOCO",
            "default",
            "val",
            columns(captions, question_id=number, answer="captions", bbox=box),
        ),
    ),
    "refcoco_bbox_rec_val": (
        DataSet(
            "lmms-lab-encoder/RefCOCO",
            "default",
            "val",
            columns(captions, question_id=number, answer="captions", bbox=box),
        ),
    ),
}
"""Tasks of every kind, and the data that they read."""
JUDGED = ("mathvista_testmini_format",)
"""Scored by a judge."""
CHAT = ("mmmu_val", "blink_counting")
"""Asked as lmms-eval asks models that chat."""
ANSWERS = {
    "refcoco_bbox_rec_val": ("[0.1, 0.1, 0.4, 0.5]", "It is [0.05,0.2,0.6,0.9].", "left", ""),
    "coco2017_cap_val": ("a red square on the left", "two blue circles", "a shape.", "nothing"),
    "refcoco_bbox_val": ("a red square on the left", "two blue circles", "a shape.", "nothing"),
    "chartqa": ("Yes", "2", "4.1", "10%", "no"),
}
OTHERS = (
    *("Yes", "no", "yes.", "A", "B", "(C)", "The answer is (A).", "A. red", "1"),
    *("<think>It is no.</think>Yes", "No\n\nYes", ""),
)


def answers(task: str, count: int) -> list[str]:
    """Return answers to a task, right and wrong, plain and wordy."""
    draw = random.Random(task)
    return [draw.choice(ANSWERS.get(task, OTHERS)) for _ in range(count)]


def write_requests(file: Path) -> None:
    """Write the rows of all data sets, for the script that makes a cache of them."""
    found = {
        (one.place, one.configuration, one.split): {
            "place": one.place,
            "configuration": one.configuration,
            "split": one.split,
            "images": one.images,
            "rows": list(one.rows()),
        }
        for data_sets in TASKS.values()
        for one in data_sets
    }
    file.write_text(json.dumps(list(found.values())))
