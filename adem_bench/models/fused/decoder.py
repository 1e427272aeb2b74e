"""The frozen LLaMA with a fusion branch in every decoder layer.

Rows are padded on the right: a causal mask then hides the padding from every real token, so
that neither a padding mask nor the other rows of a batch enter a row's numbers.
Shapes: B rows, T tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from adem_bench.errors import CheckpointError
from adem_bench.models.device import kernels_for
from adem_bench.models.fused.method import Method, VisualMemory


class KeyValueCache:
    """Keys and values of all layers, each row at its own length."""

    def __init__(self, layers: int, lengths: Sequence[int], capacity: int, device: Any) -> None:
        """Make an empty cache.

        Args:
            layers: Number of decoder layers.
            lengths: Tokens of each of the B rows' prompts.
            capacity: Columns to reserve: the longest prompt and all new tokens.
            device: Where keys and values will be.
        """
        self.lengths = torch.tensor(lengths, device=device)
        """(B,) columns that each row has filled."""
        # Known here as well, so that nothing waits for the device to say it.
        self._counts = list(lengths)
        self._capacity = capacity
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers

    def prefill(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keep a prompt's keys and values; columns past a row's length are overwritten later.

        Args:
            layer: Index of the decoder layer.
            keys: (B, G, T, S) of G key-value heads of size S.
            values: (B, G, T, S).
        """
        room = (0, 0, 0, self._capacity - keys.shape[2])
        self._keys[layer], self._values[layer] = F.pad(keys, room), F.pad(values, room)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write one column at each row's length.

        Args:
            layer: Index of the decoder layer.
            keys: (B, G, 1, S) of the new token.
            values: (B, G, 1, S).

        Returns:
            Keys and values up to the longest row, (B, G, end, S) each.
        """
        stored_keys, stored_values = self._keys[layer], self._values[layer]
        assert stored_keys is not None
        assert stored_values is not None
        write_column(stored_keys, self.lengths, keys)
        write_column(stored_values, self.lengths, values)
        return stored_keys[:, :, : self._end], stored_values[:, :, : self._end]

    def visible(self) -> Tensor:
        """Return the (B, 1, 1, end) mask of columns that a new token of each row may read."""
        columns = torch.arange(self._end, device=self.lengths.device)
        return (columns <= self.lengths[:, None])[:, None, None]

    def advance(self) -> None:
        """Count the column that a step has added to every layer."""
        self.lengths = self.lengths + 1
        self._counts = [count + 1 for count in self._counts]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row but `rows`: finished ones leave the batch."""
        self._counts = [self._counts[row] for row in rows]
        index = torch.tensor(rows, device=self.lengths.device)
        self.lengths = self.lengths[index]
        self._keys = [None if x is None else x[index] for x in self._keys]
        self._values = [None if x is None else x[index] for x in self._values]

    @property
    def _end(self) -> int:
        return max(self._counts) + 1


