"""What a harness's process says, whatever it is."""

from __future__ import annotations

import sys

import pytest

from adem_bench.errors import CardError, DataError
from adem_bench.tasks.harnesses import PYTHON_VARIABLE, process
from adem_bench.tasks.harnesses.catalogue import catalogue
from adem_bench.tasks.harnesses.process import VLMEVALKIT, Installed, find, run_job


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


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """Names an interpreter that is a script of the shell."""

    def make(script: str):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setenv(PYTHON_VARIABLE, str(python))

    return make


@pytest.mark.parametrize(
    "said",
    [
        *("", "hello", "5", "[1, 2]", '["/", 5]', "[5, null]", "[true, false]", "[[], []]"),
        *('{"a": 1}', '["/nowhere/vlmeval/__init__.py", "1.0"]', '["a\\u0000/b", "1.0"]'),
        *("[" * 100_000, "\\0377"),
    ],
)
def test_an_interpreter_that_does_not_answer_as_python_is_told(interpreter, said):
    interpreter(f"printf '{said}\\n'; echo 'no library' >&2; exit 3")
    with pytest.raises(CardError, match="it ended with code 3 and no answer: no library; is it Py"):
        find(VLMEVALKIT)


def test_an_interpreter_that_is_a_folder_or_dies_is_told(interpreter, tmp_path, monkeypatch):
    interpreter("kill -9 $$")
    with pytest.raises(CardError, match="it ended with code -9 and no answer: it said nothing"):
        find(VLMEVALKIT)
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path))
    with pytest.raises(CardError, match="is a folder; expected the interpreter of an environment"):
        find(VLMEVALKIT)


def test_a_version_of_thousands_of_digits_and_half_a_package_are_told(
    interpreter, tmp_path, monkeypatch
):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    interpreter(f"""echo '["{tmp_path}/__init__.py", "{"9" * 5000}"]'""")
    with pytest.raises(CardError, match=r"not whole: .*dataset/__init__\.py cannot be read"):
        catalogue(VLMEVALKIT)
