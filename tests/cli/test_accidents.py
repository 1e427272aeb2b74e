"""Machines that are not as one expects: no home, odd names of files, no UTF-8."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from adem_bench.results.run_folder import read_run_file

LONG = "x" * 300
TSV = "index\timage_path\tquestion\tanswer\n1\tü.png\tIs it so?\tYes\n2\ta.png\tAnd so?\tYes\n"


@pytest.fixture
def questions(tmp_path):
    """Makes a folder, of any name, with a task on two images."""

    def make(name):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "yn.yaml").write_text("kind: tsv_yes_no\nsplit: test\nheadline: accuracy\n")
        (folder / "yn.tsv").write_text(TSV, encoding="utf-8")
        Image.new("RGB", (8, 8)).save(folder / "a.png")
        (folder / "ü.png").write_bytes((folder / "a.png").read_bytes())
        return folder

    return make


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home folder, who names no cache either."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("ADEM_BENCH_CACHE", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "käse", "a\tb", "two\nlines"])
def test_every_verb_takes_a_folder_of_any_name(adem_bench, questions, monkeypatch, name):
    folder = questions(name)
    results = folder / "results"
    monkeypatch.setattr(sys, "argv", ["adem-bench", str(results)])  # what the manifest keeps
    run = ("run", "--model", "constant:Yes", "--tasks", folder / "yn.yaml", "--data-root", folder)
    made = adem_bench(*run, "--results", results)
    assert (made.code, "100.00" in made.out) == (0, True)
    (one,) = (path.parent for path in results.rglob("manifest.json"))
    assert str(results) in read_run_file(one / "manifest.json")["command"]
    for command in (
        ("leaderboard", results),
        ("leaderboard", results, "--format", "csv"),
        ("validate", one, "--data-root", folder),
        ("report", results, "--output", folder / "page.html", "--data-root", folder),
        ("rerun", one, "--results", folder / "again", "--data-root", folder),
        (*run, "--results", results),
    ):
        done = adem_bench(*command)
        assert (done.code, done.err) == (0, ""), command


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "\ud83d"])
def test_every_verb_takes_a_model_whose_name_is_not_utf8(adem_bench, questions, name):
    folder = questions("here")
    data = ("--data-root", folder)
    run = ("run", "--tasks", folder / "yn.yaml", *data, "--results", folder / "results", "--model")
    assert adem_bench(*run, f"constant:{name}").code == 0
    assert adem_bench(*run, "constant:Yes").code == 0
    one, other = sorted(path.parent for path in folder.rglob("metrics.json"))
    for command in (
        ("leaderboard", folder / "results"),
        ("validate", one, other, *data),
        ("compare", one, other),
        ("report", folder / "results", "--output", folder / "page.html", *data),
        ("score", one, *data),
        ("score", other, *data),
        ("rerun", one, "--results", folder / "again", *data),
    ):
        done = adem_bench(*command)
        assert (done.code, "left out" in done.err) == (0, False), (command, done.err)


def test_without_a_home_folder_what_needs_none_works(adem_bench, questions, homeless):
    folder = questions("here")
    tasks = ("--tasks", folder / "yn.yaml", "--data-root", folder)
    assert adem_bench("run", "--model", "constant:Yes", *tasks).code == 0
    for verb in (("tasks", "show", "mmbench"), ("models",), ("data", "status", "mmbench")):
        assert adem_bench(*verb).code == 0


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("run --model constant:Yes --tasks mini_mme", "set ADEM_BENCH_CACHE to a folder"),
        ("run --model adem-tiny --tasks mini_mme --adapter ~/a", "write the whole path, or set"),
        ("run --model ~/a.yaml --tasks mini_mme", "write the whole path, or set HOME"),
        ("models show ~nobody-of-this-name/a.yaml", "write the whole path, or set HOME"),
        ("--include ~/cards models", "error: "),
    ],
)
def test_without_a_home_folder_what_needs_one_says_so(adem_bench, homeless, command, remedy):
    failed = adem_bench(*command.split())
    assert failed.code == 2
    assert remedy in failed.err
    assert all(line.startswith("error: ") for line in failed.err.splitlines())


@pytest.mark.parametrize(
    "command",
    [
        f"run --model {LONG} --tasks mini_mme",
        f"run --model {LONG}.yaml --tasks mini_mme",
        f"run --model adem-tiny --tasks {LONG}",
        f"run --model adem-tiny --tasks mini_mme --adapter {LONG}",
        f"run --model constant:Yes --tasks mini_mme --limit 2 --results {LONG}",
        f"run --model constant:Yes --tasks mme --data-root {LONG}",
        f"models show {LONG}",
        f"models pull {LONG}",
        f"tasks show {LONG}",
        f"recipes show {LONG}",
        f"leaderboard {LONG}",
        f"report {LONG} --output page.html",
        f"validate {LONG}",
        f"score --task mini_mme --predictions {LONG}",
        f"data status {LONG}",
    ],
)
def test_a_name_that_no_file_can_have_is_a_mistake_of_the_user(adem_bench, command):
    failed = adem_bench(*command.split())
    assert failed.code == 2
    assert failed.err.startswith("error: ")
    assert failed.err.count("\n") == 1


def test_a_model_of_a_long_name_has_its_runs_in_a_folder_of_a_shorter_one(adem_bench, questions):
    folder = questions("here")
    tasks = ("--tasks", folder / "yn.yaml", "--data-root", folder)
    for name in (LONG, f"{LONG}y"):
        assert adem_bench("run", "--model", f"constant:{name}", *tasks).code == 0
        assert "2 records were" in adem_bench("run", "--model", f"constant:{name}", *tasks).out
    assert len(list(Path("results").iterdir())) == 2
    found = {
        read_run_file(path)["model"]["name"] for path in Path("results").rglob("manifest.json")
    }
    assert found == {f"constant:{LONG}", f"constant:{LONG}y"}


ENDS = """
import glob, json, os, sys
from adem_bench.cli import main
for command in json.load(sys.stdin):
    made = glob.glob("results/majority/*/*/manifest.json")
    try:
        main([os.path.dirname(made[0]) if word == "RUN" else word for word in command])
    except SystemExit as end:
        print(end.code or 0, *command, file=sys.stderr)
