"""Runs that are killed, resumed and shared, through the real command."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.processes import DEADLINE_S, Python, several
from support.run_files import read_manifest, read_records

LIMIT = 60
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def wait_for_lines(results: Path, count: int, ended: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        files = list(results.rglob("samples*.jsonl"))
        if sum(file.read_bytes().count(b"\n") for file in files) >= count:
            return
        assert not ended(), "the run ended before it could be killed"
        time.sleep(0.005)
    pytest.fail("no records appeared")


@pytest.fixture
def alone(command, finish, tmp_path):
    """Answers all samples in one undisturbed process: its records."""

    def records():
        done = finish(command("--limit", LIMIT, results="alone"))
        assert done.returncode == 0, done.stderr
        return read_records(tmp_path / "alone")

    return records


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_as_an_undisturbed_one(
    command, environment, finish, alone, tmp_path
):
    once = command("--limit", LIMIT, "--batch-size", 1, results="killed")
    for kill_after in (1, 15, 40):
        process = Python(once, tmp_path / "killed", environment)
        wait_for_lines(tmp_path / "killed", kill_after, lambda p=process: p.poll() is not None)
        process.kill()
    (samples,) = (tmp_path / "killed").rglob("samples.jsonl")
    kept = samples.read_bytes()
    samples.write_bytes(kept[:-7])  # as if the last write had been cut in half
    before = kept[:-7].count(b"\n")
    done = finish(once)
    assert done.returncode == 0, done.stderr
    assert f"{before} records were already there" in done.stdout
    assert read_manifest(tmp_path / "killed")["timing"]["answered"] == LIMIT - before
    killed = read_records(tmp_path / "killed")
    assert len({line["sample_id"] for line in killed}) == len(killed) == LIMIT
    assert killed == alone()


def check_shared(results: Path, records: list, stdout: str) -> None:
    assert read_records(results) == records
    assert read_manifest(results)["run"]["processes"] == 2
    assert stdout.count("mini_mme, split test") == 1
    assert not list(results.rglob("samples.rank*"))


@pytest.mark.slow
def test_two_processes_share_the_work_and_write_what_one_writes(
    command, environment, alone, tmp_path
):
    arguments = command("--limit", LIMIT, "--batch-size", 2, results="two")
    shared = [process.wait() for process in several(2, arguments, tmp_path / "of", environment)]
    assert [done.returncode for done in shared] == [0, 0], shared[0].stderr
    check_shared(tmp_path / "two", alone(), "".join(done.stdout for done in shared))


@pytest.mark.slow
def test_torchrun_starts_processes_that_share_the_work(command, environment, alone, tmp_path):
    arguments = command("--limit", LIMIT, "--batch-size", 2, results="two")
    shared = subprocess.run(
        [sys.executable, *TORCHRUN, *arguments],
        env=environment, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert shared.returncode == 0, shared.stderr
    check_shared(tmp_path / "two", alone(), shared.stdout)


@pytest.mark.slow
def test_launchers_of_several_machines_share_one_run(command, environment, alone, tmp_path):
    arguments = command("--limit", LIMIT, "--batch-size", 2, results="two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--nnodes", 2, "--master-addr", "127.0.0.1", "--master-port", port]
    launchers = [
        subprocess.Popen(
            [sys.executable, *TORCHRUN[:2], *map(str, place), "--node-rank", rank, *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    done = [launcher.communicate(timeout=DEADLINE_S) for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], done[0][1] + done[1][1]
    check_shared(tmp_path / "two", alone(), "".join(stdout for stdout, _ in done))


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["adem", "none"])
def test_processes_that_hold_a_part_of_the_model_each_answer_as_one(
    command, environment, finish, tmp_path, adapter
):
    given = ["--limit", 24, *(["--adapter", "none"] if adapter == "none" else [])]
    done = finish(command(*given, results="alone"))
    assert done.returncode == 0, done.stderr
    arguments = command(*given, "--set", "model.shard=true", results="two")
    shared = [process.wait() for process in several(2, arguments, tmp_path / "of", environment)]
    assert [done.returncode for done in shared] == [0, 0], shared[0].stderr + shared[1].stderr
    records = read_records(tmp_path / "alone")
    check_shared(tmp_path / "two", records, "".join(done.stdout for done in shared))
    assert read_manifest(tmp_path / "two")["timing"]["answered"] == 24


def check_taken_up(command, finish, records: list, tmp_path: Path) -> None:
    done = finish(command("--limit", LIMIT, results="two"))
    assert done.returncode == 0, done.stderr
    assert read_records(tmp_path / "two") == records
    assert read_manifest(tmp_path / "two")["timing"]["answered"] <= LIMIT - 19


@pytest.mark.slow
def test_records_of_killed_processes_are_taken_up_by_one(
    command, environment, finish, alone, tmp_path
):
    arguments = command("--limit", LIMIT, "--batch-size", 1, results="two")
    started = several(2, arguments, tmp_path / "of", environment)
    wait_for_lines(
        tmp_path / "two", 20, lambda: any(process.poll() is not None for process in started)
    )
    for process in started:
        process.kill()
    check_taken_up(command, finish, alone(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_the_others_take_over_what_a_killed_process_has_left(
    command, environment, alone, tmp_path, victim
):
    arguments = command("--limit", LIMIT, "--batch-size", 2, results="four")
    started = several(4, arguments, tmp_path / "of", environment)

    def began() -> bool:
        rank = f"samples.rank{victim}.jsonl" if victim else "samples.jsonl"
        return any(file.stat().st_size for file in (tmp_path / "four").rglob(rank))

    deadline = time.monotonic() + DEADLINE_S
    while not began() and time.monotonic() < deadline:
        time.sleep(0.002)
    started[victim].kill()
    done = [process.wait() for rank, process in enumerate(started) if rank != victim]
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    assert read_records(tmp_path / "four") == alone()
    assert sum("mini_mme, split test" in one.stdout for one in done) == 1
    assert not list((tmp_path / "four").rglob("samples.rank*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_scheduler_ends_a_run_as_ctrl_c_does(
    command, environment, finish, alone, tmp_path, number
):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("whoever started the tests has the signal ignored, as nohup does")
    once = command("--limit", LIMIT, "--batch-size", 1, results="ended")
    started = Python(once, tmp_path / "ended", environment)
    wait_for_lines(tmp_path / "ended", 3, lambda: started.poll() is not None)
    os.kill(started.pid, number)
    ended = started.wait()
    assert (ended.returncode, "Traceback" in ended.stderr) == (3, False)
    assert f"interrupted by {number.name}: the same command resumes" in ended.stderr
    assert "were already there" in finish(once).stdout
    assert read_records(tmp_path / "ended") == alone()


@pytest.mark.slow
def test_records_of_a_killed_torchrun_are_taken_up_by_one(
    command, environment, finish, alone, tmp_path
):
    arguments = command("--limit", LIMIT, "--batch-size", 1, results="two")
    with subprocess.Popen(
        [sys.executable, *TORCHRUN, *arguments],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        wait_for_lines(tmp_path / "two", 20, lambda: process.poll() is not None)
        children = children_of(process.pid)
        ends = [os.pidfd_open(child) for child in children]
        process.send_signal(signal.SIGKILL)
        # They would end by themselves, after a second or more.
        for child in children:
            os.kill(child, signal.SIGKILL)
        # One that waits for the disk dies, and gives its lock back, when the disk has answered.
        for end in ends:
            assert select.select([end], [], [], DEADLINE_S)[0]
            os.close(end)
    assert len(children) >= 2
    check_taken_up(command, finish, alone(), tmp_path)


def children_of(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


SLEEPING = """
import os, pathlib, time
from adem_bench.models.base import Model
from adem_bench.registry import MODEL_KINDS

