"""The transcription of the published training step against what the published code computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchmarks.published_training import (
    Batch,
    PublishedModel,
    Schedule,
    Settings,
    published_optimizer,
    published_row,
    published_training,
)

BLOCK = "backbone.visual.transformer.resblocks."
CLASS_PROJECTOR = {
    f"adapter_proj_cls.{name}" for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
}
LAST_BLOCK = {f"{BLOCK}3.adapter_mlp.fc1.weight", f"{BLOCK}3.adapter_mlp.fc2.weight"}
AT_THE_PEAK = Schedule(
    epochs=4, warmup_epochs=0, blr=0.3, effective_batch=4, accumulation=1, weight_decay=0.1
)


@pytest.fixture(scope="module")
def goldens(parity: Path) -> dict:
    return torch.load(parity / "goldens.pt", weights_only=True)


@pytest.fixture
def make_model(parity: Path, goldens: dict) -> Callable[..., PublishedModel]:
    """Makes the tiny model, with other settings or adapter tensors where given."""
    weights = parity / "weights"
    stored = torch.load(parity / "checkpoint-19.pth", weights_only=False)["model"]
    adapter = {name.removeprefix("module."): tensor for name, tensor in stored.items()}

    def make(tensors: dict[str, Tensor] | None = None, **settings: object) -> PublishedModel:
        return PublishedModel(
            llama=torch.load(weights / "tiny" / "consolidated.00.pth", weights_only=True),
            params=json.loads((weights / "tiny" / "params.json").read_text()),
            clip=torch.load(weights / "clip_tiny.pt", weights_only=True),
            adapter=adapter | (tensors or {}),
            prefix_image=goldens["prefix_img"].tolist(),
            prefix_text=goldens["prefix_nonimg"].tolist(),
            settings=Settings(**{"dropout": 0.0} | settings),
        )

    return make


@pytest.fixture
def mixed(goldens: dict) -> Batch:
    """The goldens' batch: its second row has no image."""
    return Batch(goldens["examples"], goldens["labels"], goldens["images"], goldens["indicators"])


@pytest.fixture
def text(mixed: Batch) -> Batch:
    """The same rows, none with an image."""
    return replace(
        mixed,
        images=torch.zeros_like(mixed.images),
        indicators=torch.zeros_like(mixed.indicators),
    )


@pytest.fixture(scope="module")
def tokenizer(parity: Path) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(parity / "weights" / "tokenizer.model"))


def values(model: PublishedModel) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.parameters.items()}


def trained(
    model: PublishedModel, epochs: Sequence[Sequence[Batch]], schedule: Schedule
) -> dict[str, Tensor]:
    published_training(model, epochs, schedule)
    return values(model)


def names_that_differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert list(one) == list(other)
    return {name for name in one if not torch.equal(one[name], other[name])}


def test_clip_features_are_the_published_ones(make_model, goldens):
    with torch.no_grad():
        features = make_model().encode(goldens["images"])
    torch.testing.assert_close(features, goldens["clip_feats"], atol=1e-5, rtol=0)


def test_loss_and_gradients_are_the_published_ones(make_model, mixed, goldens):
    model = make_model()
    loss = model.loss(mixed)
    loss.backward()
    assert loss.item() == pytest.approx(float(goldens["loss"]), abs=1e-5)
    reached = {name: p.grad for name, p in model.parameters.items() if p.grad is not None}
    assert set(reached) == set(goldens["grads"])
    for name, expected in goldens["grads"].items():
        torch.testing.assert_close(reached[name], expected, atol=1e-6, rtol=0, msg=name)


def test_parameters_have_the_published_names_shapes_and_order(make_model, goldens):
    found = [(name, tuple(p.shape)) for name, p in make_model().parameters.items()]
    assert found == [(name, tuple(shape)) for name, shape in goldens["trainable"].items()]


def test_rows_are_those_of_the_published_data_loader(tokenizer, goldens):
    for index, (prompt, answer, _) in enumerate(goldens["pairs"]):
        ids, labels = published_row(tokenizer, prompt, answer, 128)
        assert torch.equal(ids, goldens["examples"][index])
        assert torch.equal(labels, goldens["labels"][index])


def test_a_row_too_long_loses_its_end(tokenizer, goldens):
    prompt, answer, _ = goldens["pairs"][0]
    whole, _ = published_row(tokenizer, prompt, answer, 128)
    count = int((whole > 0).sum())
    ids, labels = published_row(tokenizer, prompt, answer, count - 3)
    assert torch.equal(ids, whole[: count - 3])
    assert labels[-1] == ids[-1] != tokenizer.eos_id()
    _, labels = published_row(tokenizer, prompt, answer, 20)
    assert not labels.any()  # the cut is inside the prompt


@pytest.mark.parametrize(("epoch", "share"), [(0, 0), (1, 0.5), (2, 1), (11, 0.5), (20, 0)])
def test_the_learning_rate_rises_in_a_line_and_falls_by_half_a_cosine(epoch, share):
    schedule = Schedule(epochs=20, warmup_epochs=2, blr=9e-3, effective_batch=32, accumulation=2)
    assert schedule.learning_rate(epoch) == pytest.approx(1.125e-3 * share, abs=1e-15)


def test_only_the_four_biases_of_the_projectors_are_spared_the_decay(make_model):
    model = make_model()
    names = {id(p): name for name, p in model.parameters.items()}
    spared, decayed = published_optimizer(model, 0.02).param_groups
    assert [names[id(p)] for p in spared["params"]] == [
        f"{projector}.{layer}.bias"
        for projector in ("adapter_proj", "adapter_proj_cls")
        for layer in ("fc1", "fc2")
    ]
    rest = [name for name in model.parameters if not name.endswith(".bias")]
    assert [names[id(p)] for p in decayed["params"]] == rest
    assert (spared["weight_decay"], decayed["weight_decay"]) == (0, 0.02)
    assert all((g["betas"], g["eps"]) == ((0.9, 0.95), 1e-8) for g in (spared, decayed))


