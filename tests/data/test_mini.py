"""The mini world: the same bytes everywhere, official layouts, balance, disjoint splits."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adem_bench.mini import write_mini
from adem_bench.mini.drawing import encode_png, paint
from adem_bench.mini.items import SUBTASKS, caption_items, yes_no_items
from adem_bench.mini.science import science_problems
from adem_bench.mini.world import CELLS, COLORS, SHAPES, Scene, Thing

DIGESTS = {
    "scienceqa": "47aa8e442d867a247d10468cf91157ea71a62485d291c121e305882165da6ba7",
    "coco_caption": "771ef6dc160d77cffe549a707bb12493c36d73d3701c3af6864e0f0f912ed6a9",
    "images": "f6875aa5af8a04fadec8907e9f960e5eee2356fed924cb17f94f69e0eba67628",
    "MME_Benchmark_release_version": (
        "7a52427c53ae8363a7c42c0cd1d242a4797f8ae2f306b2a92b6113059eb6f7cb"
    ),
}
"""sha256 over the sorted names and bytes of the test split's files (MINI_VERSION 1)."""


@pytest.fixture
def root(mini: Path) -> Path:
    return mini


def digest_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def test_the_test_splits_never_change(root: Path) -> None:
    assert {name: digest_of(root / name) for name in DIGESTS} == DIGESTS
    assert {path.name for path in root.iterdir()} == set(DIGESTS)


def test_scienceqa_layout(root: Path) -> None:
    folder = root / "scienceqa"
    problems = json.loads((folder / "problems.json").read_text())
    pids = json.loads((folder / "pid_splits.json").read_text())
    captions = json.loads((folder / "captions.json").read_text())["captions"]
    assert set(pids) == {
        "train", "val", "test", "trainval", "minitrain", "minival", "minitest",
    }  # fmt: skip
    assert pids["test"] == list(problems)
    assert len(problems) == 300
    for pid, problem in problems.items():
        assert 0 <= problem["answer"] < len(problem["choices"]) <= 5
        assert len(set(problem["choices"])) == len(problem["choices"])
        assert (folder / "images" / "test" / pid / "image.png").is_file() == bool(problem["image"])
        assert (pid in captions) == bool(problem["image"])
    assert {problem["subject"] for problem in problems.values()} == {
        "natural science", "social science", "language science",
    }  # fmt: skip
    assert {problem["grade"] for problem in problems.values()} == {
        f"grade{grade}" for grade in range(1, 13)
    }
    kinds = {(bool(problem["hint"]), bool(problem["image"])) for problem in problems.values()}
    assert len(kinds) == 4


def test_no_position_of_the_right_choice_is_favoured(root: Path) -> None:
    problems = json.loads((root / "scienceqa" / "problems.json").read_text())
    most = Counter(problem["answer"] for problem in problems.values()).most_common(1)[0][1]
    assert most < 0.5 * len(problems)


def test_caption_layout(root: Path) -> None:
    rows = json.loads((root / "coco_caption" / "coco_karpathy_test.json").read_text())
    truth = json.loads((root / "coco_caption" / "coco_karpathy_test_gt.json").read_text())
    assert len(rows) == 150
    assert all(len(set(row["caption"])) == 5 for row in rows)
    numbers = [int(Path(row["image"]).stem.split("_")[-1]) for row in rows]
    assert [image["id"] for image in truth["images"]] == numbers
    assert Counter(row["image_id"] for row in truth["annotations"]) == dict.fromkeys(numbers, 5)
    for row in rows:
        with Image.open(root / "images" / row["image"]) as image:
            assert image.size == (64, 64)


def test_mme_layout_and_balance(root: Path) -> None:
    folder = root / "MME_Benchmark_release_version"
    assert {path.name for path in folder.iterdir()} == set(SUBTASKS)
    answers: dict[str, list[str]] = {}
    for file in folder.rglob("*.txt"):
        nested = file.parent.name == "questions_answers_YN"
        images = file.parent.parent / "images" if nested else file.parent
        assert (images / f"{file.stem}.png").is_file()
        lines = [line.split("\t") for line in file.read_text().splitlines()]
        assert [answer for _, answer in lines] == ["Yes", "No"]
        for question, answer in lines:
            assert question.endswith(" Please answer yes or no.")
            answers.setdefault(question, []).append(answer)
    assert sum(map(len, answers.values())) == 8 * 40
    for question, given in answers.items():
        assert given.count("Yes") == given.count("No"), question


def test_splits_share_no_scene() -> None:
    keys: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        scenes = [item.scene for item in yes_no_items(split, 40, seed=5)]
        scenes += [item.scene for item in caption_items(split, 200, seed=5)]
        keys[split] = {scene.key() for scene in scenes}
        keys[split] |= {problem.key() for problem in science_problems(split, 240, seed=5)}
    assert keys["train"].isdisjoint(keys["test"])
    assert keys["train"].isdisjoint(keys["val"])
    assert keys["val"].isdisjoint(keys["test"])


def test_train_split_is_written_for_all_three(tmp_path: Path) -> None:
    write_mini(tmp_path, splits=("train", "val"), train_size=64)
    problems = json.loads((tmp_path / "scienceqa" / "problems.json").read_text())
    assert Counter(problem["split"] for problem in problems.values()) == {"train": 64, "val": 300}
    captions = json.loads((tmp_path / "coco_caption" / "coco_karpathy_train.json").read_text())
    assert len(captions) == 64 * 5
    instructions = json.loads((tmp_path / "all_data.json").read_text())["all"]
    assert len(instructions) == 64
    assert {row["answer"] for row in instructions} == {"Yes", "No"}
    for row in instructions:
        assert (tmp_path / "cocoimages" / "train" / f"COCO_train2014_{row['image']}").is_file()
    assert not (tmp_path / "MME_Benchmark_release_version").exists()


def test_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        write_mini(tmp_path, splits=("dev",))


def test_png_holds_the_pixels(tmp_path: Path) -> None:
    pixels = np.arange(150 * 160 * 3, dtype=np.uint32).reshape(150, 160, 3).astype(np.uint8)
    file = tmp_path / "image.png"
    file.write_bytes(encode_png(pixels))
    with Image.open(file) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("color", COLORS)
def test_every_thing_stays_in_its_quarter(shape: str, color: str) -> None:
    for cell in range(len(CELLS)):
        image = paint(Scene(things=(Thing(shape, color, cell),), jitter=cell)).astype(int)
        colored = np.argwhere(image.max(axis=2) - image.min(axis=2) > 60)
        row, column = divmod(cell, 2)
        assert (colored // 32 == (row, column)).all()
        assert len(colored) > 60
