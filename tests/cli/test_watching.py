"""What a long run shows with stderr in a file, and what its log says."""

from __future__ import annotations

import os
import re
import sys

import pytest

from adem_bench.results.run_log import LOG, RunLog
from adem_bench.tasks.mme.task import Mme

LINE = re.compile(
    r"mini_mme: \d+ of 320 samples \(\d+%\), \d+ failed, [\d.,]+ samples/s, (\S+ left|took \S+)"
)


@pytest.fixture
def run(adem_bench, mini):
    """Runs a baseline on mini MME in batches of 8, 40 of them."""

    def call(*more):
        options = ("--data-root", mini, "--batch-size", 8, "--no-reuse", *more)
        return adem_bench("run", "--model", "constant:Yes", "--tasks", "mini_mme", *options)

    return call


def test_each_of_several_processes_adds_whole_lines_to_the_log(tmp_path):
    with RunLog(tmp_path, "m on t", 0, 2) as first, RunLog(tmp_path, "m on t", 1, 2) as second:
        assert first is not second
        second.warning("sample 3 failed: an answer\nof two lines")
    lines = (tmp_path / LOG).read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines[1:]] == [
        "INFO process 2 of 2: m on t",
        "WARNING process 2 of 2: sample 3 failed: an answer of two lines",
    ]
    with RunLog(tmp_path / "gone", "m on t") as log:
        log.info("a folder that is not there ends no run")


def log_of(folder):
    (path,) = folder.rglob(LOG)
    return path.read_text().splitlines()


def test_a_run_with_stderr_in_a_file_has_a_line_for_every_5_percent(
    run, adem_bench, mini, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["/bin/adem-bench", "a b"])
    monkeypatch.setattr("adem_bench.results.progress.APART", 0.0)
    done = run("--results", "my results")
    assert done.code == 0
    shown = done.err.splitlines()
    assert len(shown) == 20
    assert all(LINE.fullmatch(line) for line in shown)
    assert shown[-1].startswith("mini_mme: 320 of 320 samples (100%), 0 failed, ")
    assert "`adem-bench leaderboard 'my results'` tabulates all runs" in done.out
    log = log_of(tmp_path)
    assert f", process id {os.getpid()}: adem-bench 'a b'" in log[0]
    assert "model constant:Yes" in log[1]
    texts = [line.split(" ", 2)[2] for line in log[2:]]
    assert all(LINE.fullmatch(text) for text in texts[:20])
    assert texts[20:] == [
        "constant:Yes is a baseline: it saw no image",
        "finished: accuracy 50.00%; 320 of 320 samples answered, 0 failed",
    ]
    # Nothing was asked, so nothing was added, and nothing is made of the log.
    assert run("--results", "my results").err == ""
    assert log_of(tmp_path) == log
    (folder,) = (path.parent for path in tmp_path.rglob(LOG))
    assert adem_bench("validate", folder, "--data-root", mini).code == 0


def test_a_run_of_a_moment_shows_its_result_alone(run):
    done = run()
    assert (done.code, done.err) == (0, "")


def test_quiet_shows_results_alone_and_verbose_what_the_log_says(run, tmp_path):
    quiet = run("--quiet", "--limit", 16)
    assert (quiet.code, quiet.err) == (0, "")
    assert "mini_mme, split test, 16 of 320 samples" in quiet.out
    assert "wrote" not in quiet.out
    loud = run("--verbose", "--limit", 24)
    log = next(path for path in tmp_path.rglob(LOG) if "limit24" in str(path)).read_text()
    assert loud.err == log
    both = run("--quiet", "--verbose")
    assert (both.code, both.err.splitlines()) == (
        2,
        ["error: --quiet and --verbose exclude each other; see `adem-bench run --help`"],
    )


def test_a_run_that_is_stopped_says_so_in_its_log_and_the_next_one_goes_on_there(
    run, tmp_path, monkeypatch
):
    read = Mme.parse_response
    calls = []

    def stop_after_20(self, sample, response):
        calls.append(sample)
        if len(calls) == 20:
            raise OSError("the disk went away")
        return read(self, sample, response)

    monkeypatch.setattr(Mme, "parse_response", stop_after_20)
    assert run().code != 0
    first = log_of(tmp_path)
    assert first[-1].endswith("ERROR stopped: the disk went away")
    done = run()
    assert done.code == 0
    log = log_of(tmp_path)
    assert log[: len(first)] == first
    assert sum("adem-bench" in line and "process id" in line for line in log) == 2
    assert log[-1].endswith("320 of 320 samples answered, 0 failed")
