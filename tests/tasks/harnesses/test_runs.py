"""Benchmarks of the two stand-ins, from `run` to `validate`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import adem_bench
from adem_bench.cli import main
from adem_bench.errors import CardError, DataError, PredictionsError
from adem_bench.results.comparison import compare_runs
from adem_bench.results.runs import open_run
from adem_bench.results.validation.validate import validate_run
from adem_bench.tasks.base import build_task
from adem_bench.tasks.harnesses import task as module
from adem_bench.tasks.predictions import read_predictions
from support.chat_server import serving
from support.killed_runs import killed_and_resumed


def command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert not stop.value.code


def run_of(results: Path, model: str, task: str) -> Path:
    command("run", "--model", model, "--tasks", task, "--results", results)
    [manifest] = results.glob(f"*/{task.replace(':', '_')}/*/manifest.json")
    return manifest.parent


def metrics(run: Path) -> dict[str, dict]:
    found = json.loads((run / "metrics.json").read_text())
    return {metric["name"]: metric for metric in found["metrics"]}


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def test_a_data_set_of_vlmevalkit_is_run_scored_and_kept(stand_ins, tmp_path, monkeypatch):
    monkeypatch.delenv("STAND_IN_WITHOUT_TORCH")  # as the real one is
    run = run_of(tmp_path / "a", "constant:Yes", "vlmevalkit:MME")
    found = metrics(run)
    overall = found["split=none|Overall"]
    assert overall["value"] == pytest.approx(200 / 3)
    assert (overall["unit"], overall["count"]) == ("points", 6)
    assert overall["low"] < overall["value"] < overall["high"]
    assert overall["note"] == "ms-vlmeval 0.0.20, exact matching in place of a judge (--judge)"
    assert found["split=none|of cold"]["value"] == pytest.approx(75)
    assert found["split=none|spread"]["low"] is None
    assert "no mean over samples" in found["split=none|spread"]["note"]
    kept = json.loads((run / "metrics.json").read_text())
    assert kept["headline"] == "split=none|Overall"
    assert "scored by VLMEvalKit (ms-vlmeval 0.0.20), by exact matching" in kept["warnings"][0]
    assert [record["score"] for record in records(run)] == [0, 1, 1, 0, 1, 1]
    assert records(run)[1]["groups"] == ["category/cold"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["versions"]["ms-vlmeval"] == "0.0.20"
    command("report", run, "--output", tmp_path / "report.html")
    assert "split=none|of cold" in (tmp_path / "report.html").read_text()
    assert not validate_run(run).issues
    # The scores are kept: the same command asks for no scoring, and gives the same.
    before = (run / "samples.jsonl").read_bytes()
    real = module.run_job

    def no_scoring(harness, job, *rest):
        assert job["do"] == "build"
        return real(harness, job, *rest)

    monkeypatch.setattr(module, "run_job", no_scoring)
    assert run_of(tmp_path / "a", "constant:Yes", "vlmevalkit:MME") == run
    assert (run / "samples.jsonl").read_bytes() == before
    spoiled = Path(shutil.copytree(run, tmp_path / "spoiled" / run.name))
    line = before.replace(b'"score": 0.0', b'"score": 1.0', 1)
    (spoiled / "samples.jsonl").write_bytes(line)
    issues = [issue.text for issue in validate_run(spoiled).issues]
    assert "score is 1.0, expected 0.0 of the whole set" in issues


def test_a_task_of_lmms_eval_is_run_scored_and_compared(stand_ins, tmp_path):
    yes = run_of(tmp_path / "yes", "constant:<think>no</think>yes\nindeed", "lmms_eval:mini_yes_no")
    no = run_of(tmp_path / "no", "constant:No", "lmms_eval:mini_yes_no")
    found = metrics(yes)
    assert found["accuracy,none"]["value"] == pytest.approx(2 / 3)
    assert found["accuracy,none"]["interval"] == "Wilson"
    assert found["f1,none"]["value"] == pytest.approx(0.8)
    assert found["f1,none"]["low"] is None
    # The task's stop string and its length.
    assert {record["response"] for record in records(yes)} == {"<think>no</think>yes"}
    compared = compare_runs([open_run(yes), open_run(no)])
    assert compared.headline == "accuracy,none"
    headline = compared.pairs[0].headline
    assert headline.second - headline.first == pytest.approx(-1 / 3)


def test_messages_are_asked_where_there_is_nothing_else(stand_ins):
    task = build_task("lmms_eval:mini_messages", None)
    request = task.request(next(task.samples()))
    assert [(part.text, part.image) for part in request.parts] == [
        ("Be brief.", None),
        ("Look:", None),
        ("", 0),
        ("Is it red?", None),
    ]
    assert build_task("lmms_eval:mini_yes_no", None).options_for_chat(task.card) == {
        "messages": True
    }


def test_a_figure_that_is_the_mean_of_single_samples_has_their_parts(stand_ins, tmp_path):
    task = build_task("lmms_eval:mini_messages", None)
    found = task.score_set(task.import_predictions(predictions(tmp_path)), tmp_path / "scoring")
    assert found.metrics[0].value == pytest.approx(2 / 3)
    assert [found.figures[str(n)]["f1,none"] for n in range(6)] == [0, 1, 1, 0, 1, 1]


def test_answers_for_a_server_are_written_and_not_scored(stand_ins, tmp_path):
    task = build_task("lmms_eval:mini_server", None)
    found = task.score_set(task.import_predictions(predictions(tmp_path)), tmp_path / "scoring")
    assert not found.metrics
    assert "submissions/answers.json" in found.warnings[0]
    assert list((tmp_path / "scoring").rglob("answers.json"))


def test_answers_to_questions_without_right_ones_are_a_file_and_no_figure(
    stand_ins, tmp_path, monkeypatch
):
    data = tmp_path / "LMUData"
    data.mkdir()
    table = pd.read_csv(stand_ins / "LMUData" / "own.tsv", sep="\t")
    table.drop(columns="answer").to_csv(data / "unanswered.tsv", sep="\t", index=False)
    monkeypatch.setenv("LMUData", str(data))
    run = run_of(tmp_path / "results", "constant:Yes", "vlmevalkit:unanswered")
    assert [metric["value"] for metric in metrics(run).values()] == [None]
    told = json.loads((run / "metrics.json").read_text())
    file = "scoring/files/model/run/model_unanswered.xlsx"
    assert f"what it takes is {file} in the run's folder" in told["warnings"][0]
    answers = pd.read_excel(run / file)
    assert list(answers["prediction"]) == ["Yes"] * 6
    assert "image" not in answers
    assert [record["score"] for record in records(run)] == [None] * 6
    assert not validate_run(run).issues
    command("leaderboard", tmp_path / "results")


def test_images_between_texts_stay_there(stand_ins, tmp_path):
    task = build_task("vlmevalkit:Between", None)
    sample = next(task.samples())
    request = task.request(sample)
    assert [(part.text, part.image) for part in request.parts] == [
        ("Look:", None),
        ("", 0),
        ("Is it {red}?", None),
    ]
    assert request.prompt == "Look:\nIs it {red}?"
    instruction = build_task("vlmevalkit:Between", None, prompt_format="instruction")
    assert instruction.request(sample).parts == ()


def test_damaged_samples_in_the_cache_are_made_anew(stand_ins, tmp_path, monkeypatch):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path))
    before = list(build_task("vlmevalkit:own", None).samples())
    [samples], [built] = tmp_path.rglob("samples.jsonl"), tmp_path.rglob("built-*.json")
    samples.write_bytes(samples.read_bytes()[:-9])
    assert list(build_task("vlmevalkit:own", None).samples()) == before
    built.write_text('["spoiled"]')
    assert list(build_task("vlmevalkit:own", None).samples()) == before


def test_an_image_that_a_kill_has_torn_is_unpacked_again(stand_ins, tmp_path, monkeypatch):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("MINI_TEARS", "3")
    with pytest.raises(DataError, match="reading own: it ended with code -9"):
        build_task("vlmevalkit:own", None).digest()
    assert len(list(tmp_path.rglob("*.png"))) == 4
    monkeypatch.delenv("MINI_TEARS")
    samples = list(build_task("vlmevalkit:own", None).samples())
    assert [Image.open(sample.images[0]).convert("RGB").size for sample in samples] == [(4, 4)] * 6
    assert len(list(tmp_path.rglob("*.png"))) == 6


def test_of_two_that_want_the_same_samples_one_reads_them(stand_ins, tmp_path, monkeypatch):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path))
    jobs = []

    def read(harness, job, *rest):
        jobs.append(job["do"])
        time.sleep(0.2)  # long enough for the other to come
        samples = tmp_path / "samples.jsonl"
        samples.write_text("")
        return {"samples": str(samples), "bytes": 0, "digest": "d", "count": 0, "reads": []}

    monkeypatch.setattr(module, "run_job", read)
    tasks = [build_task("vlmevalkit:own", None) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda task: task.digest(), tasks)) == ["d", "d"]
    assert jobs == ["build"]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as script:
        yield script


def environment_of_processes() -> dict[str, str]:
    places = [str(Path(adem_bench.__file__).parents[1]), os.environ["PYTHONPATH"]]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def lines_below(folder: Path, name: str) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob(name))


@pytest.mark.slow
def test_two_processes_that_are_killed_while_they_ask_go_on_together(stand_ins, tmp_path, server):
    def answer(text):
        return "No" if "{blue}" in text else "Yes"

    results = tmp_path / "results"
    given = ["run", "--model", f"openai:m@{server.url}", "--tasks", "vlmevalkit:MME", "-q"]
    given += ["--results", results, "--set", "model.options.concurrency=1"]
    done = killed_and_resumed(
        *(2, ["-m", "adem_bench", *given], server, answer),
        *(lambda: lines_below(results, "samples*.jsonl"), tmp_path / "of"),
        environment_of_processes(),
    )
    assert [one.returncode for one in done] == [0, 0], done
    [manifest] = results.rglob("manifest.json")
    run = manifest.parent
    assert [record["score"] for record in records(run)] == [0, 0, 1, 0, 1, 1]
    assert json.loads(manifest.read_text())["run"]["processes"] == 2
    assert json.loads(manifest.read_text())["timing"]["resumed"] == 3
    assert not validate_run(run).issues
    other = run_of(tmp_path / "b", "constant:Yes", "vlmevalkit:MME")
    compared = compare_runs([open_run(other), open_run(run)]).pairs[0].headline
    assert compared.second - compared.first == pytest.approx(-100 / 6)
    command("report", run, other, "--output", tmp_path / "report.html")
    assert "split=none|of cold" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_judging_that_is_killed_goes_on_and_pays_for_no_answer_twice(stand_ins, tmp_path, server):
    results, card = tmp_path / "results", tmp_path / "judge.yaml"
    prices = "concurrency: 1, input_price: 1000, output_price: 5000"
    card.write_text(
        f"title: Judge\nkind: openai\noptions: {{source: 'm@{server.url}', {prices}}}\n"
    )
    given = ["run", "--model", "constant:Perhaps", "--tasks", "vlmevalkit:MME", "-q", "--results"]
    [done] = killed_and_resumed(
        *(1, ["-m", "adem_bench", *given, results, "--judge", card], server),
        lambda text: "No" if "{blue}" in text else "Yes",
        *(lambda: lines_below(results, "judge.jsonl"), tmp_path / "of"),
        environment_of_processes(),
    )
    assert not done.returncode, done
    [manifest] = results.rglob("manifest.json")
    run = manifest.parent
    assert [record["score"] for record in records(run)] == [0, 0, 1, 0, 1, 1]
    about = json.loads(manifest.read_text())["judge"]
    assert (about["questions"], about["failed"], about["prompt_tokens"]) == (6, 0, 60)
    assert about["cost"] == pytest.approx((60 * 1000 + 12 * 5000) / 1e6)
    assert not validate_run(run).issues


@pytest.mark.slow
def test_the_fingerprint_follows_the_data(stand_ins, tmp_path, monkeypatch):
    before = build_task("vlmevalkit:own", None).fingerprint()
    moved = Path(shutil.copytree(stand_ins / "LMUData", tmp_path / "moved"))
    monkeypatch.setenv("LMUData", str(moved))
    assert build_task("vlmevalkit:own", None).fingerprint() == before
    file = moved / "own.tsv"
    file.write_text(file.read_text().replace("{red}", "{pink}"))
    assert build_task("vlmevalkit:own", None).fingerprint() != before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vlmevalkit:MMR", "did you mean: MME"),
        ("vlmevalkit:Turns", "conversations of several turns"),
        ("vlmevalkit:Film", "it shows videos"),
        ("lmms_eval:mini_rounds", "several rounds"),
        ("lmms_eval:mini_film", "it shows videos"),
        ("vlmeval:MME", "names before a colon are vlmevalkit, lmms_eval"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(stand_ins, name, words):
    with pytest.raises(CardError, match=words):
        build_task(name, None)


def test_nothing_is_downloaded_without_being_asked_for(stand_ins):
    # The stand-in would fetch what is not there, and what it finds changed (MME, above).
    task = build_task("vlmevalkit:POPE", None)
    with pytest.raises(DataError, match=r"POPE: .*nothing is downloaded .*fetch vlmevalkit:POPE`"):
        task.fingerprint()
    assert not (stand_ins / "LMUData" / "POPE.tsv").exists()


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [
        ("mini_outside", 600, r"scoring mini_outside: PermissionError: .*outside the folder"),
        ("mini_dies", 600, "ended with code 3 and no answer"),
        ("mini_broken", 600, "KeyError: 'no such column'"),
        ("mini_endless", 3, "ended after 3 seconds without an answer"),
    ],
)
def test_scoring_that_fails_is_an_error_and_the_answers_are_kept(
    stand_ins, tmp_path, name, limit, words
):
    task = build_task("lmms_eval:mini_yes_no", None)
    task.fingerprint()
    task.options = task.options.model_copy(update={"source": name, "time_limit": limit})
    answered = task.import_predictions(predictions(tmp_path))
    with pytest.raises(DataError, match=words):
        task.score_set(answered, tmp_path / "scoring")
    assert not (stand_ins / "rows.jsonl.outside").exists()


def started(results: Path, **variables: str) -> subprocess.Popen[bytes]:
    given = ["--model", "constant:Yes", "--tasks", "vlmevalkit:MME", "--results", str(results)]
    command = [sys.executable, "-m", "adem_bench", "run", *given]
    places = [str(Path(adem_bench.__file__).parents[1]), os.environ["PYTHONPATH"]]
    variables["PYTHONPATH"] = os.pathsep.join(places)
    return subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.DEVNULL)


def waited(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 300
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return value


@pytest.mark.slow
def test_a_run_killed_while_it_is_scored_leaves_no_process_and_goes_on(stand_ins, tmp_path):
    results = tmp_path / "results"
    process = started(results, MINI_WAITS="1")
    said = waited(
        lambda: re.search(
            r"process (\d+) waits",
            "".join(path.read_text() for path in results.rglob("scoring/log.txt")),
        )
    )
    process.kill()
    process.wait()
    waited(lambda: not Path("/proc", said[1]).exists())
    [before] = results.rglob("samples.jsonl")
    answered = [json.loads(line)["response"] for line in before.read_text().splitlines()]
    assert answered == ["Yes"] * 6
    run = run_of(results, "constant:Yes", "vlmevalkit:MME")
    assert run == before.parent
    assert metrics(run)["split=none|Overall"]["value"] == pytest.approx(200 / 3)
    assert not validate_run(run).issues


def test_a_row_whose_prompt_cannot_be_made_is_named(stand_ins, tmp_path, monkeypatch):
    data = Path(shutil.copytree(stand_ins / "LMUData", tmp_path / "LMUData"))
    file = data / "own.tsv"
    lines = file.read_text().splitlines()
    lines[3] = "2\tx\tIs it {green}?\tYes\tcold"
    file.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("LMUData", str(data))
    with pytest.raises(DataError, match=r"reading own: RuntimeError: row 2: Error: "):
        build_task("vlmevalkit:own", None).fingerprint()


def predictions(folder: Path) -> Path:
    path = folder / "predictions.jsonl"
    rows = [{"id": str(number), "response": "Yes"} for number in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_predictions_of_other_code_are_scored(stand_ins, tmp_path, capsys):
    file = predictions(tmp_path)
    command("score", "--task", "lmms_eval:mini_yes_no", "--predictions", file)
    shown = capsys.readouterr().out
    assert "accuracy,none" in shown
    assert "66.67" in shown


def test_published_records_of_a_harness_are_runs_of_its_tasks(stand_ins, tmp_path):
    own = run_of(tmp_path / "own", "constant:Yes", "vlmevalkit:MME")
    rows = [
        {"index": line["sample_id"], "question": "?", "prediction": "Yes"}
        | ({"answer": line["reference"][0]} if line["reference"] else {})
        for line in records(own)
    ]
    sheet = tmp_path / "their_MME.xlsx"
    pd.DataFrame(rows).to_excel(sheet, index=False)
    score = ("--results", tmp_path / "results", "--as-run", "theirs")
    command("score", "--task", "vlmevalkit:MME", "--predictions", sheet, *score)
    [theirs] = (path.parent for path in (tmp_path / "results").rglob("manifest.json"))
    assert metrics(theirs) == metrics(own)
    assert [r["score"] for r in records(theirs)] == [r["score"] for r in records(own)]
    assert compare_runs([open_run(own), open_run(theirs)]).samples == len(rows)
    task = build_task("lmms_eval:mini_yes_no", None)
    lines = [
        {"doc_id": int(s.id), "input": "x", "target": s.reference[0], "filtered_resps": ["Yes"]}
        for s in task.samples()
    ]
    file = tmp_path / "d_samples_mini_yes_no.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_predictions(task, file)
    assert [(r.sample_id, r.response) for r in read] == [(s.id, "Yes") for s in task.samples()]
    with pytest.raises(PredictionsError, match="is of lmms-eval, and the rows of task"):
        read_predictions(build_task("vlmevalkit:MME", None), file)
    lines[1]["target"] = "perhaps"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(PredictionsError, match=r"another right answer .* in line 2: 'perhaps'"):
        read_predictions(task, file)
