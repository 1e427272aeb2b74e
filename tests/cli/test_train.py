from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from adem_bench.cards import load_recipe_card
from adem_bench.cli.train import TrainingProgress
from adem_bench.files import disk_error
from adem_bench.mini import write_mini
from adem_bench.trainers import checkpoints
from adem_bench.trainers.batch_sampler import Position
from adem_bench.trainers.loop import StepReport

CLIP_ADAPTERS = 4 * 2 * 12 * 128
PROJECTORS = 2 * (128 * 128 + 128 + 128 * 64 + 64)
PARAMETERS = 2 * 320 * 64 + CLIP_ADAPTERS + PROJECTORS
"""Of the tiny model: E1 and E2, four CLIP adapters, two projectors."""
FEW = "kind: mme\nsplit: test\nheadline: accuracy\noptions: {subtasks: [existence]}\n"
"""A task of 40 questions."""


@pytest.fixture
def data(small_mini):
    return small_mini


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    fields = {
        "data": [{"task": "mini_sqa", "prompt_format": "CQM-A"}],
        "epochs": 1, "effective_batch": 8, "batch_size": 4, "workers": 0,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(fields))
    return path


class Data(list):
    with_image = 7


def test_a_training_with_stderr_in_a_file_has_a_line_for_every_5_percent(capsys, monkeypatch):
    monkeypatch.setattr("adem_bench.results.progress.APART", 0.0)
    prepared = SimpleNamespace(
        recipe=load_recipe_card("mini"),
        frozen=SimpleNamespace(card=SimpleNamespace(name="m"), dtype="float32"),
        sampler=SimpleNamespace(left_over=0, steps=60, total_steps=60, accumulation=1),
        dataset=Data(range(9)),
        network=SimpleNamespace(device=torch.device("cpu")),
        parameters=(1, 10),
        warnings=list,
    )
    for quiet, lines in ((False, 20), (True, 0)):
        progress = TrainingProgress(quiet)
        progress.begins(prepared, Path("out"), 0)
        for step in range(1, 61):
            skipped = step == 2
            progress.step(StepReport(step, Position(), step / 60, 1.0, 1e-3, 1.0, 1.0, skipped, 4))
        shown = capsys.readouterr()
        assert len(shown.err.splitlines()) == lines
        assert ("9 samples, 7 with an image" in shown.out) is not quiet
        if not quiet:
            assert shown.err.startswith("step 3 of 60 (5%)  epoch 0.05  loss 1.0000  lr 0.001  ")
            assert "  1 skipped  " in shown.err


@pytest.mark.usefixtures("one_thread")
def test_training_says_what_it_does_and_what_it_made(
    adem_bench, data, recipe, parity_card, tmp_path, monkeypatch
):
    monkeypatch.setattr("adem_bench.results.progress.APART", 0.0)
    options = ("--recipe", recipe, "--model", parity_card, "--data-root", data)
    (tmp_path / "few.yaml").write_text(FEW)
    done = adem_bench("train", *options, "--output", "out", "--eval", "few.yaml")
    assert done.code == 0, done.err
    assert "16 samples" in done.out
    assert "epochs: 1, of 2 steps; 8 samples per step (4 rows x 2 accumulated" in done.out
    assert f"trainable parameters {PARAMETERS:,} of" in done.out
    assert "warning: mini_sqa is asked differently in training" in done.err
    assert "few: 40 of 40 samples (100%), 0 failed, " in done.err
    assert "out: few, split test" in done.out
    assert "`adem-bench run --model out --tasks …` evaluates it" in done.out
    again = adem_bench("train", *options, "--output", "out", "--eval", "few.yaml")
    assert again.code == 0
    assert "all 2 steps were already done" in again.out
    other = adem_bench("train", *options, "--output", "out", "--set", "epochs=2")
    assert other.code == 2
    assert "epochs is 1 there, 2 here; name another --output" in other.err
    ran = adem_bench(
        "run", "--model", "out", "--tasks", "mini_mme", "--data-root", data, "--limit", 4
    )
    assert ran.code == 0, ran.err
    board = adem_bench("leaderboard", "results")
    assert board.out.splitlines()[2].split()[0] == "out" or " out " in board.out


def test_a_run_that_the_disk_ends_says_so_and_keeps_what_was_there(
    adem_bench, data, recipe, parity_card, tmp_path, monkeypatch
):
    options = ("--recipe", recipe, "--model", parity_card, "--data-root", data, "--output", "out")
    write = checkpoints.write_atomically

    def full_after_the_first(path, content):
        if (tmp_path / "out" / "checkpoints" / "step-00000001").exists():
            raise disk_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_atomically", full_after_the_first)
        done = adem_bench("train", *options, "--set", "checkpoint_steps=1")
    assert done.code == 2
    assert "no space left" in done.err
    assert "the checkpoint step-00000001 is intact, and training goes on from there" in done.err
    done = adem_bench("train", *options, "--set", "checkpoint_steps=1")
    assert done.code == 0, done.err
    assert "continues after step 1" in done.out


