"""docs/own-base.md: its cards and commands as they stand there, on small random weights."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from adem_bench.cli import main
from support.bases import write_base
from support.fused import WEIGHTS

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "own-base.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


def write_science(folder):
    """ScienceQA's official layout: as many questions to train on as a step takes, and some more."""
    problems, splits = {}, {"train": range(1, 33), "test": range(41, 47)}
    for split, ids in splits.items():
        for id in ids:
            seen = id % 4 == 1
            problems[str(id)] = {
                "question": "Which colour is it?", "choices": ["red", "blue"], "answer": id % 2,
                "hint": "", "image": "image.png" if seen else None, "grade": "grade2",
                "subject": "natural science", "lecture": "", "solution": "", "split": split,
            }  # fmt: skip
            if seen:
                image = folder / "images" / split / str(id) / "image.png"
                image.parent.mkdir(parents=True)
                Image.new("RGB", (16, 16), ("red", "blue")[id % 2]).save(image)
    (folder / "problems.json").write_text(json.dumps(problems))
    pids = {split: [str(id) for id in ids] for split, ids in splits.items()}
    others = {name: [] for name in ("val", "trainval", "minitrain", "minival", "minitest")}
    (folder / "pid_splits.json").write_text(json.dumps(pids | others))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder that the document begins in: its data, and its cards."""
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "DATA" / "weights"
    write_base(weights / "Qwen2.5-0.5B-Instruct", "qwen2.5")
    (weights / "clip").mkdir()
    shutil.copy(WEIGHTS / "clip_tiny.pt", weights / "clip" / "ViT-L-14.pt")
    (tmp_path / "DATA" / "scienceqa").mkdir()
    write_science(tmp_path / "DATA" / "scienceqa")
    for text in blocks("yaml")[:2]:
        (tmp_path / text.partition("\n")[0].removeprefix("# ")).write_text(text)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_its_commands_lead_from_the_card_to_the_table(place, capsys):
    commands = blocks("sh")[0]
    shown = {}
    for line in commands.splitlines():
        words = shlex.split(line, comments=True)
        with pytest.raises(SystemExit) as stop:
            main(words[1:])
        printed = capsys.readouterr()
        assert not stop.value.code, (line, printed.err)
        shown[words[1]] = printed.out
    rows = shown["leaderboard"].splitlines()
    assert sum("qwen-adem-sqa" in row for row in rows) == 2
    assert any("qwen" in row and "adapter=none" in row for row in rows)
    assert "no: " not in shown["models"]
    assert "p" in shown["compare"]
    assert (place / "report.html").is_file()
    (manifest,) = place.glob("results/qwen-adem-sqa/sqa/test-????????/manifest.json")
    ran = json.loads(manifest.read_text())
    assert ran["model"]["language_model"] == "Qwen2.5-0.5B-Instruct"
    prompts = [json.loads(line) for line in (manifest.parent / "samples.jsonl").open()]
    assert len(prompts) == 6
