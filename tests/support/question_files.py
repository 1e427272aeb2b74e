"""Miniatures of the vlm-evaluation suite's data sets in their official layouts, and of its own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (64, 48)
PEOPLE = 10
REFERRED = ["[0.25, 0.25, 0.75, 0.75]"] * 2 + ["[0.5, 0.0, 1.0, 0.5]"]
RIGHT = {
    "vqav2": ["Two.", "red", "yes", "yes"],
    "gqa": ["Yes", "cat."],
    "vizwiz": ["a soup can", "unanswerable"],
    "textvqa": ["Nous les gosses", "10"],
    "refcoco": REFERRED,
    "family": REFERRED * 3,
    "ocid_ref": ["[0.1, 0.1, 0.3, 0.5]", "[0.5, 0.5, 0.75, 1.0]"],
    "tallyqa": ["3", "There are two."],
    "pope": ["Yes", "No, there is not."] * 3,
    "vsr": ["True.", "false"],
    "ai2d": ["A. leaf", "c", "B"],
}
"""Layout to a right answer for each question, in the reader's order."""


def put(root: Path, name: str, content: Any) -> Path:
    """Write a file; a text as it is, a list of lines as JSON lines, anything else as JSON."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".jsonl") or name.startswith("pope/"):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def picture(root: Path, name: str) -> None:
    """Write an image."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, "red").save(path)


def write_all(root: Path) -> Path:
    """Write every data set below a data root."""
    for write in (vqav2, gqa, vizwiz, textvqa, refcoco, ocid_ref, tallyqa, pope, vsr, ai2d):
        write(root)
    return root


def people(*answers: str) -> list[dict[str, Any]]:
    """Return the answers of ten annotators; the last one given fills up."""
    said = [*answers, *[answers[-1]] * (PEOPLE - len(answers))]
    return [{"answer": answer, "answer_id": n} for n, answer in enumerate(said, 1)]


def vqav2(root: Path) -> None:
    asked = ["How many dogs?", "What colour is it?", "Is it a dog?", "Is it {day}?"]
    types = [
        ("number", "how many"),
        ("other", "what color"),
        ("yes/no", "is it"),
        ("yes/no", "is it"),
    ]
    given = [
        people("2", "two"),
        people("red", "pink", "red"),
        people("yes"),
        people("yes", "no", "yes"),
    ]
    questions = [
        {"question_id": 1000 + n, "image_id": n // 2 + 1, "question": text}
        for n, text in enumerate(asked)
    ]
    annotations = [
        {
            "question_id": 1000 + n,
            "image_id": n // 2 + 1,
            "question_type": question_type,
            "answer_type": answer_type,
            "multiple_choice_answer": given[n][-1]["answer"],
            "answers": given[n],
        }
        for n, (answer_type, question_type) in enumerate(types)
    ]
    head = {"info": {"version": "2.0"}, "license": {"name": "CC"}, "data_type": "mscoco"}
    # Questions stand in another order than answers: they are joined by their number.
    put(
        root,
        "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
        {**head, "questions": questions[::-1]},
    )
    put(root, "vqav2/v2_mscoco_val2014_annotations.json", {**head, "annotations": annotations})
    for number in (1, 2):
        picture(root, f"images/val2014/COCO_val2014_{number:012d}.jpg")


def gqa(root: Path) -> None:
    rows = {
        "201": ("Is it on the left?", "yes", "verify", "rel"),
        "202": ("What animal is it?", "cat", "query", "obj"),
    }
    questions = {
        number: {
            "question": text,
            "answer": answer,
            "imageId": "n1",
            "isBalanced": True,
            "types": {"structural": structural, "semantic": semantic, "detailed": "x"},
        }
        for number, (text, answer, structural, semantic) in rows.items()
    }
    questions["203"] = {**questions["201"], "isBalanced": False}
    put(root, "gqa/testdev_balanced_questions.json", questions)
    picture(root, "gqa/images/n1.jpg")


def vizwiz(root: Path) -> None:
    rows = [
        ("What is this?", people("soup can", "soup", "soup can"), 1),
        ("What does it say?", people("unanswerable"), 0),
    ]
    put(
        root,
        "vizwiz/Annotations/val.json",
        [
            {
                "image": f"VizWiz_val_{n:08d}.jpg",
                "question": text,
                "answers": answers,
                "answer_type": "other",
                "answerable": answerable,
            }
            for n, (text, answers, answerable) in enumerate(rows)
        ],
    )
    for number in (0, 1):
        picture(root, f"vizwiz/val/VizWiz_val_{number:08d}.jpg")


def textvqa(root: Path) -> None:
    rows = [
        (34602, "what is the title?", ["nous les gosses"] * 9 + ["dvd"]),
        (34603, "what number?", ["10"] * 10),
    ]
    data = [
        {
            "question_id": number,
            "question": text,
            "image_id": "003a8ae2ef43b901",
            "answers": answers,
        }
        for number, text, answers in rows
    ]
    put(root, "textvqa/TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": data})
    tokens = [{"image_id": "003a8ae2ef43b901", "ocr_tokens": ["Nous", "les", "GOSSES"]}]
    put(root, "textvqa/TextVQA_Rosetta_OCR_v0.2_val.json", {"data": tokens})
    picture(root, "textvqa/train_images/003a8ae2ef43b901.jpg")


