from __future__ import annotations

import gc
import json
import pickle
import shutil
import weakref
from dataclasses import replace

import pytest
import torch
import yaml
from PIL import Image

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError, OutOfMemoryError
from adem_bench.models.base import ModelOptions
from adem_bench.models.fused.backbone import FrozenParts
from adem_bench.models.fused.decoder import FusedDecoder
from adem_bench.models.fused.methods.adem import AdemVl
from adem_bench.models.fused.model import FusedModel
from adem_bench.models.fused.weights.adapter import read_adapter, write_adapter
from adem_bench.records import Request
from support.fused import WEIGHTS


def load(card, *overrides) -> FusedModel:
    model = FusedModel(load_model_card(str(card), overrides), ModelOptions("cpu"))
    model.load_adapter_for("sqa", "scienceqa")
    return model


@pytest.fixture(scope="module")
def model(parity_card) -> FusedModel:
    return load(parity_card)


@pytest.fixture(scope="module")
def requests(pictures) -> list[Request]:
    questions = ("Question: Which one is a fruit?", "Describe this image.", "a picture of")
    prompts = [f"{question}{' more' * n}\nResponse:" for question in questions for n in (0, 3, 9)]
    images = [(), *((picture,) for picture in pictures)]
    return [Request(p, images[i % 4], 8) for i, p in enumerate(prompts)]


def test_any_batch_gives_the_answers_of_single_requests(model, requests):
    single = [model.generate([request])[0] for request in requests]
    assert len({response.text for response in single}) > 3
    for size in (2, 4, 9):
        batches = [requests[i : i + size] for i in range(0, len(requests), size)]
        assert [r for batch in batches for r in model.generate(batch)] == single


def test_the_network_is_freed_with_its_model(parity_card, requests):
    model = load(parity_card)
    model.generate(requests[:2])
    network = weakref.ref(model.weights.decoder)
    gc.disable()  # a cycle would hold the network until the collector's next turn
    try:
        del model
        assert network() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["adem-tiny", "memvp-tiny", "lavin-tiny", "llava-tiny"])
def test_what_is_known_before_loading_is_what_loading_finds(name):
    card, options = load_model_card(name), ModelOptions("cpu")
    loaded = FrozenParts(card, options)
    assert loaded.llama
    early, late = FusedModel(card, options), FusedModel(card, options, loaded)
    for model in (early, late):
        model.load_adapter_for("mini_sqa", "scienceqa")
    assert (early.is_loaded, late.is_loaded) == (False, True)
    assert early.tuning == late.tuning
    assert early.fingerprint() == late.fingerprint()
    assert (early.warnings(), early.budget()) == (late.warnings(), late.budget())


def test_packed_weights_answer_like_plain_ones(parity_card, model, requests, monkeypatch):
    monkeypatch.setattr("adem_bench.models.fused.backbone.can_pack", lambda *_: False)
    plain = load(parity_card)
    assert "PackedLinear" not in repr(plain.weights.decoder)
    assert plain.generate(requests) == model.generate(requests)
    assert plain.describe()["total_parameters"] == model.describe()["total_parameters"]


def test_different_answer_lengths_in_one_batch(model, requests):
    mixed = [Request(r.prompt, r.images, 1 + i % 3) for i, r in enumerate(requests)]
    assert model.generate(mixed) == [model.generate([request])[0] for request in mixed]


def test_the_image_and_its_absence_change_the_answer(model, pictures):
    prompt = "Question: Which one is a fruit?\nResponse:"
    images = [(), *((picture,) for picture in pictures)]
    texts = [model.generate([Request(prompt, image, 12)])[0].text for image in images]
    assert len(set(texts)) == 4


def test_text_only_requests_never_touch_the_vision_tower(parity_card, monkeypatch):
    model = load(parity_card)
    monkeypatch.setattr(model.weights.images, "get", None)
    assert model.generate([Request("Question: why?", (), 2)])[0].error is None