"""
"""Runs command lines in one process, which has a locale of its own."""


def in_c_locale(folder, commands, **more):
    """Run command lines in one process in the C locale."""
    return subprocess.run(
        [sys.executable, "-c", ENDS],
        input=json.dumps(commands).encode(), cwd=folder, capture_output=True, check=False,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", **more},
    )  # fmt: skip


def test_a_locale_without_utf8_fails_only_what_it_cannot_name(questions):
    folder = questions("here")
    (folder / "named.yaml").write_text("name: käse\nkind: constant\noptions: {source: 'Yes'}\n")
    run = ["run", "--tasks", "yn.yaml", "--data-root", ".", "--model"]
    done = in_c_locale(folder, [[*run, "constant:Yes"], [*run, "named.yaml"]])
    ended, failed, *rest = done.stderr.splitlines()
    assert ended.startswith(b"0 run ")  # and nothing was told before
    assert b"100.00" in done.stdout
    assert b"set PYTHONUTF8=1, or a locale in UTF-8" in failed
    assert rest[-1].startswith(b"2 run ")


@pytest.mark.slow
def test_every_verb_in_a_locale_without_utf8_in_a_folder_that_is_not(questions):
    folder = questions(os.fsdecode(b"caf\xe9"))
    run = ["run", "--tasks", "yn.yaml", "--data-root", str(folder), "--model"]
    made = [[*run, "constant:Yes"], [*run, "majority"], [*run, "majority", "--dry-run"]]
    commands = [
        ["leaderboard"], ["leaderboard", "--format", "html", "--output", str(folder / "b.html")],
        ["compare", "majority", "constant:Yes"], ["report", "results", "--output", "page.html"],
        ["validate", "results", "--data-root", str(folder)],
        ["score", "RUN", "--data-root", "."],
        ["rerun", "RUN", "--data-root", ".", "--results", str(folder / "again")],
        ["ask", "--model", "constant:Yes", "--image", str(folder / "a.png"), "so?"],
        ["tasks", "show", str(folder / "yn.yaml")], ["tasks"], ["models"], ["recipes"],
        ["recipes", "show", "mini"], ["models", "show", "adem-tiny"],
        ["data", "status", "yn.yaml", "--data-root", str(folder)],
    ]  # fmt: skip
    done = in_c_locale(folder, [*made, *commands], PYTHONIOENCODING="ascii")
    ends = [line for line in done.stderr.decode().splitlines() if line[:1].isdigit()]
    assert len(ends) == len(made) + len(commands), done.stderr
    assert not [line for line in ends if not line.startswith("0 ")], done.stderr
