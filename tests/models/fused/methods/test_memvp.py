"""MemVP against what its published code computed (fixtures/parity_memvp/README.md)."""

from __future__ import annotations

import pytest
import torch

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.generation import generate
from adem_bench.models.fused.method import FrozenSizes
from adem_bench.models.fused.methods.memvp import MemVp, MemvpSettings
from adem_bench.models.fused.network import collate
from adem_bench.models.fused.sequence import IGNORED_LABEL, SequenceBuilder
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.convert_adapter import convert_adapter
from adem_bench.records import Request
from support.fused import (
    FIXTURES,
    four_updates,
    meta_network,
    recorded,
    scale_dropouts,
    tiny_network,
)

MEMVP = FIXTURES / "parity_memvp"


@pytest.fixture(scope="module")
def goldens() -> dict:
    return torch.load(MEMVP / "goldens.pt", weights_only=True)


@pytest.fixture(params=["eager", "sdpa"])
def network(request):
    return tiny_network(MEMVP / "checkpoint-19.pth", "memvp", request.param == "eager")


def batch(goldens, tokenizer, rows=range(4)):
    builder = SequenceBuilder(tokenizer, MemVp.layout, max_length=128)
    pairs = [goldens["pairs"][row] for row in rows]
    built = [builder.training(prompt, answer, bool(has)) for prompt, answer, has in pairs]
    indicators = [int(has) for _, _, has in pairs]
    images = [goldens["images"][row] for row, has in zip(rows, indicators, strict=True) if has]
    return collate(built, images, indicators)


@pytest.mark.parametrize(
    ("width", "layers", "heads", "slots", "count"),
    [(4096, 32, 32, 320, 3_879_040), (5120, 40, 40, 400, 5_487_744)],
)
def test_tuned_tensors_of_the_published_sizes(width, layers, heads, slots, count):
    made = meta_network(MemVp, MemvpSettings(slots=slots), width, layers, heads)
    tensors = made.method.adapter_tensors()
    assert (len(tensors), sum(tensor.numel() for tensor in tensors.values())) == (55, count)
    unlearned = made.method.tensors_without_gradient()
    assert len(unlearned) == 3
    assert "adapter_modality_embedding.weight" in unlearned


def test_names_shapes_order_and_settings_are_those_of_the_published_file(network, goldens):
    found = {n: tuple(t.shape) for n, t in network.method.adapter_tensors().items()}
    assert list(found.items()) == [(k, tuple(v)) for k, v in goldens["trainable"].items()]
    adapter = read_adapter(MEMVP / "checkpoint-19.pth")
    assert adapter.settings.method == "memvp"
    values = {"adapter_scale": 0.1, "slots": 320, "hidden_proj": 128, "adapter_dim": 12}
    assert adapter.settings.values == values


def test_rows_features_loss_and_gradients(network, tokenizer, goldens):
    rows = batch(goldens, tokenizer)
    length = rows.ids.shape[1]
    assert torch.equal(rows.ids, goldens["examples"][:, :length].clamp_min(0))
    published = goldens["labels"][:, :length]
    assert torch.equal(rows.labels, published.where(published != 0, IGNORED_LABEL))
    with torch.no_grad():
        features = network.method.vision_adapters.features(network, goldens["images"])[:, 1:]
    seen = goldens["indicators"].flatten() > 0
    torch.testing.assert_close(features[seen], goldens["clip_feats"][seen], atol=1e-5, rtol=0)
    loss = network.loss(rows, 0)
    loss.backward()
    assert loss.item() == pytest.approx(float(goldens["loss"]), abs=1e-5)
    own = network.method.adapter_tensors()
    found = {name: tensor.grad for name, tensor in own.items() if tensor.grad is not None}
    assert (
        set(found) == set(goldens["grads"]) == set(own) - network.method.tensors_without_gradient()
    )
    for name, gradient in goldens["grads"].items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=0, msg=name)


def test_dropout_sits_where_the_published_code_has_it(network, tokenizer, goldens):
    scale_dropouts(network.method)
    loss = network.train().loss(batch(goldens, tokenizer), 0)
    assert loss.item() == pytest.approx(float(goldens["loss_scaled_dropout"]), abs=1e-5)


