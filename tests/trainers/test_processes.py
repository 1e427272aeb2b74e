"""Whole commands in processes of their own: several that train together, and one that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support.processes import DEADLINE_S, Python, several

pytestmark = pytest.mark.slow
LOSSES = 1e-5
"""Sums in another order round otherwise; the drop rule's near-ties stay clear of this data."""


@pytest.fixture
def command(recipe_files, parity_card, small_mini, tmp_path):
    """Makes what follows `python` to train the tiny model into a folder below `tmp_path`."""

    def make(output: str, *settings: str, method: str = "adem") -> list[str]:
        options = {"--recipe": recipe_files[method], "--model": parity_card}
        options |= {"--data-root": small_mini, "--output": tmp_path / output}
        given = [str(part) for pair in options.items() for part in pair]
        # Enough for two processes that accumulate two micro-batches each.
        more = ("data.0.limit=16", "data.1.limit=16", "effective_batch=8")
        given += [part for setting in (*more, *settings) for part in ("--set", setting)]
        return ["-m", "adem_bench", "train", *given]

    return make


@pytest.fixture
def finish(command, tmp_path):
    """Trains to the end in one process or several."""

    def run(output: str, *settings: str, processes: int = 1, method: str = "adem") -> None:
        place = tmp_path / f"of-{output}"
        for process in several(processes, command(output, *settings, method=method), place):
            done = process.wait()
            assert done.returncode == 0, done.stderr[-2000:]

    return run


def losses(folder: Path) -> list[float]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter.safetensors")


def check_alike(single: Path, several: Path) -> None:
    assert losses(several) == pytest.approx(losses(single), abs=LOSSES)
    alone, together = adapter(single), adapter(several)
    assert alone.keys() == together.keys()
    for key, tensor in alone.items():
        torch.testing.assert_close(together[key], tensor, atol=1e-4, rtol=0)


METHODS = ["adem", "memvp", "lavin", "llava"]


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_are_one_with_twice_the_accumulation(finish, tmp_path, method):
    # The same effective batch: one process accumulates four micro-batches, two do two each.
    finish("one", method=method)
    finish("two", processes=2, method=method)
    check_alike(tmp_path / "one", tmp_path / "two")
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert (manifest["steps"]["processes"], manifest["steps"]["accumulation"]) == (2, 2)


@pytest.mark.parametrize("method", ["adem", "llava"])
def test_two_processes_that_share_the_frozen_weights_are_one(finish, tmp_path, method):
    # Sharded models take micro-batches whole, which dropout can tell from parts.
    finish("whole", "tokens_at_once=0", method=method)
    finish("sharded", "shard_frozen_weights=true", processes=2, method=method)
    check_alike(tmp_path / "whole", tmp_path / "sharded")


def test_two_processes_that_share_int8_weights_are_one(finish, tmp_path):
    finish("whole", "tokens_at_once=0", "quantization=int8-cpu")
    finish("sharded", "shard_frozen_weights=true", "quantization=int8-cpu", processes=2)
    check_alike(tmp_path / "whole", tmp_path / "sharded")


def test_torchrun_starts_processes_that_train_together(command, finish, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, *command("two")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    finish("one")
    check_alike(tmp_path / "one", tmp_path / "two")


def test_a_mistake_is_said_once_and_torchrun_names_its_exit_code(command, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").touch()
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, *command("used")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert ours == [
        f"error: {tmp_path / 'used'} is not a training output: it holds mine.txt; name another "
        "--output"
    ]
    assert (done.returncode, "exitcode  : 2" in done.stderr) == (1, True)
    assert done.stdout == ""


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_training_ends_on_the_bits_of_one_that_was_not(command, finish, tmp_path, method):
    finish("whole", "checkpoint_steps=2", method=method)
    for lines in (1, 5):
        arguments = command("killed", "checkpoint_steps=2", method=method)
        running = Python(arguments, tmp_path / "of-killed")
        log = tmp_path / "killed" / "log.jsonl"
        deadline = time.monotonic() + DEADLINE_S
        while not log.exists() or log.read_text().count("\n") < lines:
            assert running.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        running.kill()
        with log.open("a") as torn:
            torn.write('{"step": 7, "lo')
    finish("killed", "checkpoint_steps=2", method=method)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    weights = "adapter/adapter.safetensors"
    assert (tmp_path / "killed" / weights).read_bytes() == (
        tmp_path / "whole" / weights
    ).read_bytes()
