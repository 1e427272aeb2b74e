"""Runs in this process: identity, blind, failures, warnings."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest

from adem_bench.errors import AdemBenchError, CardError, CheckpointError, DataError
from adem_bench.records import Response
from adem_bench.runner import loop
from adem_bench.runner.distributed import Processes
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.loop import run_task
from adem_bench.runner.manifest import RunOptions
from adem_bench.tasks.base import build_task
from adem_bench.tasks.coco_caption import java
from support.answering import Answering
from support.run_files import read_manifest, read_records


@pytest.fixture
def run(parity_card, mini, tmp_path):
    def call(tasks="mini_mme", options=None, **more):
        fields = {"data_root": mini, "results": tmp_path / "results"} | more
        evaluation = Evaluation(
            str(parity_card),
            tuple(tasks.split(",")),
            options=RunOptions(**({"limit": 24} | (options or {}))),
            **fields,
        )
        return list(evaluate(evaluation))

    return call


@pytest.fixture(scope="module")
def first(once, parity_card, mini):
    """Results of the run that `run` makes without arguments, to be read."""

    def make(folder):
        asked = {"options": RunOptions(limit=24), "data_root": mini, "results": folder}
        list(evaluate(Evaluation(str(parity_card), ("mini_mme",), **asked)))

    return once("first-run", make)


@pytest.fixture
def ran(first, tmp_path):
    """The folder of that run in `tmp_path/results`, to be gone on with."""
    shutil.copytree(first, tmp_path / "results")
    (manifest,) = (tmp_path / "results").rglob("manifest.json")
    return manifest.parent


@pytest.mark.parametrize("task", ["mini_sqa", "mini_mme", "mini_caption"])
def test_every_batch_size_gives_the_same_records(run, tmp_path, task, monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)  # scores of captions cost seconds
    found = []
    for size in (None, 1, 5):
        results = tmp_path / str(size)
        run(task, {"batch_size": size, "limit": 8}, results=results)
        found.append(read_records(results))
    assert found[1:] == [found[0]] * 2
    assert len(found[0]) == 8


def test_records_are_in_the_samples_order_with_what_is_needed_to_score_them(run, ran, tmp_path):
    (outcome,) = run()
    assert outcome.folder == ran
    lines = read_records(tmp_path / "results")
    assert [line["sample_id"] for line in lines] == sorted(line["sample_id"] for line in lines)
    assert {line["reference"] for line in lines} == {"Yes", "No"}
    assert all(line["cluster"] and line["groups"] for line in lines)
    assert outcome.result.coverage() == "SUBSET 24/320"
    assert json.loads((outcome.folder / "metrics.json").read_text())["complete"] is False


def test_a_second_run_answers_nothing_and_fresh_answers_all(run, ran, tmp_path):
    timing = read_manifest(tmp_path / "results")["timing"]
    assert run()[0].resumed == 24
    assert read_manifest(tmp_path / "results")["timing"] == timing
    assert run(options={"fresh": True})[0].resumed == 0


def test_a_finished_run_loads_no_weights(run, monkeypatch):
    def fail(self):
        raise CheckpointError("the weights are read")

    ((first,), monkey) = run(), "adem_bench.models.fused.backbone.FrozenParts._load_language_model"
    monkeypatch.setattr(monkey, fail)
    (again,) = run()
    assert (again.folder, again.resumed, again.result) == (first.folder, 24, first.result)
    for changed in ({"options": {"fresh": True}}, {"options": {"limit": 20}}):
        with pytest.raises(CheckpointError, match="the weights are read"):
            run(**changed)
    assert [path.name for path in first.folder.parent.iterdir()] == [first.folder.name]


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": ("fusion.alpha=0.3",)},
        {"adapter": "none"},
        {"dtype": "bfloat16"},
        {"options": {"blind": True}},
        {"options": {"limit": 20}},
        {"overrides": ("options.answer_rule=lmms_eval",)},
    ],
)
def test_another_model_prompt_or_option_never_reuses_records(run, ran, change):
    (second,) = run(**change)
    assert second.resumed == 0
    assert second.folder != ran


def test_changed_data_never_reuses_records(run, mini, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(mini, copy)
    first = run(data_root=copy)[0]
    (question, *_) = sorted((copy / "MME_Benchmark_release_version").rglob("*.txt"))
    question.write_text(question.read_text().replace("Is ", "Was "))
    second = run(data_root=copy)[0]
    assert second.resumed == 0
    assert second.folder != first.folder


def test_a_record_of_another_request_is_answered_again(run, ran):
    samples = ran / "samples.jsonl"
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    lines[3]["request_digest"] = "of an older prompt"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run()[0].resumed == 23


def test_blind_withholds_every_image(run, first, tmp_path):
    run(options={"blind": True})
    blind = read_records(tmp_path / "results")
    seeing = read_records(first)
    assert [b["response"] for b in blind] != [s["response"] for s in seeing]
    assert read_manifest(tmp_path / "results")["options"]["blind"] is True


def test_an_unreadable_image_is_counted_reported_and_tried_again(run, mini, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(mini, copy)
    (image, *_) = sorted((copy / "MME_Benchmark_release_version" / "existence").rglob("*.png"))
    whole = image.read_bytes()
    image.write_bytes(b"x" * len(whole))
    (outcome,) = run(data_root=copy)
    assert (outcome.result.scored, outcome.result.failed) == (22, 2)
    errors = [line for line in read_records(tmp_path / "results") if line["error"]]
    assert len(errors) == 2
    assert all("cannot be read" in line["error"] for line in errors)
    image.write_bytes(whole)
    (outcome,) = run(data_root=copy)
    assert (outcome.resumed, outcome.result.failed) == (22, 0)
    assert len(read_records(tmp_path / "results")) == 24


def test_a_malformed_row_is_counted_and_the_run_goes_on(run, mini, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(mini, copy)
    file = copy / "scienceqa" / "problems.json"
    problems = json.loads(file.read_text())
    first = json.loads((copy / "scienceqa" / "pid_splits.json").read_text())["test"][0]
    problems[first]["answer"] = 17
    file.write_text(json.dumps(problems))
    (outcome,) = run("mini_sqa", data_root=copy)
    assert (outcome.result.failed, outcome.result.unusable) == (1, 1)
    assert "0 failed, 1 row not usable" in repr(outcome.result)
    kept = json.loads((outcome.folder / "metrics.json").read_text())
    assert (kept["failed"], kept["unusable"]) == (1, 1)
    (line,) = [line for line in read_records(tmp_path / "results") if line["error"]]
    assert line["sample_id"] == first


def test_over_long_prompts_are_counted_in_the_result(run):
    (outcome,) = run("mini_sqa", overrides=("max_sequence_length=32",))
    assert any("quirk Q9" in warning for warning in outcome.result.warnings)


def test_prompts_other_than_the_tuned_ones_are_told_and_matched_on_request(run, tmp_path):
    tuned = "prompts={scienceqa: {prompt_format: CQM-A, captions: true}}"
    (outcome,) = run("mini_sqa", overrides=(tuned,))
    warnings = " ".join(outcome.result.warnings)
    assert "prompt_format: QCM-A here, CQM-A when the weights were tuned" in warnings
    assert "captions: off here, on when the weights were tuned" in warnings
    (outcome,) = run(
        "mini_sqa", overrides=(tuned,), prompt_format="matched", results=tmp_path / "m"
    )
    assert outcome.result.warnings == ()
    settings = read_manifest(tmp_path / "m")["task"]["prompt_settings"]
    assert settings == {"prompt_format": "CQM-A", "captions": True}


def test_matched_needs_a_word_on_some_task_and_leaves_the_others_as_they_are(run):
    with pytest.raises(CardError, match="name a format instead"):
        run("mini_sqa,mini_mme", prompt_format="matched")
    tuned = "prompts={scienceqa: {prompt_format: CQM-A, captions: true}}"
    outcomes = run("mini_sqa,mini_mme", overrides=(tuned,), prompt_format="matched")
    assert [outcome.result.task for outcome in outcomes] == ["mini_sqa", "mini_mme"]


def test_the_rate_is_of_samples_that_were_answered(mini, tmp_path, monkeypatch):
    """Those that fail at once would raise it, above all where only they are asked again."""
    clock = itertools.count(step=10.0)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))

    class FailingOften(Answering):
        def generate(self, requests):
            return [
                Response("", error="a moment's trouble") if "red" in r.prompt else answer
                for r, answer in zip(requests, super().generate(requests), strict=True)
            ]

    task = build_task("mini_mme", mini)
    asked = [task.request(sample).prompt for sample in task.samples()]
    failing = sum("red" in prompt for prompt in asked)
    assert 0 < failing < len(asked)
    for expected in ((len(asked) - failing) / 10, None):
        run_task(FailingOften(), task, RunOptions(), tmp_path, Processes())
        assert read_manifest(tmp_path)["timing"]["samples_per_second"] == expected


def test_the_manifest_says_what_the_run_was_made_of(first):
    manifest = read_manifest(first)
    assert manifest["model"]["card_digest"]
    assert manifest["task"]["card_digest"]
    assert manifest["model"]["trainable_parameters"] == 102_784
    assert manifest["task"]["data_fingerprint"]
    assert manifest["versions"]["torch"]
    assert manifest["hardware"]["cpu_count"]
    assert manifest["timing"]["samples_per_second"] > 0
    seconds = manifest["timing"]["loading_seconds"]
    assert seconds > 0
    (log,) = first.rglob("run.log")
    assert f"the model was loaded in {seconds} s" in log.read_text()
    assert manifest["memory"]["host"] > 1 << 20
    assert manifest["run"]["finished"] >= manifest["run"]["started"]


def test_missing_data_is_told_before_the_model_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.setattr("adem_bench.runner.evaluate.build_model", None)
    with pytest.raises(DataError, match="MME"):
        run("mme", data_root=tmp_path / "nothing")
    assert not (tmp_path / "results").exists()


def test_names_that_nobody_knows_are_answered_with_the_nearest(run):
    with pytest.raises(AdemBenchError, match="mini_mme"):
        run("mini_mne")
