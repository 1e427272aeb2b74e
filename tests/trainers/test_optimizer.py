from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from adem_bench.errors import CheckpointError
from adem_bench.runner.distributed import Processes
from adem_bench.schemas import RecipeCard
from adem_bench.trainers.distributed import ProcessGroup
from adem_bench.trainers.optimizer import AdapterOptimizer, parameter_groups


def recipe(**more) -> RecipeCard:
    return RecipeCard.model_validate({"name": "r", "data": [{"task": "sqa"}], "epochs": 1, **more})


def parameters() -> dict[str, nn.Parameter]:
    torch.manual_seed(0)
    return {
        "adapter_emb1": nn.Parameter(torch.randn(1, 4, 3)),
        "adapter_proj.fc1.weight": nn.Parameter(torch.randn(3, 3)),
        "adapter_proj.fc1.bias": nn.Parameter(torch.randn(3)),
        "dead.fc2.weight": nn.Parameter(torch.randn(3, 2)),
    }


def optimizer(tensors, scaled=False, skips_nan_loss=False, **more) -> AdapterOptimizer:
    group = ProcessGroup(Processes(), torch.device("cpu"))
    dead = frozenset({"dead.fc2.weight"})
    return AdapterOptimizer(tensors, dead, recipe(**more), group, scaled, skips_nan_loss)


def loss_of(tensors) -> torch.Tensor:
    reached = [tensor for name, tensor in tensors.items() if not name.startswith("dead")]
    return sum((tensor**2).sum() for tensor in reached)


def test_only_biases_and_vectors_are_spared_the_decay():
    undecayed, decayed = parameter_groups(parameters(), 0.02)
    assert [tuple(p.shape) for p in undecayed["params"]] == [(3,)]
    assert undecayed["weight_decay"] == 0
    assert [tuple(p.shape) for p in decayed["params"]] == [(1, 4, 3), (3, 3), (3, 2)]
    assert decayed["weight_decay"] == 0.02


def test_without_gradient_reached_tensors_decay_and_unreached_ones_stay():
    tensors = parameters()
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    optimizer(tensors, weight_decay=0.1).step(0.5, ())
    shrunk = before["adapter_emb1"] * (1 - 0.5 * 0.1)
    torch.testing.assert_close(tensors["adapter_emb1"].detach(), shrunk)
    assert torch.equal(tensors["dead.fc2.weight"], before["dead.fc2.weight"])
    assert torch.equal(tensors["adapter_proj.fc1.bias"], before["adapter_proj.fc1.bias"])


@pytest.mark.parametrize("scaled", [False, True])
def test_a_loss_that_is_no_number_changes_nothing_and_is_told(scaled):
    tensors = parameters()
    trained = optimizer(tensors, scaled)
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    scale = trained.scale
    assert math.isnan(trained.accumulate([loss_of(tensors) * math.nan], 1))
    assert trained.step(0.1, ()).skipped
    assert all(torch.equal(tensors[name], before[name]) for name in tensors)
    assert trained.scale == (scale / 2 if scaled else 1)
    trained.accumulate([loss_of(tensors)], 1)
    assert not trained.step(0.1, ()).skipped
    assert not torch.equal(tensors["adapter_emb1"], before["adapter_emb1"])


@pytest.mark.parametrize("scaled", [False, True])
def test_a_micro_batch_that_is_left_out_leaves_the_step_to_the_others(scaled):
    """LaVIN's rule (L7): the first parts of such a micro-batch do not count either."""

    def step(*windows) -> tuple[dict[str, nn.Parameter], list[bool]]:
        tensors = parameters()
        trained = optimizer(tensors, scaled, skips_nan_loss=True)
        skipped = []
        for factors in windows:
            for parts in factors:
                trained.accumulate((loss_of(tensors) * part for part in parts), 2)
            skipped.append(trained.step(0.1, ()).skipped)
        return tensors, skipped

    expected, _ = step([[0.5, 1.5]])
    tensors, skipped = step([[0.5, 1.5], [1.0, math.nan]])
    assert skipped == [False]
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)
    # With no micro-batch left there is no step, not one of decay and momentum alone.
    tensors, skipped = step([[0.5, 1.5]], [[math.nan], [1.0, math.nan]])
    assert skipped == [False, True]
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)


def test_loss_scaling_changes_no_step():
    ends = []
    for scaled in (False, True):
        tensors = parameters()
        trained = optimizer(tensors, scaled)
        for _ in range(3):
            trained.backward(loss_of(tensors), 2)
            trained.backward(loss_of(tensors), 2)
            trained.step(0.01, ())
        ends.append(tensors)
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=0, atol=0)


def test_gradients_are_cut_to_the_norm_asked_for():
    tensors = parameters()
    trained = optimizer(tensors, max_grad_norm=1e-3)
    trained.backward(loss_of(tensors), 1)
    given = [t.grad.clone() for t in tensors.values() if t.grad is not None]
    expected = math.sqrt(sum(float((g**2).sum()) for g in given))
    assert trained.step(0.0, ()).grad_norm == pytest.approx(expected)


def test_a_state_that_is_not_the_optimizers_is_refused():
    tensors = parameters()
    first = optimizer(tensors, scaled=True)
    first.backward(loss_of(tensors), 1)
    first.step(0.05, ())
    good, scaler = first.state_tensors(), first.scaler_state()
    name = next(iter(good)).rpartition(".")[0]
    part, step = good[f"{name}.exp_avg"], f"{name}.step"
    damaged = (
        {f"{name}.exp_avg": part.to(torch.uint8)},
        {f"{name}.exp_avg_sq": part.double()},
        {f"{name}.exp_avg": part[..., :1]},
        {step: torch.ones(3)},
        {step: torch.tensor(-1.0)},
        {step: torch.tensor(torch.nan)},
        {"other.exp_avg": part},
    )
    for change in damaged:
        with pytest.raises(CheckpointError, match="its optimizer"):
            optimizer(tensors, scaled=True).load_state(good | change, scaler)
    for key in ("step", "exp_avg", "exp_avg_sq"):
        lacking = {known: value for known, value in good.items() if known != f"{name}.{key}"}
        with pytest.raises(CheckpointError, match=f"no {name}.{key} of shape"):
            optimizer(tensors, scaled=True).load_state(lacking, scaler)
    with pytest.raises(CheckpointError, match="its loss scaler lacks _growth"):
        optimizer(tensors, scaled=True).load_state(good, {"growth_factor": 2.0})


def test_a_state_taken_up_goes_on_to_the_bit():
    def steps(trained, tensors, count):
        for _ in range(count):
            trained.backward(loss_of(tensors), 1)
            trained.step(0.05, ())

    whole, halves = parameters(), parameters()
    steps(optimizer(whole, scaled=True), whole, 6)
    first = optimizer(halves, scaled=True)
    steps(first, halves, 3)
    second = optimizer(halves, scaled=True)
    second.load_state(first.state_tensors(), first.scaler_state())
    steps(second, halves, 3)
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
