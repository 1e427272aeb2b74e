"""Whole commands in processes of their own: several that train together, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

LOSSES = 1e-5
"""Sums in another order round otherwise; the drop rule's near-ties stay clear of this data."""


@pytest.fixture
def command(recipe_file, parity_card, mini_train, tmp_path):
    """Makes a training command line; `processes` puts torchrun before it."""

    def make(output: str, *settings: str, processes: int = 1) -> list[str]:
        launcher = [sys.executable]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
            launcher += ["--master-port", "0", "--standalone"]
        options = {"--recipe": recipe_file, "--model": parity_card, "--data-root": mini_train}
        options |= {"--output": tmp_path / output}
        given = [str(part) for pair in options.items() for part in pair]
        given += [part for setting in settings for part in ("--set", setting)]
        return [*launcher, "-m", "adem_bench", "train", *given]

    return make


def finish(arguments: list[str]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


def losses(folder: Path) -> list[float]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter.safetensors")


def test_two_processes_are_one_with_twice_the_accumulation_sharded_or_not(command, tmp_path):
    # The same effective batch: one process accumulates four micro-batches, two do two each.
    finish(command("one"))
    finish(command("two", processes=2))
    # Sharded models take micro-batches whole, which dropout can tell from parts.
    finish(command("whole", "tokens_at_once=0"))
    finish(command("sharded", "shard_frozen_weights=true", processes=2))
    for single, several in (("one", "two"), ("whole", "sharded")):
        expected = losses(tmp_path / single)
        assert losses(tmp_path / several) == pytest.approx(expected, abs=LOSSES)
        alone, together = adapter(tmp_path / single), adapter(tmp_path / several)
        for key, tensor in alone.items():
            torch.testing.assert_close(together[key], tensor, atol=1e-4, rtol=0)
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert (manifest["steps"]["processes"], manifest["steps"]["accumulation"]) == (2, 2)


def test_a_killed_training_ends_on_the_bits_of_one_that_was_not(command, tmp_path):
    finish(command("whole", "checkpoint_steps=2"))
    killed = command("killed", "checkpoint_steps=2")
    for lines in (1, 5):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        running = subprocess.Popen(killed, env=environment, stdout=subprocess.DEVNULL)
        log = tmp_path / "killed" / "log.jsonl"
        deadline = time.monotonic() + 120
        while not log.exists() or log.read_text().count("\n") < lines:
            assert running.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        running.wait()
        with log.open("a") as torn:
            torn.write('{"step": 7, "lo')
    finish(killed)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    weights = "adapter/adapter.safetensors"
    assert (tmp_path / "killed" / weights).read_bytes() == (
        tmp_path / "whole" / weights
    ).read_bytes()
