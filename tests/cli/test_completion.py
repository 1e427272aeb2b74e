"""What a shell proposes when Tab is pressed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from adem_bench.cli import group


def proposed(*words: str) -> list[str]:
    *given, incomplete = words
    shell = ShellComplete(group, {}, "adem-bench", "_ADEM_BENCH_COMPLETE")
    return [item.value for item in shell.get_completions(list(given), incomplete)]


@pytest.mark.parametrize(
    ("words", "includes"),
    [
        (("leader",), ["leaderboard"]),
        (("data", "ver"), ["verify"]),
        (("run", "--model", "adem-t"), ["adem-tiny"]),
        (("run", "--model", "adem-tiny", "--tasks", "mini_s"), ["mini_sqa"]),
        (("run", "--tasks", "mini_sqa,mini_m"), ["mini_sqa,mini_mme"]),
        (("train", "--recipe", "mi"), ["mini"]),
        (("train", "--recipe", "mini", "--eval", "mini_m"), ["mini_mme"]),
        (("train", "--model", "adem-t"), ["adem-tiny"]),
        (("ask", "--model", "ech"), ["echo"]),
        (("demo", "--model", "ech"), ["echo"]),
        (("models", "show", "adem-t"), ["adem-tiny"]),
        (("models", "pull", "adem-7"), ["adem-7b"]),
        (("tasks", "show", "mmb"), ["mmbench"]),
        (("recipes", "show", "sq"), ["sqa"]),
        (("data", "status", "mme", "mmb"), ["mmbench"]),
        (("data", "fetch", "mmb"), ["mmbench"]),
        (("score", "--task", "mmb"), ["mmbench"]),
        (("leaderboard", "--tasks", "mmb"), ["mmbench"]),
        (("compare", "--tasks", "mmb"), ["mmbench"]),
        (("rerun", "--model", "ech"), ["echo"]),
    ],
)
def test_verbs_and_names_of_cards_are_proposed(words, includes):
    assert proposed(*words) == includes


def test_a_name_in_a_list_is_proposed_once():
    assert "mini_sqa,mini_sqa" not in proposed("run", "--tasks", "mini_sqa,mini_")
    assert "mini_sqa,mini_mme" in proposed("run", "--tasks", "mini_sqa,mini_")


def test_cards_of_an_included_folder_are_proposed_and_else_files(tmp_path, monkeypatch):
    monkeypatch.setenv("ADEM_BENCH_INCLUDE", "")  # which a process that answers a shell leaves
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "quiz.yaml").write_text("split: test")
    assert proposed("run", "--include", str(tmp_path), "--tasks", "qui") == ["quiz"]
    shell = ShellComplete(group, {}, "adem-bench", "_ADEM_BENCH_COMPLETE")
    (item,) = shell.get_completions(["run", "--model"], "out/")
    assert (item.type, item.value) == ("file", "out/")


def test_the_shell_is_answered_without_torch():
    code = (
        "import sys\n"
        "from adem_bench.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(*{'torch', 'numpy', 'rich'} & set(sys.modules))\n"
    )
    words = {
        "COMP_WORDS": "adem-bench run --model adem-t", "COMP_CWORD": "3",
        "_ADEM_BENCH_COMPLETE": "bash_complete",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | words, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["plain,adem-tiny", ""], done.stderr


def test_help_says_how_it_is_switched_on(adem_bench):
    assert 'eval "$(_ADEM_BENCH_COMPLETE=bash_source adem-bench)"' in " ".join(
        adem_bench("--help").out.split()
    )