def test_the_first_batch_without_image_moves_the_second_embedding_only(make_model, text):
    model = make_model({"adapter_emb2": torch.zeros(1, 320, 64)})  # as a fresh adapter has it
    model.loss(text).backward()
    unreached = {name for name, p in model.parameters.items() if p.grad is None}
    assert unreached == CLASS_PROJECTOR | LAST_BLOCK
    moved = {name for name, p in model.parameters.items() if p.grad is not None and p.grad.any()}
    assert moved == {"adapter_emb2"}


def test_a_batch_with_an_image_reaches_all_but_the_last_block(make_model, mixed):
    model = make_model()
    model.loss(mixed).backward()
    assert {name for name, p in model.parameters.items() if p.grad is None} == LAST_BLOCK


def test_without_image_the_unreached_stay_and_zero_gradients_still_decay(make_model, text):
    before = values(make_model())
    after = trained(make_model(), [[text]], AT_THE_PEAK)
    kept = {name for name in before if name.endswith(".bias")} | CLASS_PROJECTOR | LAST_BLOCK
    assert names_that_differ(before, after) == set(before) - kept
    shrink = 1 - AT_THE_PEAK.learning_rate(0) * AT_THE_PEAK.weight_decay
    decayed_only = set(before) - kept - {"adapter_emb1", "adapter_emb2"}
    assert len(decayed_only) == 8  # three blocks' adapters and the patches' projector
    for name in decayed_only:
        torch.testing.assert_close(after[name], before[name] * shrink, msg=name)


def test_once_reached_the_class_projector_goes_on_in_windows_without_image(make_model, mixed, text):
    image_only = trained(make_model(), [[mixed]], AT_THE_PEAK)
    both = trained(make_model(), [[mixed, text]], AT_THE_PEAK)
    assert names_that_differ(image_only, both) == set(both) - LAST_BLOCK


def test_a_tensor_reached_late_begins_its_own_count_of_steps(make_model, mixed, text):
    # AdamW's first step moves by the learning rate whatever the gradient's size.
    late, after = (trained(make_model(), [e], AT_THE_PEAK) for e in ([text], [text, mixed]))
    rate = AT_THE_PEAK.learning_rate(0.5)
    moved = (after["adapter_proj_cls.fc2.bias"] - late["adapter_proj_cls.fc2.bias"]).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, rate), rtol=1e-3, atol=0)


def test_the_learning_rate_holds_through_a_window_and_begins_at_zero(make_model, mixed):
    schedule = replace(AT_THE_PEAK, warmup_epochs=1, accumulation=2)
    model = make_model()
    assert not names_that_differ(values(model), trained(model, [[mixed, mixed]], schedule))


def test_an_incomplete_window_is_thrown_away(make_model, mixed, text):
    schedule = replace(AT_THE_PEAK, accumulation=2)
    whole = trained(make_model(), [[mixed, text], [text, mixed]], schedule)
    left_over = trained(make_model(), [[mixed, text, mixed], [text, mixed]], schedule)
    assert not names_that_differ(whole, left_over)


def test_a_window_with_a_loss_that_is_no_number_is_skipped(make_model, mixed):
    broken = replace(mixed, images=torch.full_like(mixed.images, torch.nan))
    schedule = replace(AT_THE_PEAK, accumulation=2, scaled=True)
    model = make_model()
    before = values(model)
    losses = published_training(model, [[mixed, broken]], schedule)
    assert losses == [pytest.approx(model.loss(mixed).item()), 0.0]
    assert not names_that_differ(before, values(model))
    assert names_that_differ(before, trained(model, [[mixed, mixed]], schedule))


def test_a_loss_scale_changes_no_step(make_model, mixed, text):
    plain, scaled = (
        trained(make_model(), [[mixed, text]], replace(AT_THE_PEAK, scaled=scaled))
        for scaled in (False, True)
    )
    assert not names_that_differ(plain, scaled)


def test_a_step_takes_the_mean_of_its_windows_gradients(make_model, mixed, text):
    def gradients(model):
        return {name: p.grad.clone() for name, p in model.parameters.items() if p.grad is not None}

    expected = make_model()
    for batch in (mixed, text):
        (expected.loss(batch) / 2).backward()
    seen = []
    model = make_model()
    # AdamW's steps hardly depend on the size of gradients, so look at these themselves.
    hook = register_optimizer_step_pre_hook(lambda *_: seen.append(gradients(model)))
    try:
        trained(model, [[mixed, text]], replace(AT_THE_PEAK, accumulation=2))
    finally:
        hook.remove()
    (found,) = seen
    assert not names_that_differ(found, gradients(expected))


def test_without_class_token_nothing_is_inserted(make_model, text, mixed):
    bare = make_model(class_token=False)
    inserting_nothing = replace(make_model(), prefix_text=())
    assert bare.loss(text).item() == inserting_nothing.loss(text).item()
    bare.loss(mixed).backward()
    assert {n for n, p in bare.parameters.items() if p.grad is None} == CLASS_PROJECTOR | LAST_BLOCK


def test_two_losses_of_a_batch_differ_by_dropout_alone(make_model, mixed):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        first, second = (make_model(dropout=0.1).loss(mixed).item() for _ in range(2))
        assert first != second
        assert make_model().loss(mixed).item() == make_model().loss(mixed).item()
