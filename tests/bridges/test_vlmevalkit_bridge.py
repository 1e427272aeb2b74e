"""VLMEvalKit's own run and ours, of the same questions: every answer and every score.

Run by `make test-bridges`. The rows are those of the mini world in the columns of 22 data sets over
all kinds; the model is adem-tiny, asked in VLMEvalKit's prompts as instructions on both sides.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest

import adem_bench
from adem_bench.cli import main
from adem_bench.errors import CardError
from adem_bench.results.comparison import compare_runs
from adem_bench.results.runs import open_run
from adem_bench.results.validation.validate import validate_run
from adem_bench.tasks.harnesses import task
from adem_bench.tasks.harnesses.catalogue import catalogue
from adem_bench.tasks.harnesses.process import VLMEVALKIT, find, run_job
from bridges.harness_jobs import Server
from bridges.vlmevalkit_rows import miniature
from support.chat_server import serving
from support.killed_runs import killed_and_resumed

try:
    find(VLMEVALKIT)
except CardError as error:
    pytest.skip(str(error), allow_module_level=True)

MODEL = "adem-tiny"
SETS = {
    "multiple choice": ("MMStar", "AI2D_TEST", "MMBench_DEV_EN", "3DSRBench", "HRBench4K"),
    "placed images": ("MMMU_DEV_VAL", "MM_NIAH_VAL"),
    "yes/no": ("MME", "POPE", "HallusionBench", "AMBER"),
    "short answers": ("TextVQA_VAL", "ChartQA_TEST", "CountBenchQA", "TallyQA"),
    "text in images": ("OCRBench", "CCOCR_Kie_Cord"),
    "captions": ("COCO_VAL",),
    "places": ("ScreenSpot_Mobile", "OSWorld_G"),
    "mathematics": ("MM-Math", "PuzzleVQA"),
}
JUDGED = "MMVet"
TO_SERVERS = {
    "DocVQA_TEST": "model_DocVQA_TEST.xlsx",
    "MMMU_TEST": "model_MMMU_TEST.json",
}
"""Data sets whose right answers a server has, and what it takes."""
NAMES = [name for names in SETS.values() for name in names]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the rows, which VLMEvalKit's processes are told of."""
    folder = tmp_path_factory.mktemp("LMUData")
    os.environ["LMUData"] = str(folder)  # noqa: SIM112 - theirs
    known = catalogue(VLMEVALKIT, complete=True)
    for name in (*NAMES, *TO_SERVERS, JUDGED):
        miniature(known[name], known).write(folder)
    # Columns that these two have alone; MMVet divides by the number of each ability's questions.
    _with_column(folder / "MMMU_TEST.tsv", "id", lambda number: f"test_{number}")
    abilities = ("rec,ocr,know", "gen,spat,math")
    _with_column(folder / f"{JUDGED}.tsv", "category", lambda number: abilities[number % 2])
    return folder


def _with_column(table: Path, name: str, value: Callable[[int], str]) -> None:
    rows = pd.read_csv(table, sep="\t")
    rows.assign(**{name: list(map(value, range(len(rows))))}).to_csv(table, sep="\t", index=False)


@pytest.fixture(scope="module")
def theirs(data, tmp_path_factory):
    """The folder of VLMEvalKit's own run."""
    folder = tmp_path_factory.mktemp("theirs")
    script = Path(__file__).with_name("own_vlmevalkit.py")
    command = [find(VLMEVALKIT).python, str(script), MODEL, str(folder), *NAMES]
    root = str(Path(adem_bench.__file__).parents[1])
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": ""},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr[-3000:]
    return folder / MODEL


@pytest.fixture(scope="module")
def ours(data, tmp_path_factory):
    """A function that returns our outcome of a data set."""
    server, results = Server(VLMEVALKIT), tmp_path_factory.mktemp("ours")

    def run(name):
        benchmark = f"vlmevalkit:{name}"
        given = {"prompt_format": "instruction", "results": results}
        [outcome] = adem_bench.evaluate(MODEL, benchmark, **given)
        return outcome

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(task, "run_job", server.run_job)
        yield run
    server.close()


@pytest.mark.parametrize("name", NAMES)
def test_answers_and_every_score_are_those_of_vlmevalkit(name, theirs, ours):
    outcome = ours(name)
    [file] = {path.resolve() for path in theirs.rglob(f"{MODEL}_{name}.xlsx")}
    table = pd.read_excel(file, keep_default_na=False)
    own = dict(zip(table["index"].astype(str), table["prediction"].astype(str), strict=True))
    assert {record.sample_id: record.response for record in outcome.records} == own
    figures = {}
    for status in theirs.rglob("status.json"):
        figures |= json.loads(status.read_text())["datasets"].get(name, {}).get("metrics", {})
    assert figures
    found = {metric.name: metric.value for metric in outcome.result.metrics}
    found.pop("mean score", None)  # ours, where no figure of theirs is a mean
    assert found == pytest.approx({key: float(value) for key, value in figures.items()}, rel=1e-12)
    assert not validate_run(outcome.folder).issues


def test_the_sum_of_ocrbench_is_that_of_its_rows(ours):
    outcome = ours("OCRBench")
    assert sum(record.score for record in outcome.records) == outcome.metric("Final Score").value


