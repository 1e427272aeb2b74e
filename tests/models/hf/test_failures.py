"""A sample that breaks a model's code, or its numbers, fails alone and with a reason."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers.generation import GenerationMixin

from adem_bench.errors import CheckpointError
from adem_bench.records import Decoding, Request

ERRORS = [RuntimeError("sizes do not match"), AttributeError("none"), AssertionError(), KeyError(3)]


@pytest.fixture
def stumbling(monkeypatch):
    """Makes generation raise an error over every batch that has a word's last token in it."""

    def stumble(word, error, model):
        (token,) = model._tokenizer(word, add_special_tokens=False)["input_ids"]
        generate = GenerationMixin.generate

        def hurt(network, **given):
            if (given["input_ids"] == token).any():
                raise error
            return generate(network, **given)

        monkeypatch.setattr(GenerationMixin, "generate", hurt)

    return stumble


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_in_a_models_code_fails_its_sample_alone(llava, pictures, stumbling, error):
    requests = [Request(text, (pictures[0],), 4) for text in ("One", "T~wo", "Three", "Four")]
    expected = [r.text for r in llava.generate(requests)]
    stumbling("~", error, llava)
    told = llava.generate(requests)
    assert [bool(r.error) for r in told] == [False, True, False, False]
    assert told[1].error.startswith(f"the model's own code failed: {type(error).__name__}: ")
    assert [r.text for r in told if not r.error] == [expected[0], *expected[2:]]


def test_a_model_whose_code_fails_over_a_blank_image_ends_the_run(llava, requests, monkeypatch):
    def hurt(network, **given):
        raise RuntimeError("nothing works")

    monkeypatch.setattr(GenerationMixin, "generate", hurt)
    with pytest.raises(CheckpointError, match="does not fit its network: nothing works"):
        llava.generate(requests)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("decoding", [Decoding(), Decoding(temperature=1.0), Decoding(num_beams=2)])
@pytest.mark.parametrize("step", [0, 2])
def test_numbers_that_are_not_finite_fail_their_sample_alone(
    llava, requests, monkeypatch, number, decoding, step
):
    forward, calls = llava._network.lm_head.forward, []
    asked = [replace(r, decoding=decoding, choices=(" A", " b c")) for r in requests[:2]]
    expected = llava.generate(asked)

    def poisoned(hidden):
        logits = forward(hidden).clone()
        if len(calls) == step:
            logits[-1, -1, 5] = number
        calls.append(None)
        return logits

    monkeypatch.setattr(llava._network.lm_head, "forward", poisoned)
    good, bad = llava.generate(asked)
    assert good == expected[0]
    assert bad.text == ""
    assert "not finite" in bad.error
    assert "--dtype float32" in bad.error


def test_weights_that_are_not_finite_fail_every_sample(folders, load, requests):
    model = load(folders["llava"])
    with torch.no_grad():
        model._network.lm_head.weight[7] = torch.nan
    for decoding in (Decoding(), Decoding(temperature=0.7)):
        asked = [replace(request, decoding=decoding) for request in requests]
        assert all("not finite" in response.error for response in model.generate(asked))


def test_a_template_that_refuses_one_sample_fails_it_alone(folders, load, tmp_path, requests):
    for file in folders["llava"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    template = (tmp_path / "chat_template.jinja").read_text()
    picky = "{% if '?' not in messages[0]['content'][-1]['text'] %}{{ raise_exception('ask') }}"
    (tmp_path / "chat_template.jinja").write_text(f"{picky}{{% endif %}}{template}")
    told = load(tmp_path, "options.cut_answers=scored").generate(requests)
    assert [bool(r.error) for r in told] == ["?" not in q.prompt for q in requests]
    assert "the model's chat template refuses a message: ask" in told[4].error


@pytest.mark.parametrize("name", ["image_mean", "image_std"])
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "idefics3"])
def test_a_processor_of_too_few_colours_is_named_where_prompts_are_counted(
    folders, load, tmp_path, requests, family, name
):
    for file in folders[family].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    settings["image_processor"][name] = [0.5, 0.5]
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    model = load(tmp_path)
    assert model.length(requests[0]) > 0
    with pytest.raises(CheckpointError, match=r"its processor cannot be used: .*size of tensor"):
        model.generate(requests[:1])


def test_a_response_says_how_it_ended_and_what_was_cut_is_no_answer(folders, load, requests):
    model = load(folders["llava"])
    assert "length" in {r.finish_reason for r in model.generate(requests)}
    model._decoder._ends = frozenset(range(len(model._tokenizer)))
    (empty,) = model.answer(requests[:1])
    assert (empty.text, empty.finish_reason, empty.error) == ("", "stop", None)
    model = load(folders["llava"])
    for response in model.answer(requests):
        assert (response.error is None) == (response.finish_reason == "stop")
    scored = load(folders["llava"], "options.cut_answers=scored")
    assert [r.error for r in scored.answer(requests)] == [None] * len(requests)
    assert "length" in {r.finish_reason for r in scored.answer(requests)}
    assert scored.fingerprint() != model.fingerprint()
