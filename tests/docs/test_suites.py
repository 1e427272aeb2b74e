"""docs/run-files.md and docs/from-lmms-eval.md: their commands as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from adem_bench.cards import expand_tasks
from adem_bench.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
RUN_FILES = (DOCS / "run-files.md").read_text("utf-8")
LMMS_EVAL = (DOCS / "from-lmms-eval.md").read_text("utf-8")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(mini, tmp_path, monkeypatch, capsys):
    """Run the lines of a block as a shell would: variables and names of files are filled in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADEM_BENCH_DATA", raising=False)

    def run(block, **variables):
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            program, *arguments = shlex.split(line)
            assert program == "adem-bench"
            found = [str(p) for each in arguments for p in (sorted(Path().glob(each)) or [each])]
            with pytest.raises(SystemExit) as stop:
                main(found)
            shown = capsys.readouterr()
            assert not stop.value.code, (line, shown.err)
        return shown.out

    return run


@pytest.mark.slow
def test_the_suite_runs_and_so_do_its_parts_as_an_array_of_jobs(shell, tmp_path):
    (suite,) = blocks(RUN_FILES, "yaml")
    (tmp_path / "suite.yaml").write_text(suite)
    plain, script, after = blocks(RUN_FILES, "sh")
    (array,) = re.findall(r"--array=1-(\d+)", script)
    for number in range(1, int(array) + 1):
        shell(script, SLURM_ARRAY_TASK_ID=str(number), SLURM_ARRAY_TASK_COUNT=array)
    wanted = yaml.safe_load(suite)
    cells = len(wanted["models"]) * len(wanted["settings"]) * len(wanted["tasks"])
    # One setting is of one task alone: the other's run is the plain one.
    assert len(list((tmp_path / "results").rglob("metrics.json"))) == cells - len(wanted["models"])
    assert shell(after).startswith("wrote suite.csv: ")
    before = {path: path.read_bytes() for path in (tmp_path / "results").rglob("samples.jsonl")}
    board = shell(plain)
    assert "adem-tiny-words" in board
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.slow
def test_the_steps_of_someone_from_lmms_eval_run(shell, tmp_path):
    (block,) = blocks(LMMS_EVAL, "sh")
    assert "runs: " in shell(block)
    assert len(list((tmp_path / "results").rglob("metrics.json"))) == 4


def test_the_tasks_named_for_those_of_lmms_eval_are_there():
    table = LMMS_EVAL.split("## Names of tasks")[1].split("## What")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    for there, here in rows:
        names = re.findall(r"`(\w+)`", there if "the same" in here else here)
        assert expand_tasks(names) == names


def test_the_json_of_the_document_has_the_keys_of_a_run():
    (shown,) = blocks(RUN_FILES, "json")
    (run,) = json.loads(shown)["runs"]
    assert {"model", "folder", "files", "task", "headline", "metrics"} <= set(run)