def test_each_distinct_image_is_encoded_once(parity_card, pictures, monkeypatch):
    model = load(parity_card)
    encoded = []
    encode = AdemVl.encode_images
    monkeypatch.setattr(
        AdemVl,
        "encode_images",
        lambda self, frame, images: encoded.append(len(images)) or encode(self, frame, images),
    )
    questions = [Request(f"Question {i}?", (pictures[i // 2],), 2) for i in range(6)]
    model.prefetch(questions)
    model.generate(questions[:4])
    model.generate(questions[4:])
    model.generate(questions)
    assert sum(encoded) == 3


def test_an_unreadable_image_fails_alone(model, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG not really")
    missing = tmp_path / "missing.png"
    images = [pictures[0], broken, pictures[1], missing]
    responses = model.generate([Request("Question?", (image,), 2) for image in images])
    assert [bool(response.error) for response in responses] == [False, True, False, True]
    assert "broken.png cannot be read" in responses[1].error
    assert "missing.png does not exist" in responses[3].error
    expected = model.generate([Request("Question?", (pictures[1],), 2)])[0]
    assert responses[2] == expected


def test_images_that_are_shown_otherwise_are_marked(parity_card, pictures, tmp_path):
    with Image.open(pictures[0]) as image:
        image.load()
    exif = Image.Exif()
    exif[0x0112] = 3
    turned, clear, deep = (tmp_path / f"{name}.png" for name in ("turned", "clear", "deep"))
    image.save(turned, exif=exif)
    image.convert("RGBA").save(tmp_path / "opaque.png")
    seen_through = image.convert("RGB")
    seen_through.putalpha(100)
    seen_through.save(clear)
    Image.new("I;16", (8, 8), 30_000).save(deep)
    files = [pictures[0], turned, clear, deep, tmp_path / "opaque.png", pictures[1]]
    requests = [Request("Question?\nResponse:", (file,), 8) for file in files]
    published = load(parity_card)
    for _ in range(2):  # read, and out of the cache
        answers = published.generate([*requests, Request("Question?", (), 8)])
        marks = [(), ("Q33",), ("Q33",), ("Q33",), (), (), ()]
        assert [answer.notes for answer in answers] == marks
    assert answers[1].text == answers[0].text  # not turned
    shown = load(parity_card, "image_reading=shown")
    assert shown.fingerprint() != published.fingerprint()
    asked = shown.generate(requests)
    assert [answer.notes for answer in asked] == [()] * len(files)
    upright = tmp_path / "upright.png"
    image.convert("RGB").transpose(Image.Transpose.ROTATE_180).save(upright)
    (expected,) = published.generate([replace(requests[0], images=(upright,))])
    assert asked[1].text == expected.text


def test_weights_may_lie_in_a_folder_that_is_not_utf8(model, requests, tmp_path):
    folder = tmp_path / "caf\udce9"
    shutil.copytree(WEIGHTS, folder)
    adapter = read_adapter(WEIGHTS.parent / "checkpoint-19.pth")
    write_adapter(folder / "adapter", adapter.tensors, adapter.settings)
    card = {
        "language_model": {"path": str(folder / "tiny")},
        "vision": {"path": str(folder / "clip_tiny.pt"), "pretrained": ""},
        "adapters": {"default": {"path": str(folder / "adapter")}},
    }
    (folder / "card.yaml").write_text(yaml.safe_dump(card))  # paths in it are escaped
    expected = [response.text for response in model.generate(requests)]
    assert [r.text for r in load(folder / "card.yaml").generate(requests)] == expected


@pytest.mark.parametrize("half", ["\ud83d", "\ude00\ud83d"])
def test_a_half_character_in_a_prompt_is_asked_as_a_question_mark(model, pictures, half):
    def answer(text):
        prompt = f"Question: which {text}?\nResponse:"
        request = Request(prompt, (pictures[0],), 8, choices=(f" {text}", " B"))
        assert model.length(request) > 8
        return model.generate([request, Request(prompt, (), 4)])

    assert answer(half) == answer("?" * len(half))


def test_two_images_are_an_error_of_that_request(model, pictures):
    two, one = model.generate([Request("?", tuple(pictures[:2]), 2), Request("?", (), 2)])
    assert "reads one image per question, not 2" in two.error
    assert one.error is None


def test_choice_log_probabilities_rank_the_answer_first(model, pictures):
    request = Request("Question?\nResponse:The answer is", (pictures[0],), 1)
    (answer,) = model.generate([request])
    letters = tuple(f" {letter}" for letter in "ABCDE")
    (response,) = model.generate([Request(request.prompt, request.images, 1, choices=letters)])
    assert len(response.choice_logprobs) == 5
    assert all(value < 0 for value in response.choice_logprobs)
    assert response.text == answer.text


def test_over_long_prompts_are_noted(model):
    request = Request("word " * 600, (), 4)
    assert model.length(request) == 512
    assert model.generate([request])[0].notes == ("Q9",)


def test_the_language_model_alone_ignores_images(parity_card, pictures):
    model = load(parity_card, "adapter=none")
    prompt = "Question: Which one is a fruit?\nResponse:"
    without, with_image = model.generate(
        [Request(prompt, (), 8), Request(prompt, (pictures[0],), 8)]
    )
    assert without.text == with_image.text
    assert model.describe()["trainable_parameters"] == 0
    assert model.fingerprint() != load(parity_card).fingerprint()


def test_the_fingerprint_follows_weights_and_settings(parity_card, tmp_path, parity):
    base = load(parity_card).fingerprint()
    assert load(parity_card).fingerprint() == base
    assert load(parity_card, "prompt_batch_tokens=512").fingerprint() == base
    for override in ("fusion.alpha=0.2", "dtype=bfloat16", "overflow=fix", "attention=eager"):
        assert load(parity_card, override).fingerprint() != base
    adapter = read_adapter(parity / "checkpoint-19.pth")
    changed = {name: tensor + 1e-3 for name, tensor in adapter.tensors.items()}
    write_adapter(tmp_path / "changed", changed, adapter.settings)
    assert load(parity_card, f"adapter={tmp_path / 'changed'}").fingerprint() != base


def test_a_setting_of_the_card_overrules_the_checkpoint_and_is_told(parity_card):
    assert load(parity_card).warnings() == ()
    (warning,) = load(parity_card, "fusion.alpha=0.2").warnings()
    assert "alpha: the card's 0.2 is used, though the adapter was tuned with 0.1" in warning


def test_half_precision_answers(parity_card, requests):
    for dtype in ("bfloat16", "float16"):
        responses = load(parity_card, f"dtype={dtype}").generate(requests)
        assert all(response.error is None for response in responses)


def test_memory_errors_of_torch_become_ours(model, monkeypatch):
    def allocate(*given, **more):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(FusedDecoder, "forward", allocate)
    with pytest.raises(OutOfMemoryError):
        model.generate([Request("?", (), 1)])


def test_an_adapter_of_another_shape_lists_what_does_not_fit(parity_card, parity, tmp_path):
    adapter = read_adapter(parity / "checkpoint-19.pth")
    tensors = {name: t for name, t in adapter.tensors.items() if name != "adapter_emb2"}
    tensors["adapter_extra"] = torch.zeros(1)
    tensors["adapter_proj.fc2.bias"] = torch.zeros(3)
    write_adapter(tmp_path / "odd", tensors, adapter.settings)
    with pytest.raises(CheckpointError) as caught:
        load(parity_card, f"adapter={tmp_path / 'odd'}")
    for part in ("missing: adapter_emb2", "unexpected: adapter_extra", "(3,) instead of (64,)"):
        assert part in str(caught.value)


def test_a_missing_adapter_and_a_task_without_one_are_told(parity_card):
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        load(parity_card, "adapter=nowhere.pth")
    with pytest.raises(CheckpointError, match="names no adapter for sqa"):
        load(parity_card, "adapters={mme: {path: x}}")


def test_a_pickle_that_would_run_code_is_refused(parity_card, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    path = tmp_path / "evil.pth"
    torch.save({"model": {"adapter_emb1": Evil()}}, path)
    with pytest.raises(CheckpointError, match="was not loaded"):
        load(parity_card, f"adapter={path}")
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        load(parity_card, f"adapter={path}")
    assert not (tmp_path / "owned").exists()


def test_our_adapter_folder_answers_like_the_published_file(
    parity_card, parity, tmp_path, requests
):
    adapter = read_adapter(parity / "checkpoint-19.pth")
    write_adapter(tmp_path / "ours", adapter.tensors, adapter.settings)
    again = read_adapter(tmp_path / "ours")
    assert again.settings == adapter.settings
    ours = load(parity_card, f"adapter={tmp_path / 'ours'}")
    assert ours.generate(requests) == load(parity_card).generate(requests)


@pytest.mark.parametrize("damage", ["truncate", "text", "no settings", "schema", "bad scales"])
def test_a_damaged_adapter_folder_is_told(parity, tmp_path, damage):
    adapter = read_adapter(parity / "checkpoint-19.pth")
    folder = tmp_path / "ours"
    write_adapter(folder, adapter.tensors, adapter.settings)
    if damage == "truncate":
        weights = folder / "adapter.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "text":
        (folder / "adapter.safetensors").write_text("hello")
    elif damage == "no settings":
        (folder / "adapter.json").unlink()
    else:
        settings = json.loads((folder / "adapter.json").read_text())
        change = {"schema": 2} if damage == "schema" else {"scales": [256, 16]}
        (folder / "adapter.json").write_text(json.dumps(settings | change))
    with pytest.raises(CheckpointError, match=str(folder)):
        read_adapter(folder)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_adapter(folder)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_an_adapter_of_whole_numbers_is_refused(parity_card, parity, tmp_path, dtype):
    adapter = read_adapter(parity / "checkpoint-19.pth")
    name = min(adapter.tensors)
    tensors = adapter.tensors | {name: adapter.tensors[name].to(dtype)}
    write_adapter(tmp_path / "ours", tensors, adapter.settings)
    with pytest.raises(CheckpointError, match=rf"ours does not .*real numbers: {name} {dtype}"):
        load(parity_card, f"adapter={tmp_path / 'ours'}")


def test_the_method_knows_the_prompts_of_released_adapters_alone(parity_card, parity, tmp_path):
    published = read_adapter(parity / "checkpoint-19.pth")
    write_adapter(tmp_path / "a", published.tensors, replace(published.settings, prompts={}))
    source = f"{{path: {tmp_path / 'a'}, url: 'https://example.org/a'}}"
    known = {"prompt_format": "CQM-A", "captions": False}
    for override, expected in (
        (f"adapters={{default: {source}}}", known),
        (f"adapter={tmp_path / 'a'}", {}),
        (f"adapters={{default: {{path: {tmp_path / 'a'}}}}}", {}),
    ):
        assert load(parity_card, override).training_prompts("scienceqa") == expected
    stated = "prompts={scienceqa: {prompt_format: QCM-A}}"
    chosen = load(parity_card, f"adapters={{default: {source}}}", stated)
    assert chosen.training_prompts("scienceqa") == {"prompt_format": "QCM-A"}
    half = replace(published.settings, prompts={"scienceqa": {"prompt_format": "QCM-A"}})
    write_adapter(tmp_path / "a", published.tensors, half)
    chosen = load(parity_card, f"adapters={{default: {source}}}")
    assert chosen.training_prompts("scienceqa") == {"prompt_format": "QCM-A", "captions": False}
