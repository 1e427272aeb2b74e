"""What a harness's process says, whatever it is."""

from __future__ import annotations

import sys

import pytest

from adem_bench.errors import DataError
from adem_bench.tasks.harnesses import process
from adem_bench.tasks.harnesses.process import VLMEVALKIT, Installed, run_job


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Runs a job whose process prints a text and nothing else."""

    def run(text: str):
        installed = Installed(sys.executable, tmp_path, "")
        monkeypatch.setattr(process, "find", lambda harness: installed)
        code = f"print({text!r})".replace("{", "{{").replace("}", "}}")
        monkeypatch.setattr(process, "START", code)
        monkeypatch.setenv("LMUData", str(tmp_path))
        return run_job(VLMEVALKIT, {"do": "build"}, tmp_path / "log", 60, "building X")

    return run


def test_the_last_line_is_the_answer(said):
    assert said('Loading\n{"result": [1]}') == [1]


@pytest.mark.parametrize(
    "text", ["", "bye", "5", "null", "[1]", '"error"', "{}", '{"at": 1}', "[" * 100_000]
)
def test_a_last_line_that_is_no_answer_is_told(said, text):
    with pytest.raises(DataError, match="building X: it ended with code 0 and no answer"):
        said(text)


def test_an_error_without_a_place_is_told(said):
    with pytest.raises(DataError, match="building X: it broke"):
        said('{"error": "it broke"}')
