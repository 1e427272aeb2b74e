from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers.generation import GenerationMixin

from adem_bench.cards import load_model_card
from adem_bench.errors import CardError, CheckpointError, OutOfMemoryError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.device import MIN_TOKENS, batch_budget, token_bytes
from adem_bench.models.hf.chat import Prompts
from adem_bench.models.hf.model import HfModel
from adem_bench.records import Decoding, Part, Request

CHOICES = (" A", " B", " none of them")


def texts(responses):
    assert [r.error for r in responses] == [None] * len(responses)
    return [r.text for r in responses]


def test_answers_do_not_depend_on_the_batch(model, requests):
    asked = [replace(request, choices=CHOICES) for request in requests]
    together = model.generate(asked)
    alone = [model.generate([request])[0] for request in asked]
    assert texts(together) == texts(alone)
    assert len(set(texts(alone))) > 3
    for one, other in zip(together, alone, strict=True):
        assert one.choice_logprobs == pytest.approx(other.choice_logprobs, abs=1e-4)


def test_drawn_answers_depend_on_their_seed_and_not_on_the_batch(model, requests):
    def drawn(requests, **decoding):
        chosen = Decoding(**decoding)
        return texts(model.generate([replace(r, decoding=chosen) for r in requests]))

    together = drawn(requests, temperature=1.5, seed=1)
    assert together == [drawn([r], temperature=1.5, seed=1)[0] for r in requests]
    assert drawn(requests, temperature=1.5, seed=2) != together
    greedy = texts(model.generate(requests))
    assert drawn(requests, temperature=1.5, top_k=1) == greedy != together


def test_an_answer_is_what_the_models_own_processor_and_generate_give(
    model, folder, processor, network, requests
):
    # The way that transformers documents for one chat, pixels and template included.
    request = requests[1]
    processor = processor(folder)
    picture = {"type": "image", "image": Image.open(request.images[0]).convert("RGB")}
    chat = [{"role": "user", "content": [picture, {"type": "text", "text": request.prompt}]}]
    inputs = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    written = network(folder).generate(**inputs, do_sample=False, max_new_tokens=8)
    new = written[0, inputs["input_ids"].shape[1] :]
    expected = processor.tokenizer.decode(new, skip_special_tokens=True)
    assert texts(model.generate([request])) == [expected]


def test_a_half_character_in_a_prompt_is_asked_as_a_question_mark(llava, requests):
    def answer(text):
        request = replace(requests[1], prompt=f"Which {text}?", choices=(f" {text}", " B"))
        assert llava.length(request) > request.max_new_tokens
        return llava.generate([request, replace(request, images=())])

    assert answer("\ud83d") == answer("?")


def test_an_image_is_seen_upright(llava, requests, tmp_path):
    with Image.open(requests[1].images[0]) as image:
        upright = image.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 8
    upright.crop((0, 0, 40, 20)).save(tmp_path / "upright.png")
    lying = upright.crop((0, 0, 40, 20)).transpose(Image.Transpose.ROTATE_270)
    lying.save(tmp_path / "lying.png", exif=exif)
    lying.save(tmp_path / "untagged.png")
    (first, *others) = (
        llava.generate([replace(requests[1], images=(tmp_path / f"{name}.png",), choices=CHOICES)])
        for name in ("upright", "lying", "untagged")
    )
    assert [other == first for other in others] == [True, False]


def test_images_and_their_order_matter(model, requests):
    two = requests[2]
    swapped = replace(two, images=two.images[::-1])
    blind = replace(two, images=())
    scores = [
        model.generate([replace(request, choices=(" A",))])[0].choice_logprobs[0]
        for request in (two, swapped, blind)
    ]
    assert len({round(score, 3) for score in scores}) == 3


