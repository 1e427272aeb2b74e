"""LaVIN against what its published code computed (fixtures/parity_lavin/README.md)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.generation import generate as generate_rows
from adem_bench.models.fused.methods.lavin import Lavin, LavinSettings
from adem_bench.models.fused.network import collate
from adem_bench.models.fused.sequence import SequenceBuilder
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.convert_adapter import convert_adapter
from adem_bench.models.sampling import drawable
from adem_bench.records import Decoding, Request
from adem_bench.trainers.optimizer import parameter_groups
from support.fused import (
    FIXTURES,
    four_updates,
    meta_network,
    recorded,
    scale_dropouts,
    tiny_network,
)

LAVIN = FIXTURES / "parity_lavin"


@pytest.fixture(scope="module")
def goldens() -> dict:
    return torch.load(LAVIN / "goldens.pt", weights_only=True)


CLIP = LAVIN / "weights" / "clip_tiny.pt"


@pytest.fixture(params=["eager", "sdpa"])
def network(request):
    return tiny_network(LAVIN / "checkpoint-19.pth", "lavin", request.param == "eager", CLIP)


@pytest.fixture(params=["eager", "sdpa"])
def in_batches(request):
    """The network whose batches are the published ones."""
    eager = request.param == "eager"
    return tiny_network(
        LAVIN / "checkpoint-19.pth", "lavin", eager, CLIP,
        batch_routing="first", new_positions="shortest",
    )  # fmt: skip


def batch(goldens, tokenizer, network, rows=range(4)):
    builder = SequenceBuilder(tokenizer, network.method.layout, max_length=128)
    pairs = [goldens["pairs"][row] for row in rows]
    built = [builder.training(prompt, answer, bool(has)) for prompt, answer, has in pairs]
    indicators = [int(has) for _, _, has in pairs]
    images = [goldens["images"][row] for row, has in zip(rows, indicators, strict=True) if has]
    return collate(built, images, indicators), builder.image_tokens_at


@pytest.mark.parametrize(
    ("width", "layers", "heads", "tensors", "count"),
    [(4096, 32, 32, 453, 3_781_296), (5120, 40, 40, 517, 5_390_080)],
)
def test_tuned_tensors_of_the_published_sizes(width, layers, heads, tensors, count):
    made = meta_network(Lavin, LavinSettings(), width, layers, heads)
    found = made.method.adapter_tensors()
    assert (len(found), sum(tensor.numel() for tensor in found.values())) == (tensors, count)
    assert made.method.layout.image_tokens == 6


def test_names_shapes_order_and_settings_are_those_of_the_published_file(network, goldens):
    found = {n: tuple(t.shape) for n, t in network.method.adapter_tensors().items()}
    assert list(found.items()) == [(k, tuple(v)) for k, v in goldens["trainable"].items()]
    settings = read_adapter(LAVIN / "checkpoint-19.pth").settings
    assert settings.method == "lavin"
    assert settings.values == {
        "temperature": 10.0, "adapter_scale": 1.0, "adapter_dim": 8, "hidden_proj": 128,
    }  # fmt: skip


def test_rows_class_tokens_loss_and_gradients(network, tokenizer, goldens):
    built, at = batch(goldens, tokenizer, network)
    assert built.ids.shape[1] == 127  # one position is the modality token's
    seen = [n for n, (_, _, has) in enumerate(goldens["pairs"]) if has]
    with torch.no_grad():
        tokens = network.method.class_tokens(network, goldens["images"][seen])
    torch.testing.assert_close(tokens, goldens["clip_feats_alone"][seen], atol=1e-5, rtol=0)
    loss = network.loss(built, at)
    loss.backward()
    assert loss.item() == pytest.approx(float(goldens["loss_alone"]), abs=1e-5)
    assert_gradients(network, goldens["grads_alone"])


def assert_gradients(network, expected):
    own = network.method.adapter_tensors()
    assert set(own) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(own[name].grad, gradient, atol=1e-5, rtol=0, msg=name)


def test_published_batches_are_routed_by_their_first_row(in_batches, tokenizer, goldens):
    seen = [n for n, (_, _, has) in enumerate(goldens["pairs"]) if has]
    with torch.no_grad():
        tokens = in_batches.method.class_tokens(in_batches, goldens["images"][seen], by_first=True)
    torch.testing.assert_close(tokens, goldens["clip_feats"][seen], atol=1e-5, rtol=0)
    loss = in_batches.loss(*batch(goldens, tokenizer, in_batches))
    loss.backward()
    assert loss.item() == pytest.approx(float(goldens["loss"]), abs=1e-5)
    assert_gradients(in_batches, goldens["grads"])


TEXT_FIRST = (1, 0, 2, 3)


def test_a_first_row_without_image_routes_by_a_black_one(in_batches, tokenizer, goldens):
    loss = in_batches.loss(*batch(goldens, tokenizer, in_batches, TEXT_FIRST))
    assert loss.item() == pytest.approx(float(goldens["loss_text_first"]), abs=1e-5)


def test_a_first_row_without_image_changes_no_other_by_itself(network, tokenizer, goldens):
    loss = network.loss(*batch(goldens, tokenizer, network, TEXT_FIRST))
    assert loss.item() == pytest.approx(float(goldens["loss_alone"]), abs=1e-5)
    assert abs(loss.item() - float(goldens["loss_text_first"])) > 1e-3


def test_dropout_sits_where_the_published_code_has_it(in_batches, tokenizer, goldens):
    scale_dropouts(in_batches.method)
    loss = in_batches.train().loss(*batch(goldens, tokenizer, in_batches))
    assert loss.item() == pytest.approx(float(goldens["loss_scaled_dropout"]), abs=1e-5)


def test_four_optimizer_steps_end_where_the_published_ones_do(in_batches, tokenizer, goldens):
    """The published ones are of PyTorch's AdamW in place of bitsandbytes' (L8)."""
    golden, network = goldens["trained"], in_batches
    rates, losses = four_updates(
        network, golden, lambda rows: network.loss(*batch(goldens, tokenizer, network, rows))
    )
    assert rates == pytest.approx(golden["learning_rates"])
    assert losses == pytest.approx(golden["losses"], abs=1e-4)
    for name, tensor in network.method.adapter_tensors().items():
        torch.testing.assert_close(
            tensor.detach(), golden["weights"][name], atol=1e-5, rtol=0, msg=name
        )


@pytest.mark.parametrize(
    ("width", "layers", "heads", "undecayed"), [(4096, 32, 32, 226), (5120, 40, 40, 258)]
)
def test_no_bias_decays_and_every_matrix_does(width, layers, heads, undecayed):
    made = meta_network(Lavin, LavinSettings(), width, layers, heads)
    free, decayed = parameter_groups(made.method.adapter_tensors(), 0.02)
    assert (len(free["params"]), free["weight_decay"]) == (undecayed, 0)
    assert {tensor.ndim for tensor in decayed["params"]} == {2, 3}


def test_without_images_projector_and_vision_routers_have_no_gradient(network, tokenizer, goldens):
    network.loss(*batch(goldens, tokenizer, network, [1])).backward()
    own = network.method.adapter_tensors()
    missing = {name for name, tensor in own.items() if tensor.grad is None}
    assert missing == network.method.tensors_without_gradient()


@pytest.mark.parametrize("run", ["answer", "caption", "ended"])
def test_a_published_batch_is_answered_as_published(
    in_batches, tokenizer, goldens, run, monkeypatch
):
    golden = goldens["runs"][run]
    network, steps = in_batches, []
    monkeypatch.setattr(network.decoder, "logits", recorded(network.decoder, steps))
    builder = SequenceBuilder(tokenizer, network.method.layout)
    rows = [
        builder.prompt(prompt, bool(has), golden["max_gen_len"])
        for prompt, has in zip(golden["prompts"], golden["indicators"], strict=True)
    ]
    indicators = torch.tensor(golden["indicators"])
    with torch.inference_mode():
        memory = network.batch_memory(goldens["images"][indicators > 0], indicators)
        end = golden.get("eos_id", tokenizer.eos_id)
        new = generate_rows(network.decoder, rows, memory, golden["max_gen_len"], (end,)).ids
    assert [row.ids + ids for row, ids in zip(rows, new, strict=True)] == golden["ids"]
    lengths = [len(row.ids) for row in rows]
    shortest = min(lengths)
    for index, length in enumerate(lengths):
        expected = goldens["runs"]["caption"]["logits"][length - shortest, index]
        torch.testing.assert_close(steps[0][index, 0], expected, atol=1e-4, rtol=0)


def generate(network, row, goldens, index, has_image, most, end):
    with torch.inference_mode():
        images = goldens["images"][index : index + 1]
        memory = network.encode_images(images) if has_image else network.no_image_memory()
        return generate_rows(network.decoder, [row], memory, most, (end,)).ids[0]


def test_each_row_by_itself_is_answered_as_published(network, tokenizer, goldens, monkeypatch):
    builder = SequenceBuilder(tokenizer, network.method.layout, cut=network.method.cut_prompt)
    for index, golden in enumerate(goldens["runs"]["alone"]):
        steps = []
        monkeypatch.setattr(network.decoder, "logits", recorded(network.decoder, steps))
        has_image = bool(golden["indicators"][0])
        row = builder.prompt(golden["prompts"][0], has_image, 20)
        assert len(row.ids) == golden["prompt_lengths"][0]
        ids = generate(network, row, goldens, index, has_image, 20, tokenizer.eos_id)
        assert row.ids + ids == list(golden["ids"][0])
        expected = golden["logits"][: len(steps), 0]
        torch.testing.assert_close(torch.cat(steps)[:, 0], expected, atol=1e-4, rtol=0)


def test_a_row_ends_at_its_end_token(network, tokenizer, goldens):
    golden = goldens["runs"]["ended_alone"]
    builder = SequenceBuilder(tokenizer, network.method.layout)
    has_image = bool(golden["indicators"][0])
    row = builder.prompt(golden["prompts"][0], has_image, 20)
    index = goldens["prompts"].index(golden["prompts"][0])
    ids = generate(network, row, goldens, index, has_image, 20, golden["eos_id"])
    assert 0 < len(ids) < 20
    assert row.ids + ids == list(golden["ids"][0])


def test_a_batch_with_a_prompt_that_is_too_long_is_answered_as_published(
    in_batches, tokenizer, goldens, monkeypatch
):
    golden, network = goldens["runs"]["overlong"], in_batches
    builder = SequenceBuilder(tokenizer, network.method.layout, cut=network.method.cut_prompt)
    most, steps = golden["max_gen_len"], []
    rows = [
        builder.prompt(prompt, bool(has), most)
        for prompt, has in zip(golden["prompts"], golden["indicators"], strict=True)
    ]
    assert [len(row.ids) for row in rows] == golden["prompt_lengths"]
    assert [row.max_new_tokens for row in rows] == [0, None]
    assert rows[0].ids[:512] == golden["ids"][0]  # all that the published text is made of
    monkeypatch.setattr(network.decoder, "logits", recorded(network.decoder, steps))
    with torch.inference_mode():
        new = generate_rows(
            network.decoder, rows[1:], network.no_image_memory(), most, tokenizer.end_ids
        ).ids
    assert rows[1].ids + new[0] == golden["ids"][1]
    expected = golden["logits"][: len(steps), 1]
    torch.testing.assert_close(torch.cat(steps)[:, 0], expected, atol=1e-4, rtol=0)


def test_a_published_batch_draws_as_published_from_the_published_random_stream(
    in_batches, tokenizer, goldens
):
    """The published loop draws for all rows at once in every column, forced ones included.

    Its stream is PyTorch's global one, so it depends on the batch; ours is each request's own. What
    is comparable is everything but the stream, so here the rows are given the published one.
    """
    golden, network = goldens["runs"]["sampled"], in_batches
    builder = SequenceBuilder(tokenizer, network.method.layout)
    rows = [
        builder.prompt(prompt, bool(has), golden["max_gen_len"])
        for prompt, has in zip(golden["prompts"], golden["indicators"], strict=True)
    ]
    lengths = [len(row.ids) for row in rows]
    torch.manual_seed(1)
    columns = [torch.empty(4, 600).exponential_(1) for _ in range(golden["steps"])]
    made = [0] * len(rows)

    def choose(logits, active):
        probabilities, ids = drawable(logits, Decoding(0.1, 0.75))
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
        tokens = []
        for place, row in enumerate(active):
            # As torch.multinomial draws one token.
            noise = columns[lengths[row] - min(lengths) + made[row]][row]
            tokens.append(ids[place, (probabilities[place] / noise).argmax()])
            made[row] += 1
        return torch.stack(tokens)

    indicators = torch.tensor(golden["indicators"])
    with torch.inference_mode():
        memory = network.batch_memory(goldens["images"][indicators > 0], indicators)
        new = generate_rows(
            network.decoder, rows, memory, golden["max_gen_len"], tokenizer.end_ids, choose
        ).ids
    assert [row.ids + ids for row, ids in zip(rows, new, strict=True)] == golden["ids"]
    greedy = goldens["runs"]["caption"]["ids"]
    assert any(ids != other[: len(ids)] for ids, other in zip(golden["ids"], greedy, strict=True))


@pytest.fixture
def card(parity_card):
    def load(*settings):
        adapter = f"adapters={{default: {{path: {LAVIN / 'checkpoint-19.pth'}}}}}"
        vision = f"vision.path={CLIP}"
        chosen = ["fusion={kind: lavin}", adapter, vision, *settings]
        return load_model_card(str(parity_card), chosen)

    return load


def loaded(card):
    model = build_model(card, ModelOptions("cpu"))
    model.load_adapter_for("any", "any")
    return model


def answers(card, requests):
    return loaded(card).generate(requests)


def answers_singly(card, requests):
    model = loaded(card)
    return [model.generate([request])[0] for request in requests]


def test_the_registered_model_answers_by_image_and_nothing_of_the_batch(card, pictures):
    images = [(), *((picture,) for picture in pictures)]
    requests = [Request(f"Question {n}?\nResponse:", images[n % 4], 6) for n in range(6)]
    together = answers(card(), requests)
    assert together == answers_singly(card(), requests)
    assert answers(card("fusion.temperature=0.5"), requests) != together


def test_answers_are_the_published_text_behind_the_prompt_with_its_blank(card, goldens):
    texts = [run for run in goldens["runs"]["alone"] if not run["indicators"][0]]
    found = answers(card(), [Request(run["prompts"][0], (), 20) for run in texts])
    expected = [run["text"][0].partition("Response:")[2] for run in texts]
    assert [response.text for response in found] == expected
    assert any(text.startswith(" ") for text in expected)


def test_a_sampled_answer_depends_on_its_seed_and_on_no_other_sample(card, pictures):
    sampled = card("decoding={temperature: 1.5, top_p: 0.9}")
    images = [(), *((picture,) for picture in pictures)]
    requests = [Request(f"Question {n}?\nResponse:", images[n % 4], 6) for n in range(6)]
    together = answers(sampled, requests)
    assert together[::-1] == answers(sampled, requests[::-1])
    assert together == answers_singly(sampled, requests)
    model = loaded(sampled)
    seeded = [replace(request, decoding=Decoding(seed=2)) for request in requests]
    assert model.generate(seeded) != together
    greedy = [replace(request, decoding=Decoding(temperature=0.0)) for request in requests]
    assert model.generate(greedy) == answers(card(), requests) != together


def test_an_answer_ends_with_what_it_is_to_stop_at(card):
    request = Request("Question 1?\nResponse:", (), 20)
    (whole,) = answers(card(), [request])
    middle = re.escape(whole.text[3:5])
    first = re.search(middle, whole.text)
    (stopped,) = answers(card(), [replace(request, stop_pattern=middle)])
    assert first.end() <= len(stopped.text) < len(whole.text)
    assert whole.text.startswith(stopped.text)


@pytest.mark.parametrize("setting", ["fusion.batch_routing=first", "fusion.new_positions=shortest"])
def test_published_batches_are_an_option_of_the_card_and_are_told(card, pictures, setting):
    model = loaded(card(setting))
    assert model.budget().in_order
    assert any("share a batch" in warning for warning in model.warnings())
    text = "Question?\nResponse:"
    requests = [
        Request(text, (), 6), Request(2 * text, (pictures[0],), 6), Request(text, (pictures[1],), 6)
    ]  # fmt: skip
    alone = [model.generate([request])[0] for request in requests]
    assert model.generate(requests) != alone
    missing = Request(text, (pictures[0].parent / "none.png",), 6)
    answered, failed = model.generate([requests[1], missing])
    assert failed.error
    assert answered == alone[1]


def test_positions_may_go_on_as_in_training(card):
    requests = [Request(f"Question {n}?\nResponse:", (), 12) for n in range(4)]
    assert answers(card("fusion.new_positions=training"), requests) != answers(card(), requests)


def test_prompts_that_are_too_long_are_answered_with_fewer_tokens_or_none(card, tokenizer):
    room = 512 - len(tokenizer.encode("Image: N/A")) - 1
    text = "word " * 600
    ids = tokenizer.encode(text)
    fits = tokenizer.decode(ids[: room - 3])
    requests = [Request(prompt, (), 10) for prompt in (text, fits, "Question?\nResponse:")]
    too_long, nearly, short = answers(card("max_sequence_length=512"), requests)
    assert (too_long.text, too_long.notes) == ("", ("L6",))
    assert nearly.notes == ("L6",)
    assert 0 < len(tokenizer.encode(nearly.text)) <= 512 - 1 - room + 4
    assert short.notes == ()


def test_a_published_file_survives_the_way_to_ours_and_back(tmp_path):
    convert_adapter(LAVIN / "checkpoint-19.pth", tmp_path / "ours")
    convert_adapter(tmp_path / "ours", tmp_path / "back.pth")
    before, after = read_adapter(LAVIN / "checkpoint-19.pth"), read_adapter(tmp_path / "back.pth")
    assert after.settings == before.settings
    assert list(after.tensors) == list(before.tensors)
    assert all(torch.equal(after.tensors[name], before.tensors[name]) for name in after.tensors)


def test_a_base_without_what_the_method_needs_is_refused(card):
    with pytest.raises(CheckpointError, match="reads no class token of a vision tower with 8"):
        answers(card("fusion.read_every=9"), [])
