"""LLaMA weights: the published consolidated layout, or anything transformers reads.

Consolidated tensors are memory-mapped and moved one by one into an empty model, so that no
two copies of the weights are in memory at a time (methods section 2).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from adem_bench.errors import CheckpointError
from adem_bench.models.adem.adapter_files import load_plain_data

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


def is_consolidated(folder: Path) -> bool:
    """Return whether a folder is in the published layout."""
    return (folder / "params.json").is_file()


def load_language_model(source: Path | str, dtype: torch.dtype, device: torch.device) -> Any:
    """Return a LlamaForCausalLM (or a model of its architecture) in evaluation mode.

    Args:
        source: A folder in either layout, or a hub id.
        dtype: Precision of the weights in memory.
        device: Where they go.

    Raises:
        CheckpointError: files are missing, or their tensors do not fit together.
    """
    if isinstance(source, Path) and is_consolidated(source):
        return _load_consolidated(source, dtype, device)
    # A bar for a second's work, drawn even into files.
    transformers.utils.logging.disable_progress_bar()
    try:
        AutoConfig.from_pretrained(str(source))
        model = AutoModelForCausalLM.from_pretrained(str(source), dtype=dtype)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"no language model could be loaded from {source}: {reason}"
        ) from error
    return model.to(device).eval()


def _load_consolidated(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    files = sorted(folder.glob("*.pth"))
    if not files:
        raise CheckpointError(f"{folder} has params.json but no consolidated.00.pth")
    shards = [load_plain_data(file, mmap=_is_zip(file)) for file in files]
    try:
        config = _config(folder, shards)
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        expected = dict(model.named_parameters())
        for name, tensor in _converted(shards, config):
            if name not in expected or expected[name].shape != tensor.shape:
                raise CheckpointError(
                    f"{folder}: {name} has shape {tuple(tensor.shape)}, params.json asks for "
                    f"{tuple(expected[name].shape) if name in expected else 'no such tensor'}"
                )
            _assign(model, name, tensor.to(device=device, dtype=dtype))
            del expected[name]
    except KeyError as error:
        raise CheckpointError(f"{folder}: tensor or parameter {error} is missing") from error
    if expected:
        raise CheckpointError(f"{folder}: missing {', '.join(list(expected)[:6])}")
    # The rotary table is a buffer, computed rather than stored: it is still on the meta device.
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to(device)
    return model.eval()


def _config(folder: Path, shards: list[dict[str, Tensor]]) -> LlamaConfig:
    """Return transformers' configuration; sizes that tensors show are taken from them."""
    try:
        params: dict[str, Any] = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder / 'params.json'} is not JSON: {error}") from error
    heads, width = int(params["n_heads"]), int(params["dim"])
    key_rows = sum(shard["layers.0.attention.wk.weight"].shape[0] for shard in shards)
    return LlamaConfig(
        # vocab_size is -1 in the published files: "take it from the tokenizer".
        vocab_size=sum(shard["output.weight"].shape[0] for shard in shards),
        hidden_size=width,
        intermediate_size=sum(s["layers.0.feed_forward.w1.weight"].shape[0] for s in shards),
        num_hidden_layers=int(params["n_layers"]),
        num_attention_heads=heads,
        num_key_value_heads=key_rows // (width // heads),
        rms_norm_eps=float(params["norm_eps"]),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(params.get("rope_theta", 1e4)),
        },
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )


def _converted(
    shards: list[dict[str, Tensor]], config: LlamaConfig
) -> Iterator[tuple[str, Tensor]]:
    """Yield transformers' names with their joined tensors, one at a time."""
    for name, (target, dim) in TOP_TENSORS.items():
        yield target, _join(shards, name, dim)
    head_size = config.hidden_size // config.num_attention_heads
    for layer in range(config.num_hidden_layers):
        for name, (target, dim) in LAYER_TENSORS.items():
            tensor = _join(shards, f"layers.{layer}.{name}", dim)
            if name in ROTATED:
                tensor = _to_half_rotation(tensor, head_size)
            yield f"model.layers.{layer}.{target}", tensor


def _join(shards: list[dict[str, Tensor]], name: str, dim: int) -> Tensor:
    """Take a tensor out of every shard and join the parts."""
    parts = [shard.pop(name) for shard in shards]
    return parts[0] if dim == REPLICATED or len(parts) == 1 else torch.cat(parts, dim=dim)


def _to_half_rotation(weight: Tensor, head_size: int) -> Tensor:
    """Reorder rows from LLaMA's interleaved rotary pairs to transformers' two halves."""
    rows, columns = weight.shape
    pairs = weight.view(rows // head_size, head_size // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def _assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Parameter(tensor, requires_grad=False))


def _is_zip(file: Path) -> bool:
    """Return whether a torch file can be memory-mapped (not so before torch 1.6)."""
    with file.open("rb") as stream:
        return stream.read(2) == b"PK"
