"""LoRA on the language model's projections: peft's layers beside frozen ones that stay as they are.

The frozen projections are shared by all adapters and may be packed, quantized or sharded: peft's
layers get them with each call, and hold what is tuned alone.

Source: arXiv 2106.09685 section 4.1; tensor names are those in peft's files of a causal language
model, which LLaVA's own LoRA files have too.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from adem_bench.errors import CheckpointError

PREFIX = "base_model.model.model.layers."
"""What peft puts in front of a layer's number."""
END = ".lora_A.weight"
ADAPTER = "default"
"""Peft's name of an adapter that has none; its files leave it out."""


def lora_facts(tensors: Mapping[str, Tensor]) -> tuple[int, tuple[str, ...]]:
    """Return the rank and the last names of the projections that an adapter's tensors tune.

    Args:
        tensors: By name; 0 and none where no matrix of peft's is among them.
    """
    found = {
        name.removesuffix(END).rpartition(".")[2]: len(tensor)
        for name, tensor in tensors.items()
        if name.startswith(PREFIX) and name.endswith(END)
    }
    return next(iter(found.values()), 0), tuple(found)


class LoraProjections(nn.Module):
    """`frozen(x) + alpha / rank * B(A(dropout(x)))` in the projections that are tuned."""

    def __init__(
        self,
        projections: Mapping[str, tuple[int, int]],
        layers: int,
        rank: int,
        alpha: float,
        dropout: float,
        package: str = "peft",
    ) -> None:
        """Make untrained matrices, with which nothing is added.

        Args:
            projections: Inputs and outputs of those that are tuned, by their name in a layer.
            layers: Number of decoder layers.
            rank: Of the product of A and B.
            alpha: Scale, before it is divided by the rank.
            dropout: Share of inputs that A does not see in training.
            package: What is needed.

        Raises:
            CheckpointError: the package is not installed.
        """
        super().__init__()
        if find_spec(package) is None:
            raise CheckpointError(
                f"LoRA (lora_rank {rank}) needs {package}, which is not installed; `pip install "
                "'adem-bench[lora]'` brings it"
            )
        # Large, and imported only where it is used.
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=list({name.rpartition(".")[2] for name in projections}),
        )
        self.layers = nn.ModuleList(_layer(projections) for _ in range(layers))
        inject_adapter_in_model(config, self.layers)

    def run(self, layer: int, name: str, frozen: nn.Module, x: Tensor) -> Tensor:
        """Return (B, T, outputs); arguments as in `Method.apply_projection`."""
        tuned: Any = self.layers[layer].get_submodule(name)
        out: Tensor = tuned(x, frozen)
        return out

    def tensors(self) -> dict[str, nn.Parameter]:
        """Return the matrices by their names in peft's files."""
        named = self.layers.named_parameters()
        return {
            PREFIX + name.replace(f".{ADAPTER}.", "."): parameter
            for name, parameter in named
            if f".{ADAPTER}." in name
        }


class _Frozen(nn.Linear):
    """Stands for a frozen projection, which comes with the input; peft asks for its sizes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = inputs, outputs
        self.weight = nn.Parameter(torch.empty(0), requires_grad=False)
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, frozen: nn.Module) -> Tensor:  # type: ignore[override]
        """Call the projection."""
        out: Tensor = frozen(x)
        return out


def _layer(projections: Mapping[str, tuple[int, int]]) -> nn.Module:
    """Return a module with the projections' names at their places."""
    layer = nn.Module()
    for name, sizes in projections.items():
        part, _, own = name.rpartition(".")
        if not hasattr(layer, part):
            layer.add_module(part, nn.Module())
        layer.get_submodule(part).add_module(own, _Frozen(*sizes))
    return layer
