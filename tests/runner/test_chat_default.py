"""Models that chat are read by the rule `chat`, unless the user names another."""

from __future__ import annotations

import json

import pytest

from adem_bench.cards import load_model_card, load_task_card
from adem_bench.errors import CardError
from adem_bench.runner.evaluate import task_for

CHOICE = [
    *("sqa", "ai2d", "ai2d_tsv", "scienceqa_tsv", "mmbench", "seedbench", "mmmu", "mmstar"),
    *("realworldqa", "mathvista"),
]
YES_NO = ["mme", "mme_tsv", "pope", "pope_tsv", "hallusionbench", "vsr"]


def options(model, task, *settings, overrides=(), folder=None):
    card = load_model_card(model, settings)
    return task_for(card, str(task), folder, overrides).options


@pytest.mark.parametrize("model", ["hf:some/model", "openai:m@http://127.0.0.1:9/v1"])
@pytest.mark.parametrize("task", [*CHOICE, *YES_NO])
def test_models_that_chat_are_read_by_chat(model, task, tmp_path):
    found = options(model, task, folder=tmp_path)
    assert found.answer_rule == "chat"
    assert found.max_new_tokens == (256 if task in CHOICE else 64)


@pytest.mark.parametrize("task", ["coco_caption", "vqav2", "docvqa", "ocid_ref", "mathvista"])
def test_models_that_chat_have_room_to_end_other_answers(task, tmp_path):
    served = "openai:m@http://127.0.0.1:9/v1"
    assert options(served, task, folder=tmp_path).max_new_tokens == 256
    few = options(served, task, overrides=["options.max_new_tokens=7"], folder=tmp_path)
    assert few.max_new_tokens == 7
    assert options("adem-7b", task, folder=tmp_path).max_new_tokens < 256


@pytest.mark.parametrize(
    ("file", "text", "tokens"),
    [
        ("chat_template.jinja", "{{ messages }}", 256),
        ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}', 256),
        ("tokenizer_config.json", "{}", 20),
    ],
)
def test_a_model_without_chat_template_would_only_go_on(file, text, tokens, tmp_path):
    (tmp_path / file).write_text(text)
    assert options(f"hf:{tmp_path}", "coco_caption", folder=tmp_path).max_new_tokens == tokens


@pytest.mark.parametrize("model", ["adem-7b", "echo", "majority", "vlmevalkit:llava_v1.5_7b"])
@pytest.mark.parametrize("task", [*CHOICE, *YES_NO])
def test_all_others_keep_the_published_rule(model, task, tmp_path):
    found = options(model, task, folder=tmp_path)
    stated = load_task_card(task).options
    assert {name: getattr(found, name) for name in stated} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()
    }
    assert found.answer_rule != "chat"


def test_whoever_names_a_rule_gets_it_as_its_card_has_it(tmp_path):
    hf = "hf:some/model"
    named = options(hf, "sqa", overrides=["options.answer_rule=published"], folder=tmp_path)
    assert (named.answer_rule, named.max_new_tokens) == ("published", 1)
    in_card = options(hf, "sqa", "evaluation={sqa: {answer_rule: logits}}", folder=tmp_path)
    assert (in_card.answer_rule, in_card.max_new_tokens) == ("logits", 1)
    longer = options(hf, "sqa", overrides=["options.max_new_tokens=999"], folder=tmp_path)
    assert (longer.answer_rule, longer.max_new_tokens) == ("chat", 999)
    assert options(hf, "refcoco", folder=tmp_path).answer_rule == "first"


@pytest.mark.parametrize(
    ("lines", "rule", "tokens"),
    [
        ({"metric": "multiple_choice"}, "chat", 256),
        ({"metric": "multiple_choice", "answer_rule": "strict"}, "strict", 16),
        ({"metric": "multiple_choice", "max_new_tokens": 5}, "chat", 5),
        ({"metric": "yes_no"}, "chat", 64),
        ({"metric": "exact_match"}, "", 256),
        ({"metric": "caption"}, "", 256),
    ],
)
def test_a_card_of_the_user_s_own_goes_before_the_default(tmp_path, lines, rule, tokens):
    headline = {"yes_no": "f1", "caption": "CIDEr"}.get(lines["metric"], "accuracy")
    card = {"kind": "jsonl", "split": "test", "headline": headline, "options": lines}
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps(card))
    found = options("hf:some/model", path, folder=tmp_path)
    assert (found.answer_rule, found.max_new_tokens) == (rule, tokens)
    assert options("majority", path, folder=tmp_path).answer_rule == lines.get("answer_rule", "")


def test_a_metric_of_the_command_line_brings_its_rule(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps({"kind": "jsonl", "split": "test", "headline": "accuracy"}))
    choice = ["options.metric=multiple_choice"]
    assert options("hf:some/model", path, overrides=choice, folder=tmp_path).answer_rule == "chat"
    for model in ("hf:some/model", "majority"):
        with pytest.raises(CardError, match="metric"):
            options(model, path, overrides=["options.metric=multiple_choise"], folder=tmp_path)
