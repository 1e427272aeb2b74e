"""What quantized layers stand for, and how much memory they take."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adem_bench.models.int8 import Int8Linear

KINDS = ["int8-cpu", "bnb-8bit", "bnb-4bit"]


def need(quantization: str) -> None:
    """Skip where a quantization's packages are not installed."""
    if quantization.startswith("bnb-"):
        pytest.importorskip("bitsandbytes")
        pytest.importorskip("accelerate")


def is_quantized(module: nn.Module) -> bool:
    """Whether a module is one of the layers that `--quantization` makes."""
    return type(module).__name__ in ("Int8Linear", "Linear4bit", "Linear8bitLt")


def weight_of(layer: Any) -> Tensor:
    """The (outputs, inputs) numbers that a quantized layer's weights stand for, in float32."""
    if isinstance(layer, Int8Linear):
        return layer.weight * layer.scale[:, None]
    import bitsandbytes as bnb

    if isinstance(layer, bnb.nn.Linear4bit):
        return bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    scale = layer.weight.SCB if layer.state.SCB is None else layer.state.SCB
    return layer.weight.data * scale[:, None].float() / 127


def dequantized(module: nn.Module) -> nn.Module:
    """A copy of a module whose quantized layers are plain ones with the same numbers."""
    made = copy.deepcopy(module)
    for name, layer in list(made.named_modules()):
        if is_quantized(layer):
            weight = weight_of(layer)
            plain = nn.Linear(weight.shape[1], weight.shape[0], layer.bias is not None)
            with torch.no_grad():
                plain.weight.copy_(weight)
                if layer.bias is not None:
                    plain.bias.copy_(layer.bias)
            made.set_submodule(name, plain.requires_grad_(False))
    return made


def bytes_of(layer: Any) -> int:
    """Bytes of a linear layer's weights, with all that is needed to read them."""
    tensors = [layer.weight, getattr(layer, "scale", None)]
    state = getattr(layer.weight, "quant_state", None)
    if state is not None:
        tensors += [state.absmax, state.state2.absmax]
    tensors.append(getattr(layer.weight, "SCB", None))
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)
