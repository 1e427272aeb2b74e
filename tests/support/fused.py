"""Fused networks: of the published sizes without memory, and of the tiny published weights."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.decoder import FusedDecoder
from adem_bench.models.fused.model import network_with
from adem_bench.models.fused.network import FusedNetwork, build_network
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.clip import load_visual
from adem_bench.models.fused.weights.llama import load_language_model
from adem_bench.registry import METHODS
from adem_bench.runner.distributed import Processes
from adem_bench.schemas import RecipeCard
from adem_bench.trainers.distributed import ProcessGroup
from adem_bench.trainers.optimizer import AdapterOptimizer, learning_rate

FIXTURES = Path(__file__).parents[1] / "fixtures"
WEIGHTS = FIXTURES / "parity" / "weights"


def meta_network(method, settings, width, layers, heads) -> FusedNetwork:
    """A network on CLIP ViT-L/14 whose tensors take no memory."""
    with torch.device("meta"):
        config = LlamaConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=2 * width,
        )  # fmt: skip
        visual = open_clip.transformer.VisionTransformer(
            image_size=224, patch_size=14, width=1024, layers=24, heads=16, mlp_ratio=4.0
        )
        return build_network(LlamaForCausalLM(config), visual, method, settings)


def tiny_network(
    adapter: Path, kind: str, eager: bool, clip: Path | None = None, **settings
) -> FusedNetwork:
    """The tiny published model with an adapter; `settings` are the card's of its method."""
    llama = load_language_model(WEIGHTS / "tiny", torch.float32, torch.device("cpu"))
    visual = load_visual(VisionSource(), clip or WEIGHTS / "clip_tiny.pt", torch.float32)
    fusion = METHODS.load(kind).overrides(kind=kind, **settings)
    return network_with(llama, visual, read_adapter(adapter), fusion, eager)


def recorded(decoder, steps):
    """`decoder.logits`, keeping what it returns in `steps`."""

    def logits(hidden_states):
        steps.append(FusedDecoder.logits(decoder, hidden_states))
        return steps[-1]

    return logits


class _Scaled(nn.Module):
    def forward(self, x):
        return 1.25 * x


def scale_dropouts(method: nn.Module) -> None:
    """Put a factor of 1.25 in the place of every dropout, as the goldens were made."""
    for module in list(method.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, _Scaled())


def four_updates(network, golden, loss_of) -> tuple[list[float], list[float]]:
    """Train as the goldens' `trained` did; return learning rates and losses.

    Args:
        network: Its dropout is switched off.
        golden: What the published code was given, and what it ended with.
        loss_of: Returns the loss of some rows.
    """
    recipe = RecipeCard.model_validate(
        {
            "name": "golden", "data": [{"task": "given"}], "epochs": golden["epochs"],
            "warmup_epochs": golden["warmup_epochs"], "betas": golden["betas"],
            "weight_decay": golden["weight_decay"], "effective_batch": 4,
            "base_learning_rate": golden["lr"] * 256 / 4,
        }
    )  # fmt: skip
    for module in network.method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    network.train()
    method = network.method
    optimizer = AdapterOptimizer(
        method.adapter_tensors(), method.tensors_without_gradient(), recipe,
        ProcessGroup(Processes(), torch.device("cpu")), False, method.skips_nan_loss,
    )  # fmt: skip
    rates, losses = [], []
    for step in range(4):
        for rows in golden["order"][step % 2 * 2 :][:2]:
            losses.append(optimizer.accumulate([loss_of(rows)], golden["accumulation"]))
        rates.append(learning_rate(step / 2, recipe))
        optimizer.step(rates[-1], ())
    return rates, losses
