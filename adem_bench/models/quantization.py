"""Frozen linear layers whose weights take 8 or 4 bits each.

`bnb-4bit` and `bnb-8bit` are layers of bitsandbytes as LaVIN's `--bits` sets them: NF4 with double
quantization, and LLM.int8() whose outliers begin at 6. `int8-cpu` needs PyTorch alone (`int8.py`).
Gradients pass through all of them to what comes before; they have none themselves.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from adem_bench.errors import CheckpointError
from adem_bench.models.int8 import Int8Linear
from adem_bench.schemas import NOT_QUANTIZED, TorchModelCard

INT8_CPU, BNB_4BIT, BNB_8BIT = "int8-cpu", "bnb-4bit", "bnb-8bit"
QUANT_TYPE = "nf4"
OUTLIER_THRESHOLD = 6.0
"""Inputs from this size on are multiplied in 16 bits by `bnb-8bit`."""
PROBE_WIDTH = 64
"""One block of 4-bit weights."""


def stated_quantization(card: TorchModelCard) -> dict[str, str]:
    """Return what a manifest says of a card's quantization: nothing where there is none."""
    if card.quantization == NOT_QUANTIZED:
        return {}
    return {"quantization": card.quantization}


def check_quantization(
    card: TorchModelCard,
    device: torch.device,
    dtype: torch.dtype,
    packages: tuple[str, ...] = ("bitsandbytes",),
) -> None:
    """Refuse what cannot be quantized here, by the installed libraries' own word.

    Args:
        card: Says how its weights are kept.
        device: Where they are to be.
        dtype: What they are to compute in.
        packages: Those that `bnb-4bit` and `bnb-8bit` need.

    Raises:
        CheckpointError: a package is missing, or does not compute that way on the device.
    """
    chosen = card.quantization
    if chosen == NOT_QUANTIZED:
        return
    subject = f"model {card.name}: quantization {chosen}"
    if chosen == INT8_CPU:
        if device.type != "cpu":
            raise CheckpointError(
                f"{subject} computes on the CPU, and the device is {device}; add --device cpu, or "
                f"choose --quantization {BNB_8BIT}"
            )
        return
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise CheckpointError(
            f"{subject} needs {' and '.join(missing)}, which is not installed; `pip install "
            f"'adem-bench[quantization]'` brings it, or choose --quantization {NOT_QUANTIZED}"
        )
    try:
        linear = nn.Linear(PROBE_WIDTH, PROBE_WIDTH, False, device, dtype)
        quantized_linear(linear, chosen, dtype)(linear.weight)
    except (RuntimeError, ImportError, OSError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        name = str(dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{subject}: the installed bitsandbytes cannot compute it in {name} on {device} "
            f"({reason}); choose another --device or --dtype, or --quantization {INT8_CPU} on the "
            "CPU"
        ) from error


def quantize_linear_layers(module: nn.Module, quantization: str, dtype: torch.dtype) -> None:
    """Replace all linear layers below a frozen module.

    Args:
        module: Its weights are on their device.
        quantization: A card's, other than `none`.
        dtype: What the layers compute in.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, quantized_linear(child, quantization, dtype))
        else:
            quantize_linear_layers(child, quantization, dtype)


@torch.no_grad()
def quantized_linear(linear: nn.Linear, quantization: str, dtype: torch.dtype) -> nn.Module:
    """Return a frozen linear layer with quantized weights, where the given one is.

    Args:
        linear: Not changed.
        quantization: A card's, other than `none`.
        dtype: What the layer computes in.
    """
    if quantization == INT8_CPU:
        return Int8Linear(linear.weight, linear.bias)
    bnb = bitsandbytes()
    weight, device = linear.weight.detach(), linear.weight.device
    sizes = (linear.in_features, linear.out_features, linear.bias is not None)
    made: nn.Module
    if quantization == BNB_4BIT:
        settings = {"quant_type": QUANT_TYPE, "compress_statistics": True}
        made = bnb.nn.Linear4bit(*sizes, compute_dtype=dtype, device="meta", **settings)
        made.weight = bnb.nn.Params4bit(weight, requires_grad=False, module=made, **settings)
    else:
        settings = {"has_fp16_weights": False}
        made = bnb.nn.Linear8bitLt(*sizes, threshold=OUTLIER_THRESHOLD, device="meta", **settings)
        # Weights are quantized on their way off the CPU's memory, even if that is where they stay.
        made.weight = bnb.nn.Int8Params(weight.cpu(), requires_grad=False, **settings)
    if linear.bias is not None:
        made.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
    return made.to(device).train(linear.training)


def bitsandbytes() -> Any:
    """Return the package; it is large, and imported only where it is used."""
    import bitsandbytes as package

    # One line for every product whose inputs are not float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return package