def test_recipes_are_listed_and_explained(adem_bench):
    listed = adem_bench("recipes")
    assert listed.code == 0
    for name in ("sqa", "coco_caption", "instruction", "mini"):
        assert name in listed.out
    shown = adem_bench("recipes", "show", "sqa", "--set", "data.0.limit=7")
    assert shown.code == 0
    for text in ("data.0.limit", "7", "method.alpha", "AdamW's decay rates."):
        assert text in shown.out
    values = dict(line.split()[:2] for line in shown.out.splitlines() if len(line.split()) > 1)
    assert values["method.cls_token"] == "true"
    assert "[256, 64]" in shown.out  # as `--set method.scales=[256, 64]` takes it
    assert '{"captions": false}' in shown.out
    assert adem_bench("recipes", "show", "sqaa").err.endswith("did you mean: sqa?\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "mnii"), "unknown recipe 'mnii'; did you mean: mini?"),
        (("--recipe", "sqa", "--set", "epcohs=1"), "did you mean: epochs"),
        (("--recipe", "sqa", "--set", "data.0.limt=5"), "did you mean: limit"),
        (("--recipe", "sqa", "--set", "dta.0.limit=5"), "--set dta.0.limit=5: unknown field 'dta'"),
        (("--recipe", "sqa", "--log-to", "tensorbord"), "did you mean: tensorboard?"),
        (("--recipe", "sqa"), "scienceqa/problems.json is missing"),
        (("--recipe", "sqa", "--model", "adem-9b"), "unknown model 'adem-9b'"),
        (("--recipe", "mini", "--device", "cuda:9"), "this machine has"),
    ],
)
def test_mistakes_are_one_line(adem_bench, arguments, message, tmp_path):
    done = adem_bench("train", *arguments, "--output", tmp_path / "out")
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_published_form_of_what_was_trained(adem_bench, data, recipe, parity_card, tmp_path):
    options = ("--recipe", recipe, "--model", parity_card, "--data-root", data, "--output", "out")
    assert adem_bench("train", *options).code == 0
    done = adem_bench("convert", "adapter", "out/adapter", "checkpoint-0.pth")
    assert done.code == 0, done.err
    ran = adem_bench(
        "run", "--model", parity_card, "--adapter", "checkpoint-0.pth", "--tasks", "mini_mme",
        "--data-root", data, "--limit", 4,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    settings = json.loads((tmp_path / "out" / "adapter" / "adapter.json").read_text())
    assert settings["language_model_signature"]


def test_what_an_epoch_does_not_come_to_and_cannot_read_is_told(
    adem_bench, recipe, parity_card, tmp_path
):
    write_mini(tmp_path / "own", splits=("train",), train_size=19)
    images = sorted((tmp_path / "own" / "scienceqa" / "images" / "train").rglob("image.png"))
    images[0].write_bytes(b"no image")
    options = ("--recipe", recipe, "--model", parity_card, "--data-root", tmp_path / "own")
    done = adem_bench("train", *options, "--output", "out", "--set", "epochs=3")
    assert done.code == 0, done.err
    assert "3 samples left over at the end of each epoch" in done.out
    assert "1 samples left out: their image cannot be read: sample " in done.out
    assert images[0].parent.name in done.out


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (0, "interrupted before training began: the same command starts it"),
        (1, "interrupted before the first checkpoint: the same command starts from step 0"),
        (2, "interrupted: the same command continues after step 1"),
    ],
)
def test_an_interruption_says_what_becomes_of_the_training(
    adem_bench, data, recipe, parity_card, monkeypatch, step, message
):
    def interrupt(callback, report=None, *more):
        if step == 0 or report.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingProgress, "step" if step else "begins", interrupt)
    options = ("--recipe", recipe, "--model", parity_card, "--data-root", data, "--output", "out")
    done = adem_bench("train", *options, "--set", "checkpoint_steps=1")
    assert done.code == 3
    assert done.err.splitlines()[-1] == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--recipe", "sqa", "--set", "method.kind=memvp", "--set", "method.beta=1"),
            "error: --set method.beta=1: field 'method.beta' is of the method adem; memvp has ",
        ),
        (
            ("--recipe", "mini", "--set", "method.kind=lavin"),
            "mini.yaml, line 16: field 'method.scales' is of the method adem; lavin has ",
        ),
        (
            ("--recipe", "memvp_mini", "--set", "method.slots=9"),
            "error: 9 slots do not hold the 64 patches of an image; MemVP needs at least as many",
        ),
        (
            ("--recipe", "lavin_mini", "--set", "method.read_every=9"),
            "error: read_every 9 reads no class token of a vision tower with 5 blocks; choose",
        ),
    ],
)
def test_a_method_with_what_is_not_its_own_or_what_the_base_lacks_is_one_line(
    adem_bench, small_mini, arguments, message, monkeypatch
):
    monkeypatch.setattr("adem_bench.models.fused.backbone.load_language_model", None)
    done = adem_bench("train", *arguments, "--data-root", small_mini, "--output", "out")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err
