"""Small data sets in the columns of VLMEvalKit's TSVs."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

Row = dict[str, Any]


def picture(colour: str = "red", size: tuple[int, int] = (64, 48), form: str = "PNG") -> str:
    """Returns an image as base64."""
    stream = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(stream, form)
    image = Image.open(stream)
    image.paste(colour, (0, 0, size[0] // 2, size[1]))
    stream = io.BytesIO()
    image.save(stream, form)
    return base64.b64encode(stream.getvalue()).decode()


RED = picture()
BLUE = picture("blue", form="JPEG")
CHOICE: Row = {"question": "What is it?", "A": "a cat", "B": "a dog", "C": "", "answer": "B"}


def choice_rows(**more: Any) -> list[Row]:
    """Two questions, the second on the first's image."""
    first = {"index": 1, "image": RED, **CHOICE, "category": "animals", **more}
    second = {**first, "index": 2, "image": "1", "answer": "A", "category": "things"}
    return [first, second]


def miniature(card: str) -> tuple[str, list[Row]]:
    """Returns a card's file name and rows in its format; "Yes", "B" and "a cat" are right twice."""
    val = {"split": "validation"}
    base = {"index": 7, "image": RED, **CHOICE, "l2-category": "attribute", "split": "dev"}
    yes = {"question": "Is it a cat?", "answer": "Yes", "image": RED}
    text = {"question": "What is written?", "answer": "['a cat', 'cat']", "image": BLUE}
    choice = choice_rows()

    def twice(**more: Any) -> list[Row]:
        return [{"index": n, **text, **more} for n in (1, 2)]

    rows: dict[str, tuple[str, list[Row]]] = {
        "mmbench": (
            "MMBench_DEV_EN",
            [
                base,
                {**base, "index": 1_000_007, "image": "7", "A": "a dog", "B": "a cat"},
            ],
        ),
        "seedbench": ("SEEDBench_IMG", choice),
        "ai2d_tsv": ("AI2D_TEST", choice),
        "mmstar": ("MMStar", choice_rows(**{"l2-category": "coarse"})),
        "realworldqa": ("RealWorldQA", choice),
        "scienceqa_tsv": ("ScienceQA_TEST", choice_rows(hint="A hint.")),
        "mmmu": (
            "MMMU_DEV_VAL",
            [
                {**choice[0], "split": "dev"},
                {**choice[0], "index": "val_1", "image": f"['{RED}', '{BLUE}']", **val},
                {"index": "val_2", "image": RED, "question": "How many?", "answer": "24", **val},
            ],
        ),
        "mme_tsv": (
            "MME",
            [
                {"index": n, **yes, "answer": answer, "category": "OCR", "image_path": "OCR/1.png"}
                for n, answer in enumerate(("Yes", "No"))
            ],
        ),
        "pope_tsv": (
            "POPE",
            [
                {"index": n, **yes, "category": category}
                for n, category in enumerate(("random", "popular,adversarial"))
            ],
        ),
        "hallusionbench": (
            "HallusionBench",
            [
                {"index": f"VD_f_{n}_0_{n}_1", **yes, "category": "VD", "l2-category": "f"}
                for n in (0, 1)
            ],
        ),
        "textvqa_tsv": ("TextVQA_VAL", twice(answer=str(["a cat"] * 10))),
        "docvqa": ("DocVQA_VAL", twice()),
        "chartqa": ("ChartQA_TEST", twice(answer="a cat", split="human")),
        "ocrbench": ("OCRBench", twice(category="Doc-oriented VQA")),
        "mathvista": (
            "MathVista_MINI",
            [
                {
                    "index": 1, "image": RED, "question": "?", "question_type": "multi_choice",
                    "answer_type": "text", "choices": "['a dog', 'a cat']", "answer": "a cat",
                    "answer_option": "B", "precision": "", "task": "plane", "skills": "['logic']",
                },
                {
                    "index": 2, "image": RED, "question": "?", "question_type": "free_form",
                    "answer_type": "text", "choices": "", "answer": "A cat.", "answer_option": "",
                    "precision": "", "task": "figure", "skills": "['logic', 'algebra']",
                },
            ],
        ),
        "coco_tsv": (
            "COCO_VAL",
            [{"index": n, "image": RED, "answer": "['A cat.', \"It's a cat\"]"} for n in (1, 2)],
        ),
    }  # fmt: skip
    return rows[card]
