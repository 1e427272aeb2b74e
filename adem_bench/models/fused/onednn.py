"""Frozen linear layers through oneDNN on the CPU, their weights laid out for it once.

PyTorch's own float32 product runs through MKL, which uses narrower vectors on other makers'
processors: oneDNN was measured 2.3 times faster there, and 3 times for the few rows of a
decoding step (benchmarks/README.md). Weights are packed one by one and replace the originals.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional as F

QUICK_GELU_SCALE = 1.702
"""Of QuickGELU, x * sigmoid(1.702 * x)."""


class PackedLinear(nn.Module):
    """A frozen linear layer; (…, inputs) -> (…, outputs)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Pack an (outputs, inputs) weight.

        Raises:
            RuntimeError: this build of PyTorch cannot.
        """
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Multiply and add the bias."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._packed, self._bias, "none", [], ""
        )
        return out


class PackedAttention(nn.Module):
    """The two projections of a MultiheadAttention."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        """Pack them."""
        super().__init__()
        self.num_heads = attention.num_heads
        self.in_proj = PackedLinear(attention.in_proj_weight, attention.in_proj_bias)
        self.out_proj = PackedLinear(attention.out_proj.weight, attention.out_proj.bias)


class PackedQuickGELU(nn.Module):
    """Two linear layers with QuickGELU between them.

    It is SiLU of a scaled input, scaled back, and both scales go into the weights: one pass over
    the hidden states instead of three, a tenth of a tower's time.
    """

    def __init__(self, first: Any, second: Any) -> None:
        """Scale and pack them."""
        super().__init__()
        bias = None if first.bias is None else first.bias * QUICK_GELU_SCALE
        self.first = PackedLinear(first.weight * QUICK_GELU_SCALE, bias)
        self.second = PackedLinear(second.weight / QUICK_GELU_SCALE, second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (…, outputs) of (…, inputs)."""
        out: Tensor = self.second(F.silu(self.first(x), inplace=True))
        return out


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether packing is possible and worth it."""
    if device.type != "cpu" or dtype != torch.float32 or not _has_onednn():
        return False
    try:
        layer = PackedLinear(torch.eye(16), None)
        return torch.equal(layer(torch.ones(2, 16)), torch.ones(2, 16))
    except (RuntimeError, AttributeError):
        # The operators are PyTorch's own, but private: without them, all still works.
        return False


def _has_onednn() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available


def pack_llama(llama: Any) -> None:
    """Replace a LlamaForCausalLM's linear layers; a head tied to the embedding stays."""
    pack_linear_layers(llama.model)
    if llama.lm_head.weight is not llama.model.embed_tokens.weight:
        llama.lm_head = PackedLinear(llama.lm_head.weight, None)


def pack_linear_layers(module: nn.Module) -> None:
    """Replace linear layers, attention projections and MLPs with QuickGELU in a frozen module."""
    for name, child in module.named_children():
        if isinstance(child, nn.MultiheadAttention):
            setattr(module, name, PackedAttention(child))
        elif [type(part) for part in child.children()] == [nn.Linear, QuickGELU, nn.Linear]:
            first, _, second = child.children()
            setattr(module, name, PackedQuickGELU(first, second))
        elif type(child) is nn.Linear:  # quantized layers are of classes of their own
            setattr(module, name, PackedLinear(child.weight, child.bias))
        else:
            pack_linear_layers(child)
