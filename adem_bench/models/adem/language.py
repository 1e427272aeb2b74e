"""The frozen LLaMA with a fusion branch in every decoder layer.

Rows are padded on the right: a causal mask then hides the pads from every real token, so
that neither a padding mask nor the other rows of a batch enter a row's numbers.
Shapes: B rows, T tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adem_bench.errors import CheckpointError
from adem_bench.models.adem.cache import KeyValueCache
from adem_bench.models.adem.fusion import Fusion, VisualMemory
from adem_bench.models.adem.layer import FusedLayer

SUPPORTED_ARCHITECTURES = ("llama", "mistral")
"""Model types of transformers whose layers have LLaMA's parts and nothing else."""


class FusedDecoder(nn.Module):
    """A LlamaForCausalLM whose layers also add a fusion term."""

    def __init__(self, llama: Any, fusion: Fusion, eager: bool = False) -> None:
        """Wrap `llama` (frozen here).

        Args:
            llama: A LlamaForCausalLM or a model of the same parts.
            fusion: What its layers add.
            eager: Whether attention is computed step by step in the published order of
                operations. It rounds as the published code does, where the drop rule can turn
                a difference of one unit in the last place into one of 1e-3; SDPA is faster.

        Raises:
            CheckpointError: its architecture is not LLaMA's.
        """
        super().__init__()
        config = llama.config
        if config.model_type not in SUPPORTED_ARCHITECTURES:
            raise CheckpointError(
                f"the language model is a {config.model_type!r}; "
                f"fusion needs one of: {', '.join(SUPPORTED_ARCHITECTURES)}"
            )
        self.llama: Any = llama.requires_grad_(False)
        self.fusion = fusion
        self.eager = eager
        self.layers = nn.ModuleList(
            FusedLayer(layer, index, fusion, eager)
            for index, layer in enumerate(self.llama.model.layers)
        )

    def checkpoint_activations(self, wanted: bool) -> None:
        """Choose whether training keeps each layer's input alone and computes the rest twice."""
        for layer in self.layers:
            assert isinstance(layer, FusedLayer)
            layer.checkpoint_activations = wanted

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
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Run a whole prompt, right-padded.

        Args:
            inputs_embeds: (B, T, D).
            memory: One entry per row, or a single one for all.
            cache: Filled for later `step` calls, if given.
            wanted: (B, W) positions of each row: only these are computed in the last layer and
                returned.

        Returns:
            Normed hidden states, (B, T, D), or (B, W, D) if `wanted` is given.
        """
        positions = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None]
        rotary = self._rotary(inputs_embeds, positions)
        hidden = inputs_embeds
        for index, layer in enumerate(self.layers):
            here = wanted if index == len(self.layers) - 1 else None
            hidden = layer(hidden, memory, rotary, cache, here)
        return self._norm(hidden)

    def step(self, inputs_embeds: Tensor, memory: VisualMemory, cache: KeyValueCache) -> Tensor:
        """Run one new token per row, (B, 1, D), after what the cache holds; (B, 1, D)."""
        rotary = self._rotary(inputs_embeds, cache.lengths[:, None])
        visible = cache.visible()
        hidden = inputs_embeds
        for layer in self.layers:
            assert isinstance(layer, FusedLayer)
            hidden = layer.step(hidden, memory, rotary, cache, visible)
        cache.lengths = cache.lengths + 1
        return self._norm(hidden)

    def _rotary(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        rotary: tuple[Tensor, Tensor] = self.llama.model.rotary_emb(x, positions)
        return rotary

    def _norm(self, hidden: Tensor) -> Tensor:
        normed: Tensor = self.llama.model.norm(hidden)
        return normed
