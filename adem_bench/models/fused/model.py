"""The registered ADEM-VL model: a card in, responses out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adem_bench.digests import digest, stable_fields
from adem_bench.errors import CheckpointError
from adem_bench.models.base import Budget, ModelOptions
from adem_bench.models.device import memory_errors
from adem_bench.models.fused.backbone import FrozenParts
from adem_bench.models.fused.generation import choice_logprobs, decode
from adem_bench.models.fused.image_cache import ImageKey, join
from adem_bench.models.fused.methods.adem import VisualMemory
from adem_bench.models.fused.sequence import PromptRow
from adem_bench.models.fused.tuned import TunedWeights, tuned, untuned
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.weights import NO_ADAPTER, missing_message, weights_path
from adem_bench.prompts import TEMPLATE
from adem_bench.records import Json, Request, Response
from adem_bench.schemas import AdapterSource, ModelCard

BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Prompt and answer tokens in a batch: on a CPU, as many as its caches hold."""
MAX_ROWS = 64


class AdemModel:
    """A frozen LLaMA and CLIP, loaded once, with the adapter that the card names for a task."""

    def __init__(
        self, card: ModelCard, options: ModelOptions, frozen: FrozenParts | None = None
    ) -> None:
        """Load the frozen parts, or share those that are loaded already.

        Raises:
            CheckpointError: they are missing or cannot be read.
        """
        self.card = card
        self._options = options
        self._frozen = frozen or FrozenParts(card, options)
        self._tuned: TunedWeights | None = None
        self._row = lru_cache(maxsize=1 << 16)(self._build_row)

    def load_adapter_for(self, task: str, task_kind: str) -> None:
        """Switch to the adapter for a task: by its name, its kind, then `default`."""
        source = self._source(task, task_kind)
        if source.path == NO_ADAPTER:
            self._tuned = untuned(self._frozen)
        else:
            path = weights_path(source.path, self.card, self._options.data_root)
            if path is None:
                message = missing_message(source.path, self.card, self._options.data_root)
                raise CheckpointError(message)
            if self._tuned is None or self._tuned.path != path:
                self._tuned = tuned(self._frozen, read_adapter(path))
        self._row.cache_clear()

    def _source(self, task: str, task_kind: str) -> AdapterSource:
        if self.card.adapter:
            return AdapterSource(path=self.card.adapter)
        for name in (task, task_kind, "default"):
            if name in self.card.adapters:
                return self.card.adapters[name]
        raise CheckpointError(
            f"model {self.card.name} names no adapter for {task}; add `default` to the card's "
            "`adapters`, or give --adapter PATH (or --adapter none for the plain language model)"
        )

    @property
    def weights(self) -> TunedWeights:
        """The tuned weights in use.

        Raises:
            CheckpointError: `load_adapter_for` was not called yet.
        """
        if self._tuned is None:
            raise CheckpointError(f"model {self.card.name}: choose weights for a task first")
        return self._tuned

    def training_prompts(self, task_kind: str) -> Mapping[str, Json]:
        """Return the prompts the adapter was tuned on: its file's word, else the card's."""
        stated = self.weights.settings.prompts.get(task_kind)
        return stated or self.card.prompts.get(task_kind) or {}

    def instruction(self, question: str) -> str:
        """Return a question in the wording of the published instructions."""
        return TEMPLATE.replace("{question}", question)

    def length(self, request: Request) -> int:
        """Return the number of tokens of prompt and answer."""
        return len(self._row_of(request).ids) + request.max_new_tokens

    def budget(self) -> Budget:
        """Return the card's limit, or what suits the device."""
        suits = BATCH_TOKENS.get(self._frozen.device.type, 8192)
        return Budget(self.card.prompt_batch_tokens or suits, MAX_ROWS)

    def prefetch(self, requests: Sequence[Request]) -> None:
        """Start reading the images of requests to come."""
        memories = self.weights.memories
        if memories is not None:
            memories.prefetch(self._key(r) for r in requests if len(r.images) == 1)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer a batch.

        Requests with and without image, and of different answer lengths, are answered apart:
        rows without image share one memory entry and never touch CLIP.
        """
        parts: dict[tuple[int, int], list[int]] = {}
        for index, request in enumerate(requests):
            parts.setdefault((len(request.images), request.max_new_tokens), []).append(index)
        responses: dict[int, Response] = {}
        with memory_errors():
            for (images, _), indices in parts.items():
                part = [requests[index] for index in indices]
                responses |= zip(indices, self._answer(part, images), strict=True)
        return [responses[index] for index in range(len(requests))]

    @torch.inference_mode()
    def _answer(self, requests: Sequence[Request], images: int) -> list[Response]:
        """Answer requests that have the same number of images."""
        store = self.weights.memories
        if images == 0 or store is None:
            return self._decode(requests, self.weights.nothing)
        if images > 1:
            error = f"ADEM-VL reads one image a question, not {images}"
            return [Response("", error=error) for _ in requests]
        keys = [self._key(request) for request in requests]
        found = store.recall(keys)
        memories = [found[key] for key in keys]
        readable = [i for i, memory in enumerate(memories) if isinstance(memory, VisualMemory)]
        responses = [
            Response("", error=memory if isinstance(memory, str) else None) for memory in memories
        ]
        if readable:
            joined = join([m for m in memories if isinstance(m, VisualMemory)])
            answers = self._decode([requests[index] for index in readable], joined)
            for index, response in zip(readable, answers, strict=True):
                responses[index] = response
        return responses

    def _decode(self, requests: Sequence[Request], memory: VisualMemory) -> list[Response]:
        rows = [self._row_of(request) for request in requests]
        tokenizer = self._frozen.tokenizer
        most = requests[0].max_new_tokens
        decoded = decode(self.weights.decoder, rows, memory, most, tokenizer.eos_id)
        return [
            Response(
                tokenizer.decode(ids),
                notes=("Q9",) if row.overflowed else (),
                choice_logprobs=self._choices(request, logits) if request.choices else None,
            )
            for request, row, ids, logits in zip(
                requests, rows, decoded.ids, decoded.first_logits, strict=True
            )
        ]

    def _choices(self, request: Request, logits: Tensor) -> tuple[float, ...]:
        encode = self._frozen.tokenizer.encode
        start = len(encode(request.prompt))
        return choice_logprobs(
            logits, [encode(request.prompt + choice)[start] for choice in request.choices]
        )

    def _key(self, request: Request) -> ImageKey:
        chosen = self.card.image_normalization
        return ImageKey(
            request.images[0], request.image_normalization if chosen == "task" else chosen
        )

    def _row_of(self, request: Request) -> PromptRow:
        return self._row(request.prompt, bool(request.images), request.max_new_tokens)

    def _build_row(self, prompt: str, has_image: bool, max_new_tokens: int) -> PromptRow:
        return self.weights.sequences.prompt(prompt, has_image, max_new_tokens)

    def fingerprint(self) -> str:
        """Return a digest over the weights in use and everything that changes answers.

        Runs are found again by it: what is added here enters only off its default.
        """
        seen = {
            "frozen": self._frozen.fingerprint,
            "tuned": self.weights.fingerprint,
            "settings": stable_fields(self.weights.settings),
            "overflow": self.card.overflow,
            "max_sequence_length": self.card.max_sequence_length,
            "image_normalization": self.card.image_normalization,
            "attention": self.card.attention,
        }
        return digest(seen)

    def warnings(self) -> Sequence[str]:
        """Return what a reader of the results must know about the weights in use."""
        return self.weights.warnings

    def describe(self) -> Mapping[str, Any]:
        """Return names, sizes, settings and precision for a manifest."""
        weights = self.weights
        return {
            "name": self.card.name,
            "fingerprint": self.fingerprint(),
            "language_model": self._language_model_name(),
            "adapter": str(weights.path.name) if weights.path else NO_ADAPTER,
            "trainable_parameters": weights.trainable_parameters,
            "total_parameters": self._frozen.parameters + weights.trainable_parameters,
            "fusion": asdict(weights.settings),
            "dtype": str(self._frozen.dtype).removeprefix("torch."),
            "device": self._frozen.device_name,
        }

    def _language_model_name(self) -> str:
        source = self.card.language_model
        # A folder's place is nobody's business but its machine's.
        name = source.path if source.hub else Path(source.path).name
        return self.card.language_model_name or name
