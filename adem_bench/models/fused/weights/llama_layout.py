"""LLaMA's two layouts: names of tensors, order of rotary rows, and sizes, each way.

The published ("consolidated") layout is Meta's: params.json and shards of tensors that were cut
for as many GPUs (docs/method.md, section 12).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

REPLICATED = -1
# Consolidated name -> (transformers' name, dimension along which shards are joined).
TOP_TENSORS = {
    "tok_embeddings.weight": ("model.embed_tokens.weight", 1),
    "norm.weight": ("model.norm.weight", REPLICATED),
    "output.weight": ("lm_head.weight", 0),
}
LAYER_TENSORS = {
    "attention.wq.weight": ("self_attn.q_proj.weight", 0),
    "attention.wk.weight": ("self_attn.k_proj.weight", 0),
    "attention.wv.weight": ("self_attn.v_proj.weight", 0),
    "attention.wo.weight": ("self_attn.o_proj.weight", 1),
    "feed_forward.w1.weight": ("mlp.gate_proj.weight", 0),
    "feed_forward.w3.weight": ("mlp.up_proj.weight", 0),
    "feed_forward.w2.weight": ("mlp.down_proj.weight", 1),
    "attention_norm.weight": ("input_layernorm.weight", REPLICATED),
    "ffn_norm.weight": ("post_attention_layernorm.weight", REPLICATED),
}
ROTATED = ("attention.wq.weight", "attention.wk.weight")
COMPUTED = ("rope.freqs", "rotary_emb.inv_freq")
"""Ends of the names of rotary tables, which either code computes for itself."""
THETA = 1e4
"""Base of the rotary angles where params.json does not name one."""
USUAL_MULTIPLE = 256
"""`multiple_of` of the published 7B and 13B."""
UNSTATED = {
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
"""What transformers' configuration holds and the published layout leaves unsaid."""
FEED_FORWARD = ("multiple_of", "ffn_dim_multiplier")
"""From what params.json makes the feed-forward width; transformers' configuration keeps them."""


@dataclass(frozen=True, slots=True)
class LlamaTensor:
    """One tensor of a LLaMA."""

    published: str
    """Its name in the consolidated layout."""
    transformers: str
    """Its name in a LlamaForCausalLM."""
    joined_along: int
    """The dimension along which published shards cut it, or `REPLICATED`."""
    rotated: bool
    """Whether its rows are in the order of rotary pairs."""


def llama_tensors(layers: int) -> Iterator[LlamaTensor]:
    """Yield the tensors of a LLaMA with that many layers."""
    yield from top_tensors()
    for layer in range(layers):
        yield from layer_tensors(layer)


def top_tensors() -> Iterator[LlamaTensor]:
    """Yield the tensors that belong to no decoder layer."""
    for name, (target, dim) in TOP_TENSORS.items():
        yield LlamaTensor(name, target, dim, rotated=False)


def layer_tensors(layer: int) -> Iterator[LlamaTensor]:
    """Yield the tensors of one decoder layer, counted from 0."""
    for name, (target, dim) in LAYER_TENSORS.items():
        published, transformers = f"layers.{layer}.{name}", f"model.layers.{layer}.{target}"
        yield LlamaTensor(published, transformers, dim, name in ROTATED)


def to_half_rotation(weight: Tensor, head_size: int) -> Tensor:
    """Reorder rows from LLaMA's interleaved rotary pairs to transformers' two halves."""
    rows, columns = weight.shape
    pairs = weight.view(rows // head_size, head_size // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def to_interleaved_rotation(weight: Tensor, head_size: int) -> Tensor:
    """Reorder rows from transformers' two halves to LLaMA's interleaved rotary pairs."""
    rows, columns = weight.shape
    halves = weight.view(rows // head_size, 2, head_size // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


def empty_llama(config: LlamaConfig) -> Any:
    """Return a LlamaForCausalLM whose parameters have shapes and no memory."""
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def config_of(
    params: Mapping[str, Any], vocabulary: int, key_rows: int, feed_forward: int
) -> LlamaConfig:
    """Return transformers' configuration of a model in the published layout.

    Args:
        params: What params.json says.
        vocabulary: Rows of the output head: `vocab_size` is -1 in the published files.
        key_rows: Rows of the first layer's `wk`.
        feed_forward: Rows of the first layer's `w1`.

    Raises:
        KeyError: a parameter is missing.
    """
    heads, width = int(params["n_heads"]), int(params["dim"])
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=int(params["n_layers"]),
        num_attention_heads=heads,
        num_key_value_heads=key_rows // (width // heads),
        rms_norm_eps=float(params["norm_eps"]),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(params.get("rope_theta", THETA)),
        },
        **UNSTATED,
        **{name: params[name] for name in FEED_FORWARD if name in params},
    )


def params_of(config: LlamaConfig, vocabulary: int) -> dict[str, Any]:
    """Return what params.json says of a model, in the words of Meta's own files.

    Args:
        config: Of the model.
        vocabulary: Its `vocab_size`; -1 means "as many as the tokenizer has".
    """
    multiple, multiplier = _feed_forward(config)
    theta = config.rope_parameters["rope_theta"]
    params = {
        "dim": config.hidden_size,
        "multiple_of": multiple,
        "ffn_dim_multiplier": multiplier,
        "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads,
        "n_layers": config.num_hidden_layers,
        "norm_eps": config.rms_norm_eps,
        "rope_theta": None if theta == THETA else theta,
        "vocab_size": vocabulary,
    }
    if params["n_kv_heads"] == params["n_heads"]:
        params["n_kv_heads"] = None
    # The first LLaMA's code accepts no parameter that came later.
    return {name: value for name, value in params.items() if value is not None}


def misfit(config: LlamaConfig) -> str | None:
    """Return what of a model the published layout cannot hold, or None if it can hold it."""
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        return f"its heads are {config.head_dim} wide, not hidden_size / num_attention_heads"
    expected = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    for name, value in expected.items():
        if getattr(config, name) != value:
            return f"its {name} is {getattr(config, name)!r}, not {value!r}"
    rope = config.rope_parameters["rope_type"]
    return None if rope == "default" else f"its rotary positions are scaled ({rope!r})"


def _feed_forward(config: LlamaConfig) -> tuple[int, float | None]:
    """Return `multiple_of` and `ffn_dim_multiplier` that make the feed-forward width.

    Source: LLaMA `model.py`, class FeedForward: `multiple_of` times the quotient, rounded up, of
    two thirds of 4 * dim (times the multiplier, since LLaMA 2).
    """
    width, usual = config.intermediate_size, int(2 * 4 * config.hidden_size / 3)
    kept = (
        getattr(config, "multiple_of", USUAL_MULTIPLE),
        getattr(config, "ffn_dim_multiplier", None),
    )
    for multiple, multiplier in (kept, (width, None)):
        exact = usual if multiplier is None else int(multiplier * usual)
        if multiple * math.ceil(exact / multiple) == width:
            return multiple, multiplier
    return 1, (width + 0.5) / usual