def test_captions_have_what_they_add_to_figures_that_are_means(ours):
    outcome = ours("COCO_VAL")
    for name in ("CIDEr", "ROUGE_L"):
        metric = outcome.metric(name)
        assert metric.low is not None
        parts = [record.scores[name] for record in outcome.records]
        assert sum(parts) / len(parts) == pytest.approx(metric.value, rel=1e-12)


@pytest.mark.parametrize("name", ["ChartQA_TEST", "CountBenchQA"])
def test_rows_whose_scores_are_not_written_have_them(name, ours):
    outcome = ours(name)
    headline = outcome.metric(outcome.result.headline)
    scores = [record.scores[headline.name] for record in outcome.records]
    assert sum(scores) / len(scores) == pytest.approx(headline.value, rel=1e-12)
    assert all(0 <= record.score <= 1 for record in outcome.records)


def test_a_run_in_processes_of_its_own_is_the_same_and_is_compared(ours, tmp_path, monkeypatch):
    together = ours("MMStar")
    monkeypatch.setattr(task, "run_job", run_job)
    benchmark = "vlmevalkit:MMStar"
    [alone] = adem_bench.evaluate(MODEL, benchmark, prompt_format="instruction", results=tmp_path)
    assert alone.result.metrics == together.result.metrics
    compared = compare_runs([open_run(alone.folder), open_run(together.folder)])
    headline = compared.pairs[0].headline
    assert headline.second == headline.first


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as script:
        yield script


def environment_of_processes() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(adem_bench.__file__).parents[1])}


def lines_below(folder: Path, name: str) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob(name))


def test_two_processes_that_are_killed_while_they_ask_go_on_together(data, ours, server, tmp_path):
    results = tmp_path / "results"
    given = ["run", "--model", f"openai:m@{server.url}", "--tasks", "vlmevalkit:MMStar", "-q"]
    given += ["--results", results, "--set", "model.options.concurrency=1"]
    given += ["--prompt-format", "instruction"]
    done = killed_and_resumed(
        *(2, ["-m", "adem_bench", *given], server, lambda text: "A" if len(text) % 2 else "B"),
        *(lambda: lines_below(results, "samples*.jsonl"), tmp_path / "of"),
        environment_of_processes(),
    )
    assert [one.returncode for one in done] == [0, 0], done
    [manifest] = results.rglob("manifest.json")
    assert json.loads(manifest.read_text())["timing"]["resumed"] == 3
    assert not validate_run(manifest.parent).issues
    run, other = open_run(manifest.parent), open_run(ours("MMStar").folder)
    compared = compare_runs([other, run])
    # Its headline is that of one split: the other's samples have no part in it.
    scores = [[one.score for one in each.records.values()] for each in (other, run)]
    means = [fmean(score for score in each if score is not None) for each in scores]
    headline = compared.pairs[0].headline
    assert headline.second - headline.first == pytest.approx(means[1] - means[0])
    page = tmp_path / "report.html"
    with pytest.raises(SystemExit) as stop:
        main(["report", str(run.folder), str(other.folder), "--output", str(page)])
    assert not stop.value.code
    assert "vlmevalkit:MMStar" in page.read_text()


def test_a_judge_on_a_server_is_killed_and_goes_on(data, server, tmp_path):
    results, card = tmp_path / "results", tmp_path / "judge.yaml"
    options = f"{{source: 'm@{server.url}', concurrency: 1, input_price: 1, output_price: 2}}"
    card.write_text(f"title: Judge\nkind: openai\noptions: {options}\n")
    given = ["run", "--model", "constant:Two", "--tasks", f"vlmevalkit:{JUDGED}", "-q"]
    [done] = killed_and_resumed(
        *(1, ["-m", "adem_bench", *given, "--results", results, "--judge", card], server),
        lambda text: "0.5" if len(text) % 2 else "1.0",
        *(lambda: lines_below(results, "judge.jsonl"), tmp_path / "of"),
        environment_of_processes(),
    )
    assert not done.returncode, done
    [manifest] = results.rglob("manifest.json")
    about = json.loads(manifest.read_text())["judge"]
    run = open_run(manifest.parent)
    assert (about["questions"], about["failed"]) == (len(run.records), 0)
    lines = (manifest.parent / "judge.jsonl").read_text().splitlines()
    said_of = {line["sample_id"]: float(line["answer"]) for line in map(json.loads, lines)}
    assert {record.sample_id: record.score for record in run.records.values()} == said_of
    [overall] = (metric for metric in run.result.metrics if metric.name == run.result.headline)
    assert overall.value == pytest.approx(100 * sum(said_of.values()) / len(said_of))
    assert not validate_run(manifest.parent).issues


@pytest.mark.parametrize("name", TO_SERVERS)
def test_answers_for_a_server_are_written_to_the_file_that_it_takes(name, ours):
    outcome = ours(name)
    assert [metric.value for metric in outcome.result.metrics] == [None]
    [file] = (outcome.folder / "scoring").rglob(TO_SERVERS[name])
    assert f"{file.relative_to(outcome.folder)}" in " ".join(outcome.result.warnings)
    assert len(answers_in(file)) == len(outcome.records)


def answers_in(file: Path) -> Any:
    if file.suffix == ".json":
        return json.loads(file.read_text())
    return pd.read_excel(file, keep_default_na=False)["prediction"]
