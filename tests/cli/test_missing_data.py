"""The first error that everybody meets: data, images or weights that are not there."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from adem_bench.cards import load_task_card
from adem_bench.data.remedy import Remedy
from adem_bench.tasks.coco_caption import java

COMMAND = re.compile("`adem-bench (data [^`]+)`")


@pytest.fixture
def own(tmp_path):
    """Writes a card of one's own and its rows; returns the card's path."""

    def write(rows: list[dict], **fields: object) -> str:
        folder = tmp_path / "own cards"
        folder.mkdir()
        card = {
            "kind": "jsonl", "split": "test", "headline": "accuracy",
            "options": {"file": "rows.jsonl", "metric": "yes_no", "image": "image"} | fields,
        }  # fmt: skip
        (folder / "own.yaml").write_text(yaml.safe_dump(card))
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(folder / "own.yaml")

    return write


@pytest.mark.parametrize(
    ("task", "more", "says"),
    [
        ("mmbench", (), "`adem-bench data fetch mmbench --data-root 'my data'` fetches it"),
        ("mmbench", ("--split", "test"), "fetch mmbench --split test --data-root 'my data'` fetch"),
        ("sqa", (), "fetches what can be fetched; by hand, 'my data'/scienceqa/images/test: no di"),
        ("mme", (), "by hand, 'my data'/MME_Benchmark_release_version: its authors give it"),
        ("vqav2", (), "unpack it by hand: get https://"),
        ("pope", (), "`adem-bench data fetch pope --data-root 'my data'` fetches it"),
    ],
)
def test_missing_data_is_named_with_the_commands_that_bring_it(adem_bench, task, more, says):
    found = adem_bench(
        "run", "--model", "majority", "--tasks", task, "--data-root", "my data", *more
    )
    assert found.code == 2
    assert says.replace("'my data'/", "my data/") in found.err
    assert found.err.count("\n") == 1
    for command in COMMAND.findall(found.err):
        arguments = [part.strip("'") for part in re.findall(r"'[^']*'|\S+", command)]
        if arguments[1] == "status":
            shown = adem_bench(*arguments)
            assert shown.code == 0
            assert str(task) in shown.out


def test_a_card_of_ones_own_is_named_by_its_path(adem_bench, own, tmp_path):
    card = own([])
    (tmp_path / "own cards" / "rows.jsonl").unlink()
    fields = yaml.safe_load((tmp_path / "own cards" / "own.yaml").read_text())
    fields["data"] = {"files": [{"path": "rows.jsonl", "note": "ask Ann"}]}
    (tmp_path / "own cards" / "own.yaml").write_text(yaml.safe_dump(fields))
    found = adem_bench("run", "--model", "majority", "--tasks", card)
    assert "; by hand, data/rows.jsonl: ask Ann; `adem-bench data status '" in found.err
    assert "own cards/own.yaml'` lists what is needed" in found.err


def test_all_that_is_missing_is_said_at_once(adem_bench):
    found = adem_bench("run", "--model", "adem-7b", "--tasks", "sqa,mmbench")
    assert found.code == 2
    lines = found.err.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    named = ("problems.json", "MMBench_DEV_EN.tsv", "_sqa.pth", "_instruction.pth", "language mod")
    assert len(lines) == len(named)
    for line, name in zip(lines, named, strict=True):
        assert name in line
    again = adem_bench("run", "--model", "adem-7b", "--model", "majority", "--tasks", "sqa")
    assert sum("problems.json" in line for line in again.err.splitlines()) == 1


def test_images_are_needed_by_those_that_see_them_alone(adem_bench, own):
    rows = [
        {"id": n, "question": "Is it?", "image": f"pictures/{n}.png", "answer": "yes"}
        for n in range(3)
    ]
    options = ("run", "--model", "majority", "--tasks", own(rows))
    found = adem_bench(*options)
    assert found.code == 2
    assert "pictures/0.png is missing: expected an image (none of the first 3 is there)" in (
        found.err
    )
    assert adem_bench(*options, "--blind").code == 0


@pytest.mark.parametrize("task", ["coco_caption", "sqa", "gqa"])
def test_no_reader_asks_a_blind_run_for_image_folders(adem_bench, task, tmp_path, monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)  # it takes seconds to score
    texts = {
        "coco_caption": {"coco_caption/coco_karpathy_val.json": [
            {"image": "val2014/COCO_val2014_000000000007.jpg", "caption": ["a cat"]}
        ]},
        "sqa": {
            "scienceqa/problems.json": {"1": {
                "question": "Why?", "choices": ["a", "b"], "answer": 0, "image": "image.png",
                "hint": "", "subject": "natural science", "grade": "grade2", "split": "test",
            }},
            "scienceqa/pid_splits.json": {"test": ["1"]},
            "scienceqa/captions.json": {"captions": {}},
        },
        "gqa": {"gqa/testdev_balanced_questions.json": {
            "1": {"question": "Why?", "imageId": "n1", "answer": "no", "isBalanced": True,
                  "types": {"structural": "verify", "semantic": "obj"}}
        }},
    }  # fmt: skip
    for name, content in texts[task].items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    options = ("run", "--model", "constant:yes", "--tasks", task)
    found = adem_bench(*options)
    assert (found.code, "is missing: expected an image" in found.err) == (2, True), found.err
    assert adem_bench(*options, "--blind").code == 0


def test_rows_of_text_alone_need_no_images(adem_bench, own):
    rows = [{"id": n, "question": "Is it?", "image": "", "answer": "yes"} for n in range(3)]
    assert adem_bench("run", "--model", "majority", "--tasks", own(rows)).code == 0


def test_part_of_a_mini_world_is_completed_by_its_command(tmp_path):
    remedy = Remedy(load_task_card("mini_sqa"), tmp_path / "my data")()
    assert remedy.endswith(f"--output '{tmp_path}/my data' --splits test` makes it")