def refcoco(root: Path) -> None:
    for folder, division in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        refs = [
            {
                "ref_id": number,
                "ann_id": number * 10,
                "image_id": 7,
                "category_id": 1,
                "split": split,
                "file_name": "COCO_train2014_000000000007_1.jpg",
                "sentences": [
                    {"sent_id": 100 * number + n, "sent": sent, "tokens": sent.split(), "raw": sent}
                    for n, sent in enumerate(sentences)
                ],
            }
            for number, split, sentences in (
                (1, "val", ["the middle", "middle one"]),
                (2, "val", ["top right"]),
                (3, "train", ["unseen"]),
            )
        ]
        annotations = [
            {"id": 10, "image_id": 7, "bbox": [16, 12, 32, 24], "segmentation": [[1, 2]]},
            {"id": 20, "image_id": 7, "bbox": [32, 0, 32, 24], "segmentation": [[1, 2]]},
            {"id": 30, "image_id": 7, "bbox": [0, 0, 1, 1], "segmentation": [[1, 2]]},
        ]
        images = [{"id": 7, "width": SIZE[0], "height": SIZE[1], "file_name": "x.jpg"}]
        path = root / f"refcoco/{folder}/refs({division}).p"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(refs, protocol=2))
        instances = {"info": {}, "images": images, "annotations": annotations, "categories": []}
        put(root, f"refcoco/{folder}/instances.json", instances)
    picture(root, "images/train2014/COCO_train2014_000000000007.jpg")


def ocid_ref(root: Path) -> None:
    scene = "ARID20/table/bottom/seq05/rgb/result_2018-08-21-10-29-51.png"
    rows = {
        "31": {"bbox": "[64, 48, 192, 240]", "sentence": "the apple", "take_id": 3},
        "32": {"bbox": "[320, 240, 480, 480]", "sentence": "the box below", "take_id": 17},
    }
    rows = {number: {**row, "scene_path": scene} for number, row in rows.items()}
    put(root, "ocid_ref/val_expressions.json", rows)
    picture(root, f"ocid_ref/OCID-dataset/{scene}")


def tallyqa(root: Path) -> None:
    rows = [("How many cups?", 3, True), ("How many men wear hats?", 2, False)]
    put(
        root,
        "tallyqa/test.json",
        [
            {
                "image": "VG_100K_2/2410408.jpg",
                "question": text,
                "answer": answer,
                "issimple": simple,
                "question_id": 30095774 + n,
                "image_id": 92410408,
                "data_source": "amt",
            }
            for n, (text, answer, simple) in enumerate(rows)
        ],
    )
    picture(root, "tallyqa/VG_100K_2/2410408.jpg")


def pope(root: Path) -> None:
    for sampling in ("random", "popular", "adversarial"):
        rows = [
            ("Is there a dog in the image?", "yes"),
            (f"Is there a {sampling} in the image?", "no"),
        ]
        put(
            root,
            f"pope/coco_pope_{sampling}.json",
            [
                {
                    "question_id": n,
                    "image": "COCO_val2014_000000000001.jpg",
                    "text": text,
                    "label": label,
                }
                for n, (text, label) in enumerate(rows, 1)
            ],
        )
    picture(root, "images/val2014/COCO_val2014_000000000001.jpg")


def vsr(root: Path) -> None:
    rows = [("The cat is on the mat.", 1, "on"), ("The cat is under the mat.", 0, "under")]
    put(
        root,
        "vsr/test.jsonl",
        [
            {"image": "000000085637.jpg", "caption": text, "label": label, "relation": relation}
            for text, label, relation in rows
        ],
    )
    picture(root, "vsr/images/000000085637.jpg")


def ai2d(root: Path) -> None:
    asked = {
        "10": [("What is A?", ["root", "stem", "flower", "seed"], 1)],
        "2": [
            ("What falls?", ["leaf", "apple", "snow", "rain"], 0),
            ("Which is a frog?", ["a", "b", "c", "d"], 2),
        ],
    }
    for image, questions in asked.items():
        rows = {
            text: {
                "answerTexts": options,
                "correctAnswer": answer,
                "questionId": f"{image}.png-{n}",
            }
            for n, (text, options, answer) in enumerate(questions)
        }
        put(
            root,
            f"ai2d/questions/{image}.png.json",
            {"imageName": f"{image}.png", "questions": rows},
        )
        picture(root, f"ai2d/images/{image}.png")
    put(root, "ai2d/ai2d_test_ids.csv", "10\n999\n")