@MODEL_KINDS.register("sleeping")
class Sleeping(Model):
    def generate(self, requests):
        pathlib.Path(__file__).with_name(f"{os.getpid()}.asked").touch()
        time.sleep(3600)

    def fingerprint(self):
        return "0" * 16
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_launcher(environment, tmp_path, number):
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    named = ["--model", "sleeping:x", "--tasks", "mini_mme", "--results", str(tmp_path / "results")]
    program = [*TORCHRUN, "-m", "adem_bench", "run", "--include", str(tmp_path), *named]
    with subprocess.Popen(
        [sys.executable, *program],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as launcher:  # fmt: skip
        children = until(lambda: [int(file.stem) for file in tmp_path.glob("*.asked")], 2)
        launcher.send_signal(number)
    until(lambda: [child for child in children if is_running(child)], 0)


def until(found: Callable[[], list[int]], count: int) -> list[int]:
    """Wait until so many are found, and return them."""
    deadline = time.monotonic() + DEADLINE_S
    while len(found()) != count:
        assert time.monotonic() < deadline, f"{found()} after {DEADLINE_S} s, expected {count}"
        time.sleep(0.05)
    return found()


def is_running(process: int) -> bool:
    """Return whether a process is there, and is more than what its parent has not collected."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


TWICE = """
import adem_bench
for limit in (6, 4):
    adem_bench.evaluate(
        {card!r}, ["mini_mme"], results={results!r}, options=adem_bench.RunOptions(limit=limit)
    )
"""


def test_two_calls_in_one_program_share_no_counter(parity_card, environment, tmp_path):
    program = tmp_path / "twice.py"
    program.write_text(TWICE.format(card=str(parity_card), results=str(tmp_path / "results")))
    for process in several(2, [program], tmp_path / "of", environment):
        done = process.wait()
        assert done.returncode == 0, done.stderr
    files = (tmp_path / "results").rglob("samples.jsonl")
    assert sorted(len(file.read_text().splitlines()) for file in files) == [4, 6]
