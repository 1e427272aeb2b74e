"""A model's card says how it is asked, and whoever runs it can say otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import adem_bench
from adem_bench.cards import load_model_card, packaged_folder
from adem_bench.errors import CardError
from adem_bench.results.validation.validate import validate_run
from adem_bench.runner.evaluate import Evaluation, check_evaluation, evaluate, task_for
from adem_bench.runner.manifest import RunOptions
from support.fused import FIXTURES
from support.run_files import read_manifest, read_records

QUESTION = "evaluation={mme: {prompt_format: question, answer_rule: lmms_eval, max_new_tokens: 3}}"


def card(*settings):
    return load_model_card("lavin-7b", list(settings))


def test_lavin_is_asked_as_its_evaluation_asks():
    sqa = task_for(card(), "mini_sqa", None)
    sample = next(sqa.samples())
    request = sqa.request(sample)
    assert request.prompt.endswith("\nResponse:")
    assert "Context: N/A" in request.prompt or "Context: " in request.prompt
    assert (request.max_new_tokens, request.stop_pattern) == (64, "The answer is ([A-Z]).")
    assert sqa.prompt_settings() == {
        "prompt_format": "QCM-ALE", "captions": False, "answer_start": False,
    }  # fmt: skip
    mme = task_for(card(), "mini_mme", None)
    assert (mme.prompt_format, mme.options.answer_rule) == ("lavin", "lavin")
    assert mme.request(next(mme.samples())).max_new_tokens == 20
    assert len(mme.options.subtasks) == 8  # what the task's own card says stays


def test_memvp_is_asked_as_its_evaluation_asks():
    task = task_for(load_model_card("memvp-7b"), "sqa", Path("nowhere"))
    assert task.prompt_settings() == {"prompt_format": "QCM-A", "captions": True}
    assert (task.options.answer_rule, task.options.max_new_tokens) == ("published", 1)
    # Said of `sqa` by its name: captions of the mini world would give its answers away.
    mini = task_for(load_model_card("memvp-7b"), "mini_sqa", None)
    assert mini.prompt_settings() == {"prompt_format": "QCM-A", "captions": False}


def test_whoever_asks_wins():
    task = task_for(
        card(), "mini_sqa", None, ["options.answer_rule=strict"], None, prompt_format="QCM-A"
    )
    assert task.prompt_format == "QCM-A"
    assert (task.options.answer_rule, task.options.max_new_tokens) == ("strict", 64)
    plain = task_for(card("evaluation={}"), "mini_sqa", None)
    assert (plain.prompt_format, plain.options.answer_rule) == ("QCM-A", "published")


def test_the_task_s_name_goes_before_its_kind():
    chosen = card("evaluation={mme: {max_new_tokens: 5}, mini_mme: {max_new_tokens: 7}}")
    assert task_for(chosen, "mini_mme", None).options.max_new_tokens == 7


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ("{mme: {max_new_tokns: 5}}", "unknown option 'max_new_tokns'; did you mean: max_new"),
        ("{mme: {answer_rule: guess}}", "option 'answer_rule' cannot be 'guess'"),
        (
            "{mini_mme: {prompt_format: lavinn}}",
            "unknown prompt format 'lavinn'; did you mean: lav",
        ),
    ],
)
def test_what_a_model_s_card_says_wrongly_is_its_own_error(evaluation, message):
    with pytest.raises(CardError) as caught:
        task_for(card(f"evaluation={evaluation}"), "mini_mme", None)
    assert str(caught.value).startswith("model lavin-7b, evaluation of mini_mme: task mini_mme: ")
    assert message in str(caught.value)


def test_what_the_user_says_wrongly_is_not_the_card_s_error():
    with pytest.raises(CardError) as caught:
        task_for(card(), "mini_mme", None, ["options.answer_rule=guess"])
    assert str(caught.value).startswith("task mini_mme: option 'answer_rule'")


def test_a_task_that_does_not_exist_is_named_with_the_nearest():
    chosen = card("evaluation={sciencqa: {captions: true}}")
    with pytest.raises(CardError, match=r"'sciencqa', which is neither .* did you mean: scienceqa"):
        check_evaluation(chosen, ["mini_mme"])
    check_evaluation(card(), ["mini_mme"])


@pytest.fixture
def run(parity_card, mini, tmp_path):
    def call(*overrides, tasks=("mini_mme",), **more):
        given = {"data_root": mini, "results": tmp_path / "results"} | more
        options = RunOptions(limit=2)
        return list(
            evaluate(
                Evaluation(str(parity_card), tasks, overrides=overrides, options=options, **given)
            )
        )

    return call


def test_a_run_is_asked_so_and_its_identity_holds_it(run, tmp_path):
    (plain,) = run()
    (asked,) = run(QUESTION, results=tmp_path / "asked")
    manifest = read_manifest(tmp_path / "asked")
    assert manifest["task"]["prompt_format"] == "question"
    assert manifest["identity"]["task_options"]["max_new_tokens"] == 3
    assert manifest["model"]["card"]["evaluation"]["mme"]["prompt_format"] == "question"
    assert asked.folder.name != plain.folder.name
    (told,) = run(
        "task.prompt_format=question", "options.answer_rule=lmms_eval", "options.max_new_tokens=3"
    )
    assert told.folder.name == asked.folder.name


def test_drawn_tokens_and_drawn_options_are_kept_resumed_and_validated(run, mini, tmp_path):
    settings = (
        "evaluation={scienceqa: {answer_rule: lavin, answer_start: false, max_new_tokens: 6}}",
        "decoding={temperature: 0.8, top_p: 0.9}",
    )
    (outcome,) = run(*settings, tasks=("mini_sqa",))
    records = read_records(tmp_path / "results")
    assert [record["notes"] for record in records] == [["L4"], ["L4"]]
    assert outcome.result.metric("unread").value == 2
    assert "in 2 of 2 answers, and one was drawn" in outcome.result.warnings[0]
    assert "2 samples met quirk L4 (docs/quirks.md)" in outcome.result.warnings
    assert run(*settings, tasks=("mini_sqa",))[0].resumed == 2
    checked = validate_run(outcome.folder, mini)
    assert (list(checked.issues), list(checked.unchecked)) == ([], [])
    (wrong,) = run(*settings, "options.unread=wrong", tasks=("mini_sqa",))
    assert wrong.folder != outcome.folder
    assert wrong.result.metric("average").value == 0


@pytest.mark.parametrize(
    ("method", "trained", "asked", "warned"),
    [
        ("memvp", "QCM-A", {"captions": "true"}, True),
        ("lavin", "QCM-ALE", {"answer_start": "false", "answer_rule": "lavin"}, False),
    ],
)
def test_matched_asks_each_method_as_it_was_trained(run, tmp_path, method, trained, asked, warned):
    folder = FIXTURES / f"parity_{method}"
    clip = folder if method == "lavin" else FIXTURES / "parity"
    options = ", ".join(f"{name}: {value}" for name, value in asked.items())
    settings = (
        f"fusion={{kind: {method}}}",
        f"adapter={folder / 'checkpoint-19.pth'}",
        f"vision.path={clip / 'weights' / 'clip_tiny.pt'}",
        f"prompts={{scienceqa: {{prompt_format: {trained}, captions: false}}}}",
        f"evaluation={{scienceqa: {{prompt_format: {trained}, {options}}}}}",
    )
    (published,) = run(*settings, tasks=("mini_sqa",))
    said = [w for w in published.result.warnings if "when the weights were tuned" in w]
    assert bool(said) == warned
    (matched,) = run(
        *settings, tasks=("mini_sqa",), prompt_format="matched", results=tmp_path / "m"
    )
    assert not [w for w in matched.result.warnings if "when the weights were tuned" in w]
    used = read_manifest(tmp_path / "m")["task"]
    assert (used["prompt_format"], used["prompt_settings"]["captions"]) == (trained, False)
    assert (matched.folder.name == published.folder.name) != warned


def test_a_trained_model_is_asked_as_its_base_if_it_is_of_the_same_method(
    parity_card, small_mini, tmp_path
):
    asked = {"scienceqa": {"prompt_format": "CQM-A", "max_new_tokens": 2}}
    drawn = {"temperature": 0.5}
    fields = yaml.safe_load(parity_card.read_text()) | {"evaluation": asked, "decoding": drawn}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(fields))
    recipe = {
        "data": [{"task": "mini_sqa", "prompt_format": "CQM-A", "limit": 8}],
        "epochs": 1, "effective_batch": 4, "batch_size": 2, "workers": 0,
    }  # fmt: skip
    few = yaml.safe_load((packaged_folder("tasks") / "mini_sqa.yaml").read_text())
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(few | {"split": "minitest"}))
    for kind, kept in (("adem", asked), ("memvp", {})):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe | {"method": {"kind": kind}}))
        output, results = tmp_path / kind, tmp_path / f"{kind}-results"
        adem_bench.train(
            tmp_path / "mine.yaml", model=tmp_path / "base.yaml", data_root=small_mini,
            output=output, results=results, tasks=[str(tmp_path / "few.yaml")],
        )  # fmt: skip
        card = load_model_card(str(output))
        assert (card.evaluation, card.decoding.temperature) == (kept, 0.5 if kept else None)
        expected = "CQM-A" if kept else "QCM-A"
        assert read_manifest(results)["task"]["prompt_format"] == expected
        (prompts,) = json.loads((output / "manifest.json").read_text())["prompts"].values()
        assert prompts["evaluation"]["prompt_format"] == expected