def test_four_optimizer_steps_end_where_the_published_ones_do(network, tokenizer, goldens):
    golden = goldens["trained"]
    rates, losses = four_updates(
        network, golden, lambda rows: network.loss(batch(goldens, tokenizer, rows), 0)
    )
    assert rates == pytest.approx(golden["learning_rates"])
    assert losses == pytest.approx(golden["losses"], abs=1e-4)
    for name, tensor in network.method.adapter_tensors().items():
        torch.testing.assert_close(
            tensor.detach(), golden["weights"][name], atol=1e-5, rtol=0, msg=name
        )


@pytest.mark.parametrize("run", ["answer", "caption", "overlong", "ended", "ended_alone"])
def test_texts_and_the_logits_of_every_step(network, tokenizer, goldens, run, monkeypatch):
    golden = goldens["runs"][run]
    most, end = golden["max_gen_len"], golden.get("eos_id", tokenizer.eos_id)
    builder = SequenceBuilder(tokenizer, MemVp.layout, cut=network.method.cut_prompt)
    for index, (prompt, has_image) in enumerate(
        zip(golden["prompts"], golden["indicators"], strict=True)
    ):
        steps = []
        monkeypatch.setattr(network.decoder, "logits", recorded(network.decoder, steps))
        row = builder.prompt(prompt, bool(has_image), most)
        with torch.inference_mode():
            images = goldens["images"][index : index + 1]
            memory = network.encode_images(images) if has_image else network.no_image_memory()
            generated = generate(network.decoder, [row], memory, most, (end,))
        assert tokenizer.decode(generated.ids[0]) == golden["text"][index]
        expected = golden["logits"][: len(steps), index]
        torch.testing.assert_close(torch.cat(steps)[:, 0], expected, atol=1e-4, rtol=0)


@pytest.fixture
def card(parity_card):
    def load(*settings):
        adapter = f"adapters={{default: {{path: {MEMVP / 'checkpoint-19.pth'}}}}}"
        return load_model_card(str(parity_card), ["fusion={kind: memvp}", adapter, *settings])

    return load


def answers(card, requests):
    model = build_model(card, ModelOptions("cpu"))
    model.load_adapter_for("any", "any")
    return [response.text for response in model.generate(requests)]


def test_the_registered_model_answers_by_image_scale_and_nothing_of_the_batch(card, pictures):
    images = [(), *((picture,) for picture in pictures)]
    requests = [Request(f"Question {n}?\nResponse:", images[n % 4], 6) for n in range(6)]
    together = answers(card(), requests)
    model = build_model(card(), ModelOptions("cpu"))
    model.load_adapter_for("any", "any")
    assert together == [model.generate([request])[0].text for request in requests]
    assert answers(card("fusion.adapter_scale=0.4"), requests) != together
    with pytest.raises(CheckpointError, match="320 slots do not hold"):
        MemVp(
            MemvpSettings(slots=320),
            type("Sizes", (), {"patches": 576, "language_width": 4})(),
        )


@pytest.mark.parametrize(("patches", "slots"), [(16, 320), (256, 320), (576, 720), (729, 911)])
def test_slots_hold_the_patches_where_nothing_is_said(patches, slots):
    sizes = FrozenSizes(
        vision_width=6, vision_blocks=1, patches=patches, language_width=8, language_layers=1
    )
    method = MemVp(MemvpSettings(), sizes)
    assert method.chosen.slots == method.adapter_emb1.shape[1] == slots


def test_a_published_file_survives_the_way_to_ours_and_back(card, tmp_path):
    convert_adapter(MEMVP / "checkpoint-19.pth", tmp_path / "ours")
    assert read_adapter(tmp_path / "ours").settings.method == "memvp"
    convert_adapter(tmp_path / "ours", tmp_path / "back.pth")
    before, after = read_adapter(MEMVP / "checkpoint-19.pth"), read_adapter(tmp_path / "back.pth")
    assert after.settings == before.settings
    assert list(after.tensors) == list(before.tensors)
    assert all(torch.equal(after.tensors[name], before.tensors[name]) for name in after.tensors)


def test_each_method_refuses_the_other_s_file_by_name(card, parity, parity_card):
    other = card(f"adapter={parity / 'checkpoint-19.pth'}")
    with pytest.raises(
        CheckpointError, match="of the method 'adem', and model parity uses 'memvp'"
    ):
        answers(other, [])
    adem = load_model_card(str(parity_card), [f"adapter={MEMVP / 'checkpoint-19.pth'}"])
    with pytest.raises(
        CheckpointError, match="of the method 'memvp', and model parity uses 'adem'"
    ):
        answers(adem, [])
