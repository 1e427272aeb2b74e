"""Writes the mini world below a data root, in the layouts of the official data sets.

ScienceQA: `scienceqa/{problems,pid_splits,captions}.json`, `scienceqa/images/SPLIT/QID/image.png`.
Captions: `coco_caption/coco_karpathy_SPLIT.json` and `…_gt.json`, `images/{val,train}2014/….png`.
MME (test): `MME_Benchmark_release_version/SUBTASK/…`; its training questions are instruction
data as LaVIN has them: `all_data.json`, `cocoimages/train/COCO_train2014_….png`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from adem_bench.errors import ResultsError
from adem_bench.mini.drawing import encode_png, paint
from adem_bench.mini.items import CaptionItem, YesNoItem, caption_items, yes_no_items
from adem_bench.mini.science import Problem, science_problems
from adem_bench.mini.text import describe
from adem_bench.mini.world import Scene, Split
from adem_bench.prompts import TEMPLATE
from adem_bench.tasks.mme.files import IMAGES, NESTED_SUBTASKS, QUESTIONS, TREE

DEFAULT_SEED = 20240601
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SCIENCE_SIZE, CAPTION_SIZE, MME_IMAGES = 300, 150, 20
"""Items of the val and test splits: problems, captioned images, images of each MME subtask."""
TRAIN_MME_SUBTASK_SHARE = 16
"""Each of the eight subtasks has two questions per image."""
FIRST_ID = {"train": 1, "val": 1_000_001, "test": 2_000_001}
"""Ids of problems and captioned images, apart for each split as in the official files."""
Json = dict[str, Any]


def write_mini(
    root: Path,
    splits: Sequence[str] = ("test",),
    train_size: int = 6000,
    seed: int = DEFAULT_SEED,
) -> None:
    """Write the three mini benchmarks below a data root.

    The same arguments give the same bytes on every machine. Files of an earlier call with
    other splits are replaced.

    Args:
        root: Data root; created if missing.
        splits: Any of `train`, `val` and `test`; MME has no `val`.
        train_size: Items of each benchmark's train split; the others have fixed sizes.
        seed: Chooses the items. Scenes never cross splits, whatever the seed.

    Raises:
        ValueError: unknown split.
        ResultsError: the folder cannot be written.
    """
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown:
        raise ValueError(f"unknown split {unknown[0]!r}; known: {', '.join(SPLITS)}")
    chosen = [split for split in SPLITS if split in splits]
    try:
        _write_science(root / "scienceqa", chosen, train_size, seed)
        _write_captions(root, chosen, train_size, seed)
        if "test" in chosen:
            items = yes_no_items("test", MME_IMAGES, seed)
            _write_mme(root / TREE, items)
        if "train" in chosen:
            _write_instructions(root, train_images_per_subtask(train_size), seed)
    except OSError as error:
        raise ResultsError(
            f"cannot write the mini benchmark to {root}: {error.strerror or error}"
        ) from error


def train_images_per_subtask(train_size: int) -> int:
    """Return the even number of images that makes about `train_size` MME questions."""
    return max(2, train_size // TRAIN_MME_SUBTASK_SHARE // 2 * 2)


def _write_science(folder: Path, splits: Iterable[Split], train_size: int, seed: int) -> None:
    problems: Json = {}
    pids: dict[str, list[str]] = {}
    captions: dict[str, str] = {}
    for split in splits:
        made = science_problems(split, train_size if split == "train" else SCIENCE_SIZE, seed)
        pids[split] = [str(FIRST_ID[split] + index) for index in range(len(made))]
        pids[f"mini{split}"] = pids[split][::10]
        for pid, problem in zip(pids[split], made, strict=True):
            problems[pid] = _science_row(problem, split)
            if problem.scene is not None:
                captions[pid] = describe(problem.scene)
                _write_image(folder / "images" / split / pid / "image.png", problem.scene)
    names = ("train", "val", "test", "minitrain", "minival", "minitest")
    pids = {name: pids.get(name, []) for name in names}
    pids["trainval"] = pids["train"] + pids["val"]
    _write_json(folder / "problems.json", problems)
    _write_json(folder / "pid_splits.json", pids)
    _write_json(folder / "captions.json", {"captions": captions})


def _science_row(problem: Problem, split: Split) -> Json:
    return {
        "question": problem.question,
        "choices": list(problem.choices),
        "answer": problem.answer,
        "hint": problem.hint,
        "image": None if problem.scene is None else "image.png",
        "task": problem.task,
        "grade": f"grade{problem.grade}",
        "subject": problem.subject,
        "topic": problem.topic,
        "category": problem.skill,
        "skill": problem.skill,
        "lecture": problem.lecture,
        "solution": problem.solution,
        "split": split,
    }


def _write_captions(root: Path, splits: Iterable[Split], train_size: int, seed: int) -> None:
    for split in splits:
        items = caption_items(split, train_size if split == "train" else CAPTION_SIZE, seed)
        year = "train2014" if split == "train" else "val2014"
        files = {
            FIRST_ID[split] + index: f"{year}/COCO_{year}_{FIRST_ID[split] + index:012d}.png"
            for index in range(len(items))
        }
        for file, item in zip(files.values(), items, strict=True):
            _write_image(root / "images" / file, item.scene)
        folder = root / "coco_caption"
        rows = _train_rows if split == "train" else _test_rows
        _write_json(folder / f"coco_karpathy_{split}.json", rows(files, items))
        if split != "train":
            _write_json(folder / f"coco_karpathy_{split}_gt.json", _annotations(files, items))


def _train_rows(files: dict[int, str], items: Sequence[CaptionItem]) -> list[Json]:
    return [
        {"caption": caption, "image": file, "image_id": f"coco_{number}"}
        for (number, file), item in zip(files.items(), items, strict=True)
        for caption in item.captions
    ]


def _test_rows(files: dict[int, str], items: Sequence[CaptionItem]) -> list[Json]:
    return [
        {"image": file, "caption": item.captions}
        for file, item in zip(files.values(), items, strict=True)
    ]


def _annotations(files: dict[int, str], items: Sequence[CaptionItem]) -> Json:
    pairs = [
        (number, caption)
        for number, item in zip(files, items, strict=True)
        for caption in item.captions
    ]
    return {
        "annotations": [
            {"image_id": number, "caption": caption, "id": index}
            for index, (number, caption) in enumerate(pairs)
        ],
        "images": [{"id": number} for number in files],
    }


def _write_mme(folder: Path, items: Sequence[YesNoItem]) -> None:
    for index, item in enumerate(items):
        nested = item.subtask in NESTED_SUBTASKS
        images = folder / item.subtask / (IMAGES if nested else "")
        questions = folder / item.subtask / (QUESTIONS if nested else "")
        stem = f"{index % MME_IMAGES + 1:04d}"
        _write_image(images / f"{stem}.png", item.scene)
        text = f"{item.true_question}\tYes\n{item.false_question}\tNo\n"
        _write(questions / f"{stem}.txt", text.encode())


def _write_instructions(root: Path, images_per_subtask: int, seed: int) -> None:
    rows: list[Json] = []
    for index, item in enumerate(yes_no_items("train", images_per_subtask, seed)):
        image = f"{index + 1:012d}.png"
        _write_image(root / "cocoimages" / "train" / f"COCO_train2014_{image}", item.scene)
        for question, answer in ((item.true_question, "Yes"), (item.false_question, "No")):
            rows.append(
                {
                    "instruction": TEMPLATE.format(question=question),
                    "answer": answer,
                    "image": image,
                    "image_source": "mscoco",
                    "options": None,
                    "qid": f"mini_{len(rows)}",
                }
            )
    _write_json(root / "all_data.json", {"all": rows})


def _write_image(path: Path, scene: Scene) -> None:
    _write(path, encode_png(paint(scene)))


def _write_json(path: Path, data: Any) -> None:
    _write(path, (json.dumps(data, indent=1) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
