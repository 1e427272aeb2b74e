"""Tiny language models with random weights, one of each kind that a method runs on."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SIZES = {
    "vocab_size": 600, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 512, "initializer_range": 0.1,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
TIED = {"tie_word_embeddings": True}
SCALED = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
BASES = {
    "llama-2": (LlamaForCausalLM, LlamaConfig, {}),
    "llama-3": (LlamaForCausalLM, LlamaConfig, GROUPED | TIED | {"rope_parameters": SCALED}),
    "mistral": (MistralForCausalLM, MistralConfig, GROUPED | {"sliding_window": None}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, GROUPED),
    "qwen2.5": (Qwen2ForCausalLM, Qwen2Config, GROUPED | TIED),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, GROUPED | {"head_dim": 32}),
    "qwen3-tied": (Qwen3ForCausalLM, Qwen3Config, GROUPED | TIED | {"head_dim": 32}),
}
"""By name: class, class of the configuration, and what sets it apart."""
BASE_NAMES = ("llama-1", *BASES)
"""The first is the tiny published model, in Meta's layout; the others are Hugging Face folders."""
BYTES = 259
"""Tokens of the tokenizer of `write_base`: bytes, and three that are special."""
CHAT = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def tiny_base(name: str, seed: int = 4, **more: object) -> nn.Module:
    """A base with random weights; `more` are fields of its configuration."""
    network, config, own = BASES[name]
    torch.manual_seed(seed)
    made = network(config(**SIZES | own | more)).eval()
    with torch.no_grad():  # norms and biases are not drawn by themselves
        for parameter_name, parameter in made.named_parameters():
            if "norm" in parameter_name or parameter_name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


def write_base(folder: Path, name: str, seed: int = 4) -> None:
    """Write a base as folders of today's are: safetensors, and a tokenizer with a chat template.

    The tokenizer has no BOS, as Qwen's, and its first token is a word, as Llama 3's is.
    """
    vocabulary = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|start|>"],
        chat_template=CHAT,
    ).save_pretrained(folder)
    tiny_base(name, seed, vocab_size=BYTES).save_pretrained(folder)
