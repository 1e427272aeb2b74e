"""The gate of docs/ci-gate.md: its workflow is valid, and its steps do what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from adem_bench.cli import main
from adem_bench.metrics.paired import Difference, units_needed

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ci-gate.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


WORKFLOW = yaml.safe_load(blocks("yaml")[0])
STEPS = WORKFLOW["jobs"]["gate"]["steps"]


def program(line):
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(os.path.expandvars(line))[1:])
    return int(stop.value.code or 0)


def shell(step):
    """Run a step as the runner's `bash -e` would; the program itself in this process."""
    for line in step["run"].splitlines():
        if line.startswith("adem-bench "):
            code = program(line)
        else:
            code = subprocess.run(["bash", "-e", "-c", line], check=False).returncode
        if code:
            return code
    return 0


def run_job():
    """Run the job's steps and return the name and the exit code of each that ran."""
    codes = {}
    for step in STEPS:
        if "uses" in step or step["run"].startswith("pip install"):
            continue
        if not any(codes.values()) or step.get("if") == "always()":
            codes[step["name"]] = shell(step)
    return codes


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A folder with the baseline, made by the page's own command."""
    monkeypatch.chdir(tmp_path)
    for name, value in WORKFLOW["env"].items():
        monkeypatch.setenv(name, value)
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    (commands,) = blocks("sh")
    assert [program(line) for line in commands.splitlines()] == [0]
    return summary


def test_the_workflow_is_one():
    assert WORKFLOW[True] == "pull_request"  # YAML 1.1 reads `on` as true, and so does GitHub
    assert WORKFLOW["jobs"]["gate"]["runs-on"] == "ubuntu-latest"
    assert sum("pip install" in step.get("run", "") for step in STEPS) == 1
    for step in STEPS:
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/any@v1"))


@pytest.mark.slow
def test_the_job_passes_for_what_is_as_good_and_fails_for_what_is_worse(job, monkeypatch):
    as_good = run_job()
    assert set(as_good.values()) == {0}
    assert len(as_good) == 3
    assert "gate passed: B is within the margin of A on 2 tasks" in job.read_text("utf-8")
    job.unlink()
    (job.parent / "candidate").rename(job.parent / "earlier")
    monkeypatch.setenv("MODEL", "constant:E")
    assert list(run_job().values()) == [0, 4, 0]
    assert "gate not passed: worse on mini_mme/test, mini_sqa/test" in job.read_text("utf-8")


def test_the_table_of_margins_is_what_the_program_says():
    rows = re.findall(r"^\| (\d+) points? \| ([\d,]+) \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 3
    # Two models that differ on one question in ten, each better on half of these.
    pilot = Difference("m", 0, 0, 0, 0, 1, 1, "", 1000, standard_error=(0.1 / 1000) ** 0.5)
    for points, questions in rows:
        assert units_needed(pilot, int(points) / 100) == int(questions.replace(",", ""))
