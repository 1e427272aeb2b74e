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
