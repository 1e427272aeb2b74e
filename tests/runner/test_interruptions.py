"""Runs that are killed, resumed and shared, through the real command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.run_files import read_manifest, read_records

LIMIT = 60


def wait_for_lines(results: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = list(results.rglob("samples*.jsonl"))
        if sum(file.read_bytes().count(b"\n") for file in files) >= count:
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    pytest.fail("no records appeared")


def test_a_killed_run_continues_and_ends_as_an_undisturbed_one(
    command, environment, finish, tmp_path
):
    once = command("--limit", LIMIT, "--batch-size", 1, results="killed")
    for kill_after in (1, 15, 40):
        with subprocess.Popen(once, env=environment, stdout=subprocess.DEVNULL) as process:
            wait_for_lines(tmp_path / "killed", kill_after, process)
            process.send_signal(signal.SIGKILL)
    (samples,) = (tmp_path / "killed").rglob("samples.jsonl")
    kept = samples.read_bytes()
    samples.write_bytes(kept[:-7])  # as if the last write had been cut in half
    before = kept[:-7].count(b"\n")
    done = finish(once)
    assert done.returncode == 0, done.stderr
    assert f"{before} records were already there" in done.stdout
    assert read_manifest(tmp_path / "killed")["timing"]["answered"] == LIMIT - before
    undisturbed = finish(command("--limit", LIMIT, results="whole"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed, whole = read_records(tmp_path / "killed"), read_records(tmp_path / "whole")
    assert len({line["sample_id"] for line in killed}) == len(killed) == LIMIT
    assert killed == whole


def test_two_processes_share_the_work_and_write_what_one_writes(command, finish, tmp_path):
    arguments = command("--limit", LIMIT, "--batch-size", 2, results="two")
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    shared = finish([sys.executable, *torchrun, *arguments[1:]])
    assert shared.returncode == 0, shared.stderr
    alone = finish(command("--limit", LIMIT, results="one"))
    assert alone.returncode == 0, alone.stderr
    assert read_records(tmp_path / "two") == read_records(tmp_path / "one")
    assert read_manifest(tmp_path / "two")["run"]["processes"] == 2
    assert shared.stdout.count("mini_mme, split test") == 1
    assert not list((tmp_path / "two").rglob("samples.rank*"))


def test_records_of_killed_processes_are_taken_up_by_one(command, environment, finish, tmp_path):
    arguments = command("--limit", LIMIT, "--batch-size", 1, results="two")
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
    ]
    with subprocess.Popen(
        [*torchrun, *arguments[1:]],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        wait_for_lines(tmp_path / "two", 20, process)
        process.send_signal(signal.SIGKILL)
        # torchrun's children outlive it, and must be gone before another run may write.
        subprocess.run(["pkill", "-KILL", "-f", str(tmp_path / "two")], check=True)
    done = finish(command("--limit", LIMIT, results="two"))
    assert done.returncode == 0, done.stderr
    alone = finish(command("--limit", LIMIT, results="one"))
    assert read_records(tmp_path / "two") == read_records(tmp_path / "one")
    assert read_manifest(tmp_path / "two")["timing"]["answered"] <= LIMIT - 19
    assert alone.returncode == 0


TWICE = """
import adem_bench
for limit in (6, 4):
    adem_bench.evaluate(
        {card!r}, ["mini_mme"], results={results!r}, options=adem_bench.RunOptions(limit=limit)
    )
"""


def test_two_calls_in_one_program_share_no_counter(parity_card, finish, tmp_path):
    program = tmp_path / "twice.py"
    program.write_text(TWICE.format(card=str(parity_card), results=str(tmp_path / "results")))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = finish([sys.executable, *launcher, str(program)])
    assert done.returncode == 0, done.stderr
    files = (tmp_path / "results").rglob("samples.jsonl")
    assert sorted(len(file.read_text().splitlines()) for file in files) == [4, 6]
