"""Quantized linear layers by themselves, and what is refused."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adem_bench.errors import CheckpointError
from adem_bench.models.device import count_parameters
from adem_bench.models.quantization import check_quantization, quantized_linear
from adem_bench.schemas import TorchModelCard
from support.quantized import KINDS, bytes_of, need, weight_of

CPU = torch.device("cpu")
# Of rows of normally distributed weights, the largest is about 3.5 times the usual one: 127 steps
# to it round by 0.8% of the usual weight. 16 levels round by some 9%; LLM.int8() rounds inputs too.
ROUNDING = {"int8-cpu": 0.01, "bnb-8bit": 0.015, "bnb-4bit": 0.12}
# Bytes of a weight in 512 columns: with a float32 per row, or per 64 weights one more byte.
BYTES = {"int8-cpu": 1.01, "bnb-8bit": 1.01, "bnb-4bit": 0.53}


def card(quantization: str) -> TorchModelCard:
    return TorchModelCard(name="m", quantization=quantization)


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    need(request.param)
    return request.param


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(512, 384)
    nn.init.normal_(made.weight, std=0.02)
    return made.requires_grad_(False)


def error_of(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_outputs_are_those_of_the_weights_but_for_rounding(kind, linear, rows):
    layer = quantized_linear(linear, kind, torch.float32).eval()
    x = torch.randn(2, rows, 512)
    error = error_of(layer(x), linear(x))
    assert ROUNDING[kind] / 10 < error < ROUNDING[kind]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_outputs_keep_the_precision_of_their_inputs(kind, linear, dtype):
    layer = quantized_linear(linear.to(dtype), kind, dtype).eval()
    for rows in (1, 40):
        x = torch.randn(1, rows, 512, dtype=dtype)
        assert layer(x).dtype == dtype
        # bfloat16 rounds inputs and outputs by 0.2% each.
        assert error_of(layer(x).float(), linear(x).float()) < ROUNDING[kind] + 0.005


def test_gradients_are_those_of_the_numbers_that_the_weights_stand_for(kind, linear):
    layer = quantized_linear(linear, kind, torch.float32).train()
    inputs = [torch.randn(3, 20, 512).requires_grad_() for _ in range(1)]
    x, y = inputs[0], inputs[0].detach().clone().requires_grad_()
    weight = weight_of(layer)
    direction = torch.randn(3, 20, 384)
    (layer(x) * direction).sum().backward()
    (F.linear(y, weight, linear.bias) * direction).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)
    assert all(parameter.grad is None for parameter in layer.parameters())


def test_weights_take_a_byte_or_half_of_one_and_count_as_before(kind, linear):
    layer = quantized_linear(linear, kind, torch.float32)
    assert bytes_of(layer) / linear.weight.numel() < BYTES[kind]
    assert count_parameters(layer) == count_parameters(linear)


def test_int8_keeps_the_largest_weight_of_each_row_and_rows_of_zeros(linear):
    linear.weight[7] = 0
    layer = quantized_linear(linear, "int8-cpu", torch.float32)
    numbers, largest = weight_of(layer), linear.weight.abs().argmax(dim=1, keepdim=True)
    torch.testing.assert_close(numbers.gather(1, largest), linear.weight.gather(1, largest))
    assert (numbers[7] == 0).all()
    assert ((numbers - linear.weight).abs() <= layer.scale[:, None] * 0.5001).all()


def test_int8_training_keeps_no_floating_point_copy_of_the_weights(linear):
    layer = quantized_linear(linear, "int8-cpu", torch.float32)
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(torch.randn(1, 40, 512, requires_grad=True))
    assert {tensor.dtype for tensor in kept if tensor.shape == linear.weight.shape} == {torch.int8}


def test_int8_answers_do_not_depend_on_the_batch(linear):
    layer = quantized_linear(linear, "int8-cpu", torch.float32)
    x = torch.randn(40, 1, 512)
    torch.testing.assert_close(layer(x), torch.stack([layer(row) for row in x]))


def test_nothing_is_asked_of_weights_that_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", None)
    check_quantization(card("none"), torch.device("cuda"), torch.float16)


def test_int8_on_a_gpu_is_refused():
    with pytest.raises(CheckpointError, match=r"device is cuda:0; add --device cpu, or choose"):
        check_quantization(card("int8-cpu"), torch.device("cuda:0"), torch.float16)


@pytest.mark.parametrize("missing", ["bitsandbytes", "accelerate"])
def test_a_missing_package_is_named_with_how_to_get_it(missing, monkeypatch):
    monkeypatch.setattr(
        "adem_bench.models.quantization.find_spec", lambda name: None if name == missing else name
    )
    with pytest.raises(CheckpointError) as told:
        check_quantization(card("bnb-4bit"), CPU, torch.float32, ("bitsandbytes", "accelerate"))
    assert f"quantization bnb-4bit needs {missing}, which is not installed" in str(told.value)
    assert "pip install 'adem-bench[quantization]'" in str(told.value)


def test_what_bitsandbytes_refuses_is_told_in_its_words(monkeypatch):
    need("bnb-4bit")
    import bitsandbytes

    def refuse(*given, **more):
        raise RuntimeError("no kernel\nfor this device")

    monkeypatch.setattr(bitsandbytes.nn.Params4bit, "_quantize", refuse)
    with pytest.raises(CheckpointError) as told:
        check_quantization(card("bnb-4bit"), CPU, torch.float32)
    assert "cannot compute it in float32 on cpu (no kernel for this device)" in str(told.value)
    assert "--quantization int8-cpu" in str(told.value)


def test_what_bitsandbytes_computes_here_is_let_through(kind):
    check_quantization(card(kind), CPU, torch.float32, ("bitsandbytes", "accelerate"))