def write_column(stored: Tensor, lengths: Tensor, column: Tensor) -> None:
    """Write one column of each row at its length, in place.

    Args:
        stored: (B, G, C, S).
        lengths: (B,).
        column: (B, G, 1, S).
    """
    rows = torch.arange(len(lengths), device=lengths.device)
    stored[rows, :, lengths] = column[:, :, 0]


Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of the positions."""


class FusedLayer(nn.Module):
    """A LLaMA layer with what a method does before attention, in projections and at its end."""

    def __init__(self, layer: Any, index: int, method: Method, eager: bool) -> None:
        """Wrap a decoder layer of transformers.

        Args:
            layer: A LlamaDecoderLayer or a layer of the same parts; shared, not copied.
            index: Of the layer, from 0.
            method: What it does in addition.
            eager: As for `FusedDecoder`.
        """
        super().__init__()
        self.layer: Any = layer
        self.index = index
        self.checkpoint_activations = False
        # Bound methods, not the module: the tuned parameters are not the layer's own, so that
        # whoever shards or counts the layer's parameters does not meet them.
        self._before_attention = method.before_attention
        self._after_feed_forward = method.after_feed_forward
        self._apply_projection = method.apply_projection
        self._attend = _attend_eagerly if eager else _attend_fused

    def forward(
        self,
        hidden: Tensor,
        memory: VisualMemory,
        rotary: Rotary,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Run a whole prompt; arguments and result are those of `FusedDecoder.forward`."""
        given = (hidden, memory, rotary, cache, positions)
        if self.checkpoint_activations and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._run, *given, use_reentrant=False)
            return out
        return self._run(*given)

    def step(
        self,
        hidden: Tensor,
        memory: VisualMemory,
        rotary: Rotary,
        cache: KeyValueCache,
        visible: Tensor,
    ) -> Tensor:
        """Run one new token per row.

        Args:
            hidden: (B, 1, D).
            memory: One entry per row, or a single one for all.
            rotary: Cosines and sines of the tokens' positions, (B, 1, S) each.
            cache: Keys and values so far; the new token's are added.
            visible: (B, 1, 1, end) mask of the columns that each row may read.

        Returns:
            (B, 1, D).
        """
        attention = self.layer.self_attn
        normed = self._before_attention(
            self.index, _normed(self.layer.input_layernorm, hidden), memory
        )
        query, key, value = self._heads(normed, rotary)
        keys, values = cache.append(self.index, key, value)
        context = self._attend(attention.scaling, query, keys, values, visible)
        return self._feed_forward(hidden + self._linear("self_attn.o_proj", context), memory)

    def _run(
        self,
        hidden: Tensor,
        memory: VisualMemory,
        rotary: Rotary,
        cache: KeyValueCache | None,
        positions: Tensor | None,
    ) -> Tensor:
        normed = self._before_attention(
            self.index, _normed(self.layer.input_layernorm, hidden), memory
        )
        if positions is not None:
            hidden = _take(hidden, positions)
        attended = self._prompt_attention(normed, rotary, cache, positions)
        return self._feed_forward(hidden + attended, memory)

    def _prompt_attention(
        self, normed: Tensor, rotary: Rotary, cache: KeyValueCache | None, positions: Tensor | None
    ) -> Tensor:
        """Return the attention's output, for every position or for those in `positions`."""
        query, key, value = self._heads(normed, rotary, positions)
        if cache is not None:
            cache.prefill(self.index, key, value)
        visible = None
        if positions is not None:
            columns = torch.arange(normed.shape[1], device=normed.device)
            visible = (columns <= positions[..., None])[:, None]
        context = self._attend(self.layer.self_attn.scaling, query, key, value, visible)
        return self._linear("self_attn.o_proj", context)

    def _heads(
        self, x: Tensor, rotary: Rotary, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated query (B, H, T, S), rotated key and value (B, G, T, S).

        With `positions` (B, W), the query is computed at those positions alone, (B, H, W, S).
        """
        cos, sin = rotary
        attention = self.layer.self_attn

        def heads(name: str, states: Tensor, norm: Any = None) -> Tensor:
            out = self._linear(f"self_attn.{name}_proj", states)
            out = out.view(*states.shape[:2], -1, attention.head_dim)
            return (out if norm is None else norm(out)).transpose(1, 2)

        # Qwen3 norms each head of queries and keys; the others have no such layers.
        norms = (getattr(attention, "q_norm", None), getattr(attention, "k_norm", None))
        key, value = heads("k", x, norms[1]), heads("v", x)
        if positions is None:
            query, key = _rotated(heads("q", x, norms[0]), key, cos, sin)
            return query, key, value
        query = heads("q", _take(x, positions), norms[0])
        query, _ = apply_rotary_pos_emb(query, query, cos[0, positions], sin[0, positions])
        _, key = apply_rotary_pos_emb(key, key, cos, sin)
        return query, key, value

    def _feed_forward(self, hidden: Tensor, memory: VisualMemory) -> Tensor:
        """Add the feed-forward part and the method's term, in the method's order."""
        normed = _normed(self.layer.post_attention_layernorm, hidden)
        gate, up = (self._linear(f"mlp.{name}_proj", normed) for name in ("gate", "up"))
        fed = self._linear("mlp.down_proj", _gated(self.layer.mlp.act_fn, gate, up))
        return self._after_feed_forward(self.index, hidden, normed, fed, memory)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return self._apply_projection(self.index, name, self.layer.get_submodule(name), x)


def _normed(norm: Any, x: Tensor) -> Tensor:
    """Apply a norm of LLaMA's kind."""
    kernels = kernels_for(x) if hasattr(norm, "variance_epsilon") else None
    out: Tensor = kernels.rms_norm(x, norm.weight, norm.variance_epsilon) if kernels else norm(x)
    return out


def _gated(activation: Any, gate: Tensor, up: Tensor) -> Tensor:
    """Return `activation(gate) * up`."""
    kernels = kernels_for(gate) if isinstance(activation, nn.SiLU | SiLUActivation) else None
    out: Tensor = kernels.silu_times(gate, up) if kernels else activation(gate) * up
    return out


def _rotated(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return query and key turned by their positions."""
    kernels = kernels_for(query)
    if kernels and query.stride(-1) == key.stride(-1) == 1:
        return kernels.rotate(query, cos, sin), kernels.rotate(key, cos, sin)
    turned: tuple[Tensor, Tensor] = apply_rotary_pos_emb(query, key, cos, sin)
    return turned


def _take(x: Tensor, positions: Tensor) -> Tensor:
    """Return (B, W, D): the tokens of each row at `positions` (B, W)."""
    return x[torch.arange(len(x), device=x.device)[:, None], positions]


def _attend_fused(
    scaling: float, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None
) -> Tensor:
    """Return (B, T, H S): causal attention, or over the `visible` columns where a mask is given."""
    context = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=visible,
        is_causal=visible is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return context.transpose(1, 2).flatten(2)


def _attend_eagerly(
    _: float, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None
) -> Tensor:
    """Return what `_attend_fused` does, by ADEM-VL cec09b8 `adem/model.py:150-166`."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if visible is None:
        shape = (query.shape[2], key.shape[2])
        visible = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~visible, -math.inf).float().softmax(dim=-1).to(query.dtype)
    return (weights @ value).transpose(1, 2).flatten(2)


SUPPORTED_ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
"""Model types of transformers whose layers have LLaMA's parts, and at most biases and norms of
queries and keys besides."""


def check_architecture(config: Any, max_length: int) -> None:
    """Refuse a language model whose layers compute something else than `FusedDecoder`.

    Args:
        config: Of transformers.
        max_length: Most tokens of prompt and answer together.

    Raises:
        CheckpointError: its architecture is another one, or its attention does not reach as far.
    """
    if config.model_type not in SUPPORTED_ARCHITECTURES:
        raise CheckpointError(
            f"the language model is of the architecture {config.model_type!r}, and methods run on "
            f"{', '.join(SUPPORTED_ARCHITECTURES)} alone; name a folder of one of these in the "
            "card's language_model.path"
        )
    window = getattr(config, "sliding_window", None)
    if window is not None and window < max_length:
        raise CheckpointError(
            f"the language model's attention reaches {window} tokens back, and rows may have "
            f"{max_length}; set max_sequence_length={window}"
        )


def projection_sizes(config: Any) -> dict[str, tuple[int, int]]:
    """Return the inputs and outputs of each projection of a layer, by its name in the layer.

    Args:
        config: Of transformers, of a supported architecture.
    """
    width, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    size = getattr(config, "head_dim", None) or width // heads
    queries, keys = heads * size, config.num_key_value_heads * size
    return {
        "self_attn.q_proj": (width, queries),
        "self_attn.k_proj": (width, keys),
        "self_attn.v_proj": (width, keys),
        "self_attn.o_proj": (queries, width),
        "mlp.gate_proj": (width, inner),
        "mlp.up_proj": (width, inner),
        "mlp.down_proj": (inner, width),
    }


class FusedDecoder(nn.Module):
    """A LlamaForCausalLM, or a model of like parts, whose layers also do what a method does."""

    def __init__(self, llama: Any, method: Method, eager: bool = False) -> None:
        """Wrap `llama` (frozen here).

        Args:
            llama: A LlamaForCausalLM or a model of the same parts.
            method: What its layers do in addition.
            eager: Whether attention is computed step by step in the published order of
                operations. It rounds as the published code does, where the drop rule can turn
                a difference of one unit in the last place into one of 1e-3; SDPA is faster.
        """
        super().__init__()
        self.llama: Any = llama.requires_grad_(False)
        self._position_shift = method.position_shift
        self.shifts_at_shortest = method.shifts_at_shortest
        self.eager = eager
        self.is_sharded = False
        """Whether its weights are spread over processes (`sharding.py`)."""
        self.recorded_steps: Any = None
        """CUDA graphs of its steps, once there are any (`steps.py`)."""
        self.layers = nn.ModuleList(
            FusedLayer(layer, index, method, eager)
            for index, layer in enumerate(self.llama.model.layers)
        )

    def checkpoint_activations(self, enabled: bool) -> None:
        """Choose whether training keeps each layer's input alone and computes the rest twice."""
        for layer in self.layers:
            assert isinstance(layer, FusedLayer)
            layer.checkpoint_activations = enabled

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        dtype: torch.dtype = self.llama.model.embed_tokens.weight.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.llama.model.embed_tokens.weight.device
        return device

    def embed(self, ids: Tensor) -> Tensor:
        """Return the (…, D) input embeddings of token ids."""
        embedded: Tensor = self.llama.model.embed_tokens(ids)
        return embedded

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Return the (…, vocabulary) logits of final hidden states, in their precision."""
        out: Tensor = self.llama.lm_head(hidden_states)
        return out

    def forward(
        self,
        inputs_embeds: Tensor,
        memory: VisualMemory,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
        shifted_from: int | None = None,
    ) -> Tensor:
        """Run a whole prompt, right-padded.

        Args:
            inputs_embeds: (B, T, D).
            memory: One entry per row, or a single one for all.
            cache: Filled for later `step` calls, if given.
            positions: (B, W) positions of each row: only these are computed in the last layer and
                returned.
            shifted_from: Column from which on the method's `position_shift` counts; None: nowhere.

        Returns:
            Normed hidden states, (B, T, D), or (B, W, D) if `positions` is given.
        """
        columns = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None]
        if shifted_from is not None:
            columns = columns + self._position_shift * (columns >= shifted_from)
        rotary = self._rotary(inputs_embeds, columns)
        hidden = inputs_embeds
        for index, layer in enumerate(self.layers):
            here = positions if index == len(self.layers) - 1 else None
            hidden = layer(hidden, memory, rotary, cache, here)
        return self._norm(hidden)

    def step(self, inputs_embeds: Tensor, memory: VisualMemory, cache: KeyValueCache) -> Tensor:
        """Run one new token per row.

        Args:
            inputs_embeds: (B, 1, D).
            memory: One entry per row, or a single one for all.
            cache: Filled by `forward`; the new tokens are added.

        Returns:
            Normed hidden states, (B, 1, D).
        """
        rotary = self._rotary(inputs_embeds, cache.lengths[:, None] + self._position_shift)
        visible = cache.visible()
        hidden = inputs_embeds
        for layer in self.layers:
            assert isinstance(layer, FusedLayer)
            hidden = layer.step(hidden, memory, rotary, cache, visible)
        cache.advance()
        return self._norm(hidden)

    def _rotary(self, x: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        rotary: tuple[Tensor, Tensor] = self.llama.model.rotary_emb(x, columns)
        return rotary

    def _norm(self, hidden: Tensor) -> Tensor:
        return _normed(self.llama.model.norm, hidden)