def test_the_log_probability_of_a_choice_is_of_all_its_tokens(
    llava, folders, processor, network, requests
):
    (response,) = llava.generate([replace(requests[3], choices=(" ABC", " A"))])
    processor, network = processor(folders["llava"]), network(folders["llava"])
    chat = [{"role": "user", "content": [{"type": "text", "text": requests[3].prompt}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    for choice, told in zip((" ABC", " A"), response.choice_logprobs, strict=True):
        prompt, whole = (
            processor.tokenizer(t, add_special_tokens=False).input_ids
            for t in (text, text + choice)
        )
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        expected = sum(
            float(logits[place - 1, whole[place]]) for place in range(len(prompt), len(whole))
        )
        assert told == pytest.approx(expected, abs=1e-4)


def test_choices_of_one_token_cost_no_further_pass(llava, requests, generated):
    one = replace(requests[3], choices=("A", "B"))
    (response,) = llava.generate([one])
    assert len(response.choice_logprobs) == 2
    assert len(generated) == 1


def test_a_choice_loses_its_blank_where_an_answer_starts_without_one(folders, processor):
    processor = processor(folders["qwen2_vl"])
    prompts = Prompts(processor)
    ids = processor.tokenizer("A", add_special_tokens=False)["input_ids"]
    assert prompts.continuation("assistant\n", " A") == ids
    assert prompts.continuation("<|im_end|>", " A") == ids
    assert len(prompts.continuation("ANSWER:", " A")) == 2


def test_what_cannot_be_asked_fails_alone(model, folder, processor, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    placeholder = processor(folder).image_token
    responses = model.generate(
        [
            Request("Good?", (pictures[0],), 4),
            Request("Broken?", (tmp_path / "broken.png",), 4),
            Request("Gone?", (pictures[0], tmp_path / "gone.png"), 4),
            Request(f"Hostile {placeholder}?", (pictures[0],), 4),
        ]
    )
    assert [bool(r.error) for r in responses] == [False, True, True, True]
    assert "broken.png cannot be read" in responses[1].error
    assert "gone.png does not exist" in responses[2].error
    assert f"contains {placeholder!r}" in responses[3].error


def test_an_image_that_the_processor_refuses_fails_alone(folders, load, pictures, tmp_path):
    # Qwen2-VL takes no image whose sides differ 200-fold.
    Image.new("RGB", (900, 3)).save(tmp_path / "thin.png")
    qwen = load(folders["qwen2_vl"])
    asked = [Request("Is it?", (path,), 4) for path in (pictures[0], tmp_path / "thin.png")]
    assert qwen.length(asked[1]) > 0
    good, bad = qwen.generate(asked)
    assert good.error is None
    assert bad.error.startswith("the model's processor refuses the request: absolute aspect ratio")


def test_length_counts_the_tokens_of_images(model, requests, generated):
    for request in requests[:5]:
        model.generate([request])
        exact = generated[-1]["input_ids"].shape[1] + request.max_new_tokens
        # Sizes are rounded up, which only tokens that follow the size notice.
        assert exact - 2 <= model.length(request) <= 3 * exact


def test_memory_that_runs_out_is_the_schedulers_to_answer(llava, requests, monkeypatch):
    def full(network, **given):
        raise torch.OutOfMemoryError("too large")

    monkeypatch.setattr(GenerationMixin, "generate", full)
    with pytest.raises(OutOfMemoryError, match="too large"):
        llava.generate(requests[:1])


def test_the_budget_follows_memory_and_the_card(llava, folders, load, network, monkeypatch):
    config = network(folders["llava"]).config
    cache, working = 2 * 2 * 2 * 8, 4 * (4 * 32 + 3 * 64)
    assert token_bytes(config, 4) == (cache + working) * 4
    module = "adem_bench.models.device.free_bytes"
    monkeypatch.setattr(module, lambda device: 2 * 1000 * token_bytes(config, 4))
    assert batch_budget(config, torch.device("cpu"), 4).tokens == 1000
    monkeypatch.setattr(module, lambda device: 0)
    assert llava.budget().tokens == MIN_TOKENS
    assert load(folders["llava"], "prompt_batch_tokens=100").budget().tokens == 100


def test_attention_and_precision_can_be_chosen(folders, load, llava, requests, monkeypatch):
    eager = load(folders["llava"], "attention=eager")
    asked = [replace(request, choices=(" A",)) for request in requests]
    by_default = llava.generate(asked)
    with monkeypatch.context() as patch:
        patch.setattr(functional, "scaled_dot_product_attention", None)
        with pytest.raises(CheckpointError):
            llava.generate(asked)
        by_name = eager.generate(asked)
    for one, other in zip(by_name, by_default, strict=True):
        assert one.choice_logprobs == pytest.approx(other.choice_logprobs, abs=1e-3)
    half = load(folders["llava"], "dtype=bfloat16")
    assert half.describe()["dtype"] == "bfloat16"
    assert half.generate(requests[:1])[0].error is None
    assert len({m.fingerprint() for m in (llava, eager, half)}) == 3


def test_a_system_message_and_processor_arguments_change_what_is_seen(
    folders, load, requests, generated, processor
):
    plain = load(folders["qwen2_vl"])
    talked = load(folders["qwen2_vl"], "options.system=Be brief.")
    talked.generate([Request("Why?", (), 1)])
    (asked,) = processor(folders["qwen2_vl"]).tokenizer.batch_decode(generated[0]["input_ids"])
    assert "ROLE:system Be brief.ROLE:user Why?" in asked
    small = load(
        folders["qwen2_vl"], "options.processor={size: {longest_edge: 256, shortest_edge: 64}}"
    )
    assert small.length(requests[0]) < plain.length(requests[0])
    assert len({m.fingerprint() for m in (plain, talked, small)}) == 3


def test_the_registry_knows_the_kind(folders):
    card = load_model_card(f"hf:{folders['llava']}")
    loaded = build_model(card, ModelOptions("cpu"))
    assert isinstance(loaded, HfModel)
    facts = loaded.describe()
    assert (facts["source"], facts["architecture"]) == ("llava", "LlavaForConditionalGeneration")
    assert loaded.warnings() == []


def test_an_unknown_option_is_refused_before_anything_is_loaded(folders, load):
    with pytest.raises(CardError, match=r"unknown option 'revison'; did you mean: revision"):
        load(folders["llava"], "options.revison=main")


def test_a_conversation_is_shown_in_its_order(folders, load, pictures, generated, processor):
    red, green, _ = pictures
    parts = (
        Part("Be brief.", role="system"), Part("First:"), Part(image=1), Part("green"),
        Part("Yes.", role="assistant"), Part(image=0), Part("And this?"),
    )  # fmt: skip
    model = load(folders["qwen2_vl"], "options.system=Not this one.")
    request = Request("And this?", (red, green), 1, parts=parts)
    assert model.generate([request])[0].error is None
    (asked,) = processor(folders["qwen2_vl"]).tokenizer.batch_decode(generated[0]["input_ids"])
    picture = r"<\|vision_start\|>(<\|image_pad\|>)+<\|vision_end\|>"
    expected = (
        r"ROLE:system Be brief\.ROLE:user First:PICTUREgreenROLE:assistant Yes\."
        r"ROLE:user PICTUREAnd this\?<\|im_start\|>assistant"
    ).replace("PICTURE", picture)
    assert re.fullmatch(expected, asked.replace("\n", ""))
    swapped = replace(request, images=(green, red), choices=(" A",))
    one, other = (model.generate([r])[0] for r in (replace(request, choices=(" A",)), swapped))
    assert one.choice_logprobs != other.choice_logprobs
    hostile = replace(request, parts=(*parts, Part("<|image_pad|>")))
    assert "contains '<|image_pad|>'" in model.generate([hostile])[0].error
