"""Who may import whom, and what a quick command may not import at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "transformers", "open_clip", "torchvision", "pandas", "numpy"}


def test_layers_import_one_way():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["score", "--help"],
        ["leaderboard", "--help"],
        ["validate", "--help"],
        ["rerun", "--help"],
        ["models"],
        ["models", "show", "adem-7b"],
        ["models", "show", "hf:NAME"],
        ["models", "show", "openai:NAME@http://localhost:8000"],
        ["ask", "--help"],
        ["demo", "--help"],
        ["models", "pull", "--help"],
        ["train", "--help"],
        ["convert", "--help"],
        ["recipes"],
        ["recipes", "show", "sqa"],
        ["tasks"],
        ["data", "mini", "--help"],
        ["data", "fetch", "--help"],
    ],
    ids=" ".join,
)
def test_quick_commands_import_nothing_heavy(arguments, tmp_path):
    code = (
        "import sys\n"
        "from adem_bench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        f"print('heavy:', *({HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_leaderboards_and_published_figures_need_nothing_heavy(tmp_path):
    (tmp_path / "results").mkdir()
    code = (
        "import sys\n"
        "from adem_bench.cli import main\n"
        "try: main(['leaderboard', '--published'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"assert not {HEAVY!r} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
