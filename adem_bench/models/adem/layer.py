"""One decoder layer of the frozen LLaMA with its fusion branch, and its attention.

Shapes: B rows, T tokens, D width, H heads, G key-value heads, S head size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from adem_bench.models.adem.cache import KeyValueCache
from adem_bench.models.adem.fusion import Fusion, VisualMemory

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of the positions."""


class FusedLayer(nn.Module):
    """A LLaMA layer that also adds a fusion term, in the published order of additions."""

    def __init__(self, layer: Any, index: int, fusion: Fusion, eager: bool) -> None:
        """Wrap a decoder layer of transformers; `eager` is as for `FusedDecoder`."""
        super().__init__()
        self.layer: Any = layer
        self.index = index
        self.checkpoint_activations = False
        # A bound method, not the module: the tuned parameters are not the layer's own, so that
        # whoever shards or counts the layer's parameters does not meet them.
        self._fuse = fusion.fuse
        self._attend = _attend_eagerly if eager else _attend_fused

    def forward(
        self,
        hidden: Tensor,
        memory: VisualMemory,
        rotary: Rotary,
        cache: KeyValueCache | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Run a whole prompt; arguments and result are those of `FusedDecoder.forward`."""
        given = (hidden, memory, rotary, cache, wanted)
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
        """Run one new token per row, (B, 1, D), after the cache's `visible` columns."""
        attention = self.layer.self_attn
        query, key, value = _project(attention, self.layer.input_layernorm(hidden), rotary)
        keys, values = cache.append(self.index, key, value)
        attended = self._attend(attention, query, keys, values, visible)
        return self._feed_forward(hidden + attended, memory)

    def _run(
        self,
        hidden: Tensor,
        memory: VisualMemory,
        rotary: Rotary,
        cache: KeyValueCache | None,
        wanted: Tensor | None,
    ) -> Tensor:
        normed = self.layer.input_layernorm(hidden)
        if wanted is not None:
            hidden = _take(hidden, wanted)
        attended = self._prompt_attention(normed, rotary, cache, wanted)
        return self._feed_forward(hidden + attended, memory)

    def _prompt_attention(
        self, normed: Tensor, rotary: Rotary, cache: KeyValueCache | None, wanted: Tensor | None
    ) -> Tensor:
        """Return the attention's output, for every position or for those in `wanted`."""
        attention = self.layer.self_attn
        query, key, value = _project(attention, normed, rotary, wanted)
        if cache is not None:
            cache.prefill(self.index, key, value)
        if wanted is None:
            return self._attend(attention, query, key, value, None)
        columns = torch.arange(normed.shape[1], device=normed.device)
        visible = (columns <= wanted[..., None])[:, None]
        return self._attend(attention, query, key, value, visible)

    def _feed_forward(self, hidden: Tensor, memory: VisualMemory) -> Tensor:
        """Add the MLP's and the fusion's terms, in the published order of additions."""
        query = self.layer.post_attention_layernorm(hidden)
        fed: Tensor = hidden + self.layer.mlp(query)
        return fed + self._fuse(self.index, query, memory)


def _take(x: Tensor, positions: Tensor) -> Tensor:
    """Return (B, W, D): the tokens of each row at `positions` (B, W)."""
    return x[torch.arange(len(x), device=x.device)[:, None], positions]


def _project(
    attention: Any, x: Tensor, rotary: Rotary, wanted: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rotated query (B, H, T, S), rotated key and value (B, G, T, S).

    With `wanted` (B, W), the query is computed at those positions alone, (B, H, W, S).
    """
    cos, sin = rotary
    size: int = attention.head_dim

    def heads(linear: Any, states: Tensor) -> Tensor:
        out: Tensor = linear(states)
        return out.view(*states.shape[:2], -1, size).transpose(1, 2)

    key, value = heads(attention.k_proj, x), heads(attention.v_proj, x)
    if wanted is None:
        query, key = apply_rotary_pos_emb(heads(attention.q_proj, x), key, cos, sin)
        return query, key, value
    query = heads(attention.q_proj, _take(x, wanted))
    query, _ = apply_rotary_pos_emb(query, query, cos[0, wanted], sin[0, wanted])
    _, key = apply_rotary_pos_emb(key, key, cos, sin)
    return query, key, value


def _attend_fused(
    attention: Any, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None
) -> Tensor:
    """Return (B, T, D): causal attention, or over the `visible` columns where a mask is given."""
    context = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=visible,
        is_causal=visible is None,
        scale=attention.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    out: Tensor = attention.o_proj(context.transpose(1, 2).flatten(2))
    return out


def _attend_eagerly(
    attention: Any, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None
) -> Tensor:
    """Return what `_attend_fused` does, by ADEM-VL cec09b8 `adem/model.py:150-166`."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if visible is None:
        shape = (query.shape[2], key.shape[2])
        visible = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~visible, -math.inf).float().softmax(dim=-1).to(query.dtype)
    out: Tensor = attention.o_proj((weights @ value).transpose(1, 2).flatten(2))
    return out
