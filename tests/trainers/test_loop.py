"""The loop on a tiny network: position, accumulation, restarts, precision, bad images."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adem_bench.errors import DataError
from adem_bench.records import TrainingPair
from adem_bench.runner.distributed import Processes
from adem_bench.trainers.batch_sampler import BatchSampler
from adem_bench.trainers.data_loader import BatchLoader
from adem_bench.trainers.distributed import ProcessGroup
from adem_bench.trainers.loop import Training


def loader(dataset, recipe) -> BatchLoader:
    return BatchLoader(dataset, 224, recipe.seed)


@pytest.fixture
def dataset(make_dataset, pairs):
    return make_dataset(pairs[:12])


@pytest.fixture
def run(make_training):
    """Trains to the end."""

    def train(network, recipe, dataset, workers=0):
        trained = make_training(network, recipe, dataset)
        return trained, list(trained.steps(loader(dataset, recipe), workers))

    return train


def adapter(network) -> dict[str, torch.Tensor]:
    return {name: t.detach().clone() for name, t in network.method.adapter_tensors().items()}


def assert_same(first, second) -> None:
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_learns_its_samples(run, make_network, make_recipe, dataset):
    recipe = make_recipe(epochs=3)
    _, reports = run(make_network(), recipe, dataset)
    assert [report.step for report in reports] == list(range(1, 10))
    first, last = reports[:3], reports[-3:]
    assert sum(r.loss for r in last) < 0.8 * sum(r.loss for r in first)
    assert reports[0].learning_rate == 0
    assert not any(report.skipped for report in reports)


def test_a_run_taken_up_at_any_step_ends_on_the_same_bits(
    make_training, make_network, make_recipe, dataset
):
    recipe = make_recipe()
    whole, states = make_training(make_network(dropout=0.1), recipe, dataset), []
    losses = []
    for report in whole.steps(loader(dataset, recipe), 0):
        losses.append(report.loss)
        states.append(copy.deepcopy(whole.state()))
    assert len(losses) == 6
    # Within the first epoch, at its end, and within the second.
    for done in (1, 3, 4):
        second = make_training(make_network(dropout=0.1), recipe, dataset)
        second.load(states[done - 1])
        rest = [report.loss for report in second.steps(loader(dataset, recipe), 0)]
        assert losses[:done] + rest == losses
        assert_same(adapter(whole.network), adapter(second.network))


def test_workers_change_nothing(run, make_network, make_recipe, dataset):
    recipe = make_recipe(epochs=1)
    alone, reports = run(make_network(dropout=0.1), recipe, dataset)
    helped, same = run(make_network(dropout=0.1), recipe, dataset, workers=2)
    assert [r.loss for r in same] == [r.loss for r in reports]
    assert_same(adapter(alone.network), adapter(helped.network))


def test_the_callers_random_numbers_are_left_alone(run, make_network, make_recipe, dataset):
    network = make_network(dropout=0.1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run(network, make_recipe(epochs=1), dataset, workers=1)
    assert torch.equal(torch.rand(2), expected)


def test_checkpointed_activations_give_the_same_adapter(run, make_network, make_recipe, dataset):
    recipe = make_recipe(epochs=1)
    plain, _ = run(make_network(dropout=0.1), recipe, dataset)
    network = make_network(dropout=0.1)
    network.decoder.checkpoint_activations(True)
    saving, _ = run(network, recipe, dataset)
    assert_same(adapter(plain.network), adapter(saving.network))


def test_frozen_weights_stay_and_have_no_gradient(run, make_network, make_recipe, dataset):
    network = make_network()
    tuned = {id(tensor) for tensor in network.method.adapter_tensors().values()}
    frozen = [p for p in network.parameters() if id(p) not in tuned]
    before = [p.clone() for p in frozen]
    run(network, make_recipe(epochs=1), dataset)
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(frozen, before, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_learns_too_with_the_adapter_in_float32(
    run, make_network, make_recipe, dataset, dtype
):
    trained, reports = run(make_network(dtype=dtype), make_recipe(epochs=3), dataset)
    assert sum(r.loss for r in reports[-3:]) < 0.9 * sum(r.loss for r in reports[:3])
    assert {t.dtype for t in trained.network.method.adapter_tensors().values()} == {torch.float32}
    scaled = dtype == torch.float16
    assert (reports[0].scale > 1) == scaled


def test_only_images_go_through_the_vision_tower(
    run, make_network, make_recipe, dataset, monkeypatch
):
    network, seen = make_network(), []
    embed = network.vision.embed
    monkeypatch.setattr(network.vision, "embed", lambda x: seen.append(len(x)) or embed(x))
    run(network, make_recipe(epochs=1), dataset)
    assert sum(seen) == 8  # of 12 samples


def test_unreadable_images_are_counted_and_too_many_end_the_run(
    run, make_network, make_recipe, make_dataset, pairs, tmp_path
):
    (tmp_path / "broken.png").write_bytes(b"no image")
    places = {3: tmp_path / "missing.png", 7: tmp_path / "broken.png"}
    bad = [replace(p, images=(places[i],)) if i in places else p for i, p in enumerate(pairs[:12])]
    dataset = make_dataset(bad)
    trained, reports = run(make_network(), make_recipe(epochs=1), dataset)
    assert trained.counts.unreadable_images == 2
    assert len(reports) == 3
    with pytest.raises(DataError, match=r"2 images could not be read, more than .* 1 allows.*png"):
        run(make_network(), make_recipe(epochs=1, max_unreadable_images=1), dataset)


def test_an_unreadable_image_counts_once_however_often_it_is_met(
    run, make_network, make_recipe, make_dataset, pairs, tmp_path
):
    bad = [replace(pairs[0], images=(tmp_path / "missing.png",)), *pairs[1:4]]
    recipe = make_recipe(epochs=3, max_unreadable_images=1)
    trained, _ = run(make_network(), recipe, make_dataset(bad))
    assert trained.counts.unreadable_images == 1


def test_a_micro_batch_without_any_readable_image_is_passed_over(
    run, make_network, make_recipe, make_dataset, tmp_path
):
    missing = Path(tmp_path / "missing.png")
    pairs = [TrainingPair(str(i), "Question: a\nResponse:", "b", (missing,)) for i in range(4)]
    trained, (report,) = run(make_network(), make_recipe(epochs=1), make_dataset(pairs))
    assert trained.counts.unreadable_images == 4
    assert report.loss != report.loss  # there is none


@pytest.mark.parametrize(
    ("own", "rule", "skips"),
    [
        (False, "method", False),
        (True, "method", True),
        (False, "skip", True),
        (True, "zero", False),
    ],
)
def test_a_loss_that_is_no_number_costs_the_step_or_its_micro_batch(
    run, make_network, make_recipe, dataset, monkeypatch, own, rule, skips
):
    """Q23 and L7, as the method has it unless the recipe says otherwise."""
    network, losses = make_network(), []
    network.method.skips_nan_loss = own
    loss = network.loss

    def broken_once(batch, at):
        losses.append(loss(batch, at) * (math.nan if len(losses) == 3 else 1))
        return losses[-1]

    monkeypatch.setattr(network, "loss", broken_once)
    trained, reports = run(network, make_recipe(epochs=1, nan_loss=rule), dataset)
    assert (trained.counts.nan_losses, trained.counts.skipped_steps) == (1, int(not skips))
    assert [report.skipped for report in reports] == [False, not skips, False]
    assert reports[1].loss == pytest.approx(losses[2].item())


class Twin(ProcessGroup):
    """Two processes that see the same samples: a sum is twice one's own. Counts the sums."""

    def __init__(self) -> None:
        super().__init__(Processes(), torch.device("cpu"))
        self.world_size = 2
        self.sums: list[int] = []

    def all_reduce(self, tensor: torch.Tensor) -> None:
        self.sums.append(tensor.numel())
        tensor *= 2


def test_gradients_travel_once_per_step_in_one_tensor(
    run, make_network, make_recipe, dataset, image_tokens_at
):
    recipe = make_recipe(epochs=1)
    alone, reports = run(make_network(), recipe, dataset)
    twin, network = Twin(), make_network()
    sampler = BatchSampler(dataset.lengths, recipe)
    training = Training(network, image_tokens_at, recipe, sampler, twin)
    shared = list(training.steps(loader(dataset, recipe), 0))
    assert sampler.accumulation == 2
    tensors = network.method.adapter_tensors()
    # All gradients, a flag for each tensor, and seven figures.
    assert twin.sums == [sum(t.numel() for t in tensors.values()) + len(tensors) + 7] * len(shared)
    assert [r.loss for r in shared] == pytest.approx([r.loss for r in reports])
    for name, tensor in adapter(alone.network).items():
        torch.testing.assert_close(tensors[name].detach(), tensor, atol=1e-6, rtol=0)
    assert training.counts.unreadable_images == 0
