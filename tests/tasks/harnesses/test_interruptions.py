"""A run of another harness's benchmark that is killed, goes on, and is shared by two processes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import adem_bench
from adem_bench.cli import main
from adem_bench.results.validation.validate import validate_run
from support.processes import DEADLINE_S, Python, several
from support.run_files import read_manifest, read_records

TASK = "lmms_eval:mini_yes_no"
WAITING = '''
import os, time
from adem_bench.models.baselines import Constant
from adem_bench.registry import MODEL_KINDS

@MODEL_KINDS.register("waiting")
class Waiting(Constant):
    """Answers all but one question; for that it waits to be killed."""

    def _answer(self, request):
        if "white" in request.prompt and os.environ.get("WAITS"):
            time.sleep(600)
        return super()._answer(request)
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with the model, and a cache of its own: samples are made anew."""
    folder = tmp_path / "own"
    (folder / "models").mkdir(parents=True)
    (folder / "waiting.py").write_text(WAITING)
    (folder / "models" / "waiting.yaml").write_text("kind: waiting\noptions: {source: 'Yes'}\n")
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ADEM_BENCH_INCLUDE", str(folder))
    return folder


def arguments(results: Path) -> list[object]:
    given = ["--model", "waiting", "--tasks", TASK, "--batch-size", 1, "--results", results]
    return ["-m", "adem_bench", "run", *given]


def environment(**variables: str) -> dict[str, str]:
    places = [str(Path(adem_bench.__file__).parents[1]), os.environ["PYTHONPATH"]]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), **variables}


def finished(results: Path) -> Path:
    with pytest.raises(SystemExit) as stop:
        main([str(one) for one in arguments(results)[2:]])
    assert not stop.value.code
    [manifest] = results.rglob("manifest.json")
    return manifest.parent


def lines(results: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in results.rglob("samples*.jsonl"))


def figures(run: Path) -> list:
    return json.loads((run / "metrics.json").read_text())["metrics"]


@pytest.mark.slow
def test_a_run_killed_halfway_goes_on_and_two_processes_share_it(stand_ins, own, tmp_path):
    killed, shared = tmp_path / "killed", tmp_path / "shared"
    process = Python(arguments(killed), tmp_path / "of", environment(WAITS="1"))
    deadline = time.monotonic() + DEADLINE_S
    while lines(killed) < 3:
        assert process.poll() is None, process.wait()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    before = lines(killed)
    assert before < 6
    run = finished(killed)
    assert read_manifest(killed)["timing"]["resumed"] == before
    # Both make the samples, at once: the cache is a new one.
    two = environment(ADEM_BENCH_CACHE=str(tmp_path / "another"))
    started = several(2, arguments(shared), tmp_path / "two", two)
    ended = [process.wait() for process in started]
    assert [one.returncode for one in ended] == [0, 0], ended
    assert read_manifest(shared)["run"]["processes"] == 2
    alone = finished(tmp_path / "alone")
    [together] = (path.parent for path in shared.rglob("manifest.json"))
    for other in (run, together):
        assert not validate_run(other).issues
        assert read_records(other) == read_records(alone)
        assert figures(other) == figures(alone)
        assert len(read_records(other)) == 6
