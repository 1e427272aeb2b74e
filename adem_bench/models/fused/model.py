"""The registered fused model: a card in, responses out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import _lru_cache_wrapper, cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adem_bench.digests import digest
from adem_bench.errors import CheckpointError, Noted
from adem_bench.files import file_digest
from adem_bench.models.base import Budget, Model, ModelOptions
from adem_bench.models.device import memory_errors
from adem_bench.models.fused.backbone import FrozenParts
from adem_bench.models.fused.card import FusedCard, FusionSettings
from adem_bench.models.fused.decoder import FusedDecoder
from adem_bench.models.fused.fit import (
    FittedAdapter,
    check_adapter,
    check_base,
    check_kind,
    checked_adapter,
    fitted_adapter,
    inspect_adapter,
)
from adem_bench.models.fused.generation import choice_logprobs, generate, most_probable
from adem_bench.models.fused.image_cache import ImageCache, ImageKey, ImageReader
from adem_bench.models.fused.method import (
    AdapterSettings,
    LanguageModelAlone,
    Method,
    VisualMemory,
)
from adem_bench.models.fused.network import FusedNetwork, build_network, sizes_of
from adem_bench.models.fused.sequence import PromptRow, SequenceBuilder
from adem_bench.models.fused.sharding import agreed, gather_in_turn
from adem_bench.models.fused.vision import vision_tower
from adem_bench.models.fused.weights.adapter import (
    WEIGHTS_NAME,
    AdapterFile,
    read_adapter,
    resolve_settings,
    stated_facts,
)
from adem_bench.models.places import NO_ADAPTER, weights_path
from adem_bench.models.quantization import stated_quantization
from adem_bench.models.sampling import RowSampler
from adem_bench.models.settling import NOT_FINITE
from adem_bench.records import Json, Request, Response
from adem_bench.registry import METHODS
from adem_bench.schemas import ModelCard, TaskCard

BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Prompt and answer tokens in a batch: on a CPU, as many as its caches hold."""
MAX_ROWS = {"cpu": 64, "cuda": 128}
"""A GPU reads all weights for each new token, however many rows there are."""
READING_NOTE = "Q33"
"""Of answers about images that the published code reads otherwise than they are shown."""
DEPENDS_ON_BATCH = (
    "answers depend on the samples that share a batch: only a run without interruption and of the "
    "same --batch-size repeats them"
)


@dataclass(frozen=True)
class Tuning:
    """What is known of the adapter in use without the frozen parts' weights."""

    path: Path | None
    """None for the language model as it is."""
    settings: AdapterSettings
    """What the adapter says of itself, settings resolved."""
    depends_on_batch: bool
    fingerprint: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TunedWeights:
    """One adapter in use: the decoder it makes with the frozen parts, and what hangs on it."""

    method: Method
    decoder: FusedDecoder
    sequences: SequenceBuilder
    no_image_memory: VisualMemory
    """Memory of rows without image."""
    images: ImageCache | None
    """Memories of images; None where the model cannot see."""
    trainable_parameters: int

    @cached_property
    def row(self) -> _lru_cache_wrapper[PromptRow]:
        """Builds the row of a prompt; a scheduler asks for it several times."""
        return lru_cache(maxsize=1 << 16)(self.sequences.prompt)


class FusedModel(Model):
    """Frozen parts, loaded once, with the adapter that the card names for a task.

    Their weights are loaded when something is asked, or by `load`: a run that is finished already
    is found by its fingerprint alone.
    """

    card: FusedCard
    decoding_fields = frozenset({"temperature", "top_p", "top_k", "seed"})
    answers_vary = False

    def __init__(
        self, card: ModelCard, options: ModelOptions, frozen: FrozenParts | None = None
    ) -> None:
        """Find the frozen parts, or share those that are loaded already.

        Args:
            card: A `FusedCard`.
            options: How to load them.
            frozen: Those that are loaded already.

        Raises:
            CheckpointError: they are missing, or the tokenizer cannot be read.
        """
        assert isinstance(card, FusedCard)
        super().__init__(card, options)
        self._options = options
        self._frozen = frozen or FrozenParts(card, options)
        self._tuning: Tuning | None = None
        self._adapter: FittedAdapter | None = None
        self._tuned: TunedWeights | None = None
        self._released = False

    @classmethod
    def check(cls, card: ModelCard, tasks: Sequence[TaskCard], data_root: Path | None) -> None:
        """Refuse adapters for these tasks that are missing or do not fit; arguments as in `Model`.

        Raises:
            CheckpointError: the frozen parts or an adapter are missing, or do not go together.
        """
        assert isinstance(card, FusedCard)
        sources = [card.source_for(task.name, task.kind) for task in tasks]
        noted = Noted(map(CheckpointError, card.lacking(sources, data_root)))
        parts_are_there = not noted
        for source in {source.path: source for source in sources}.values():
            path = weights_path(source.path, card, data_root)
            with noted:
                if parts_are_there:
                    check_adapter(card, source, data_root)
                elif source.path != NO_ADAPTER and path is not None:
                    check_kind(card, read_adapter(path))
        noted.raise_all()

    @classmethod
    def inspect(cls, card: ModelCard, data_root: Path | None) -> list[tuple[str, str, str]]:
        """Return each adapter on disk: its path, what it is, in what it is not as the card says.

        Raises:
            CheckpointError: one cannot be read.
        """
        assert isinstance(card, FusedCard)
        rows = []
        for source in {source.path: source for source in card.adapters.values()}.values():
            path = weights_path(source.path, card, data_root)
            if path is not None:
                found = inspect_adapter(card, source, path)
                rows.append((str(path), found.facts, "; ".join(found.problems)))
        return rows

    @property
    def answers_together(self) -> bool:
        """Whether every process must answer every request, for each holds a part of the weights."""
        return self.card.shard

    def load_adapter_for(self, task: str, task_kind: str) -> None:
        """Switch to the adapter for a task: by its name, its kind, then `default`.

        Raises:
            CheckpointError: the card names none, it is missing, it does not fit the frozen parts,
                or it is of another method than the card's.
        """
        source, path = self.card.source_for(task, task_kind), None
        if source.path != NO_ADAPTER:
            data_root = self._options.data_root
            path = weights_path(source.path, self.card, data_root)
            if path is None:
                raise CheckpointError(self.card.missing(source.path, data_root))
        self._released = source.is_released
        if self._tuning is None or self._tuning.path != path:
            self._adapter = self._tuned = None
            self._tuning = _no_tuning(self.card) if path is None else self._tuning_of(path)
        if self._tuned is not None:
            self._tuned.row.cache_clear()

    def _tuning_of(self, path: Path) -> Tuning:
        """Return what is known of an adapter, if possible without loading the frozen parts."""
        frozen, data_root = self._frozen, self._options.data_root
        if frozen.is_loaded:
            checked = checked_adapter(self.card, path, data_root)
            adapter = checked or FittedAdapter(read_adapter(path), None, None)
        else:
            adapter = fitted_adapter(self.card, path, data_root)
        method = adapter.method
        if frozen.is_loaded or method is None:
            self._tuned = _tuned(frozen, adapter)
            method = self._tuned.method
        else:
            self._adapter = adapter
        return _tuning(frozen, adapter.file, method)

    @property
    def tuning(self) -> Tuning:
        """What is known of the adapter in use.

        Raises:
            CheckpointError: `load_adapter_for` was not called yet.
        """
        if self._tuning is None:
            raise CheckpointError(
                f"model {self.card.name} has no adapter yet; call load_adapter_for first"
            )
        return self._tuning

    @property
    def weights(self) -> TunedWeights:
        """The tuned weights in use, loaded with the frozen parts if they were not.

        Raises:
            CheckpointError: they cannot be read, or do not fit the frozen parts;
                `load_adapter_for` was not called yet.
        """
        if self._tuned is None:
            frozen, is_untuned = self._frozen, self.tuning.path is None
            if is_untuned or self._adapter is None:
                self._tuned = _untuned(frozen)
            else:
                self._tuned = _tuned(frozen, self._adapter)
            self._adapter = None  # its tensors are the network's now
        return self._tuned

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are."""
        return self._tuned is not None

    def load(self) -> None:
        """Load the frozen parts, and the weights in use.

        Raises:
            CheckpointError: as for `weights`.
        """
        assert self.weights

    def training_prompts(self, task_kind: str) -> Mapping[str, Json]:
        """Return the prompts the adapter was tuned on: by its file, else the card or the method."""
        stated = self.tuning.settings.prompts.get(task_kind, {})
        known = self._method.released_prompts.get(task_kind, {}) if self._released else {}
        # A file that says one setting may be silent about another.
        return {**self.card.prompts.get(task_kind, known), **stated}

    def instruction(self, question: str) -> str:
        """Return a question in the wording of the method's released weights."""
        return self._method.instruction.replace("{question}", question)

    @property
    def _method(self) -> type[Method]:
        """The class of the method that the card names."""
        found: type[Method] = METHODS.load(self.card.fusion.kind)
        return found

    def length(self, request: Request) -> int:
        """Return the number of tokens of prompt and answer."""
        return len(self._row_of(request).ids) + request.max_new_tokens

    def budget(self) -> Budget:
        """Return the card's limit, or what suits the device."""
        suits = BATCH_TOKENS.get(self._frozen.device.type, 8192)
        in_order = self.tuning.depends_on_batch
        rows = MAX_ROWS.get(self._frozen.device.type, 64)
        return Budget(self.card.prompt_batch_tokens or suits, rows, in_order=in_order)

    def prefetch(self, requests: Sequence[Request]) -> None:
        """Start reading the images of requests to come."""
        images = self.weights.images
        if images is not None:
            images.prefetch(self._key(r) for r in requests if len(r.images) == 1)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer a batch.

        Requests with and without image, and those that are decoded otherwise, are answered apart:
        rows without image share one memory entry and never touch CLIP. A method whose answers
        depend on the batch has images and none together.
        """
        together = self.tuning.depends_on_batch
        parts: dict[tuple[Any, ...], list[int]] = {}
        requests = [replace(r, decoding=self.decoding(r.decoding)) for r in requests]
        responses: dict[int, Response] = {}
        for index, request in enumerate(requests):
            images = len(request.images)
            if images > 1:
                error = f"{self._method.title} reads one image per question, not {images}"
                responses[index] = Response("", error=error)
                continue
            decoding = replace(request.decoding, seed=None)
            way = (request.max_new_tokens, decoding, request.stop_pattern, request.stop)
            parts.setdefault((None if together else images, *way), []).append(index)
        with memory_errors():
            for indices in parts.values():
                part = [requests[index] for index in indices]
                responses |= zip(indices, self._answer(part, together), strict=True)
        return [responses[index] for index in range(len(requests))]

    @torch.inference_mode()
    def _answer(self, requests: Sequence[Request], together: bool) -> list[Response]:
        """Answer requests that all have an image or, unless `together`, all have none."""
        store = self.weights.images
        keys = [self._key(request) for request in requests if request.images]
        if not keys or store is None:
            return self._generate(requests, self.weights.no_image_memory)
        if together:
            memory, errors = store.encode_together(
                [self._key(request) if request.images else None for request in requests]
            )
        else:
            memory, errors = store.get(keys)
        readable = [index for index in range(len(requests)) if index not in errors]
        answers = self._generate([requests[index] for index in readable], memory)
        answered = {
            index: self._marked(requests[index], response)
            for index, response in zip(readable, answers, strict=True)
        }
        return [
            answered.get(index) or Response("", error=errors[index])
            for index in range(len(requests))
        ]

    def _marked(self, request: Request, response: Response) -> Response:
        """Return a response with a note if its image is not what a viewer shows."""
        store = self.weights.images
        if store is None or not request.images or self.card.image_reading != "published":
            return response
        differs = store.readings_differ(self._key(request))
        return replace(response, notes=(*response.notes, READING_NOTE)) if differs else response

    def _generate(self, requests: Sequence[Request], memory: VisualMemory) -> list[Response]:
        """Answer requests that are decoded alike; `memory` has an entry per request, or one."""
        if not requests:
            return []
        rows = [self._row_of(request) for request in requests]
        roomy = [index for index, row in enumerate(rows) if row.max_new_tokens != 0]
        if len(roomy) < len(rows):  # prompts that leave no room for any answer are not run
            answers = [Response("", notes=row.notes, finish_reason="length") for row in rows]
            if roomy:
                kept = memory.select(torch.tensor(roomy, device=self._frozen.device))
                asked = self._generate([requests[index] for index in roomy], kept)
                for index, response in zip(roomy, asked, strict=True):
                    answers[index] = response
            return answers
        first = requests[0]
        choose = RowSampler(requests) if first.decoding.samples else most_probable
        generated = generate(
            self.weights.decoder,
            rows,
            memory,
            first.max_new_tokens,
            self._frozen.tokenizer.end_ids,
            agreed(choose) if self.card.shard else choose,
            self._is_finished(first) if first.stop_pattern or first.stop else None,
        )
        return [
            Response(
                self._text(ids),
                notes=row.notes,
                choice_logprobs=self._choices(request, logits) if request.choices else None,
                finish_reason="stop" if ended else "length",
            )
            if is_finite
            else Response("", error=NOT_FINITE)
            for request, row, ids, logits, ended, is_finite in zip(
                requests,
                rows,
                generated.ids,
                generated.first_logits,
                generated.ended,
                generated.finite,
                strict=True,
            )
        ]

    def _is_finished(self, request: Request) -> Callable[[list[int]], bool]:
        """Return whether new ids hold what ends the answer."""
        texts = [request.stop_pattern] if request.stop_pattern else []
        expression = re.compile("|".join([*texts, *map(re.escape, request.stop)]))
        return lambda ids: expression.search(self._text(ids)) is not None

    def _text(self, ids: Sequence[int]) -> str:
        """Return the text of new ids."""
        tokenizer = self._frozen.tokenizer
        text = tokenizer.decode(ids)
        keeps_blank = self.weights.method.keeps_leading_blank
        return f" {text}" if keeps_blank and ids and tokenizer.begins_with_blank(ids[0]) else text

    def _choices(self, request: Request, logits: Tensor) -> tuple[float, ...]:
        tokenizer = self._frozen.tokenizer
        encode, asked = tokenizer.encode, request.prompt + tokenizer.after_prompt
        start = len(encode(asked))
        return choice_logprobs(
            logits, [encode(asked + choice)[start] for choice in request.choices]
        )

    def _key(self, request: Request) -> ImageKey:
        return ImageKey(request.images[0], self._frozen.normalization(request.image_normalization))

    def _row_of(self, request: Request) -> PromptRow:
        return self.weights.row(request.prompt, bool(request.images), request.max_new_tokens)

    def fingerprint(self) -> str:
        """Return a digest over the weights in use and everything that changes answers.

        Runs are found again by it: what is added here enters only off its default.
        """
        seen: dict[str, Any] = {
            "frozen": self._frozen.fingerprint,
            "tuned": self.tuning.fingerprint,
            "settings": stated_facts(self.tuning.settings),
            "overflow": self.card.overflow,
            "max_sequence_length": self.card.max_sequence_length,
            "image_normalization": self.card.image_normalization,
            "attention": self.card.attention,
        }
        if self.card.image_reading != "published":
            seen["image_reading"] = self.card.image_reading
        prompt_tokens = self.card.language_model.prompt_tokens()
        if prompt_tokens:
            seen["prompt_tokens"] = prompt_tokens
        return digest(seen)

    def warnings(self) -> Sequence[str]:
        """Return what a reader of the results must know about the weights in use."""
        found = self.tuning.warnings
        return (*found, DEPENDS_ON_BATCH) if self.tuning.depends_on_batch else found

    def describe(self) -> Mapping[str, Any]:
        """Return names, sizes, settings and precision for a manifest."""
        weights, tuning = self.weights, self.tuning
        return {
            "name": self.card.name,
            "fingerprint": self.fingerprint(),
            "language_model": self.card.base_name,
            "adapter": str(tuning.path.name) if tuning.path else NO_ADAPTER,
            "trainable_parameters": weights.trainable_parameters,
            "total_parameters": self._frozen.parameters + weights.trainable_parameters,
            "method": tuning.settings.method,
            "fusion": stated_facts(tuning.settings),
            "dtype": str(self._frozen.dtype).removeprefix("torch."),
            **stated_quantization(self.card),
            "device": self._frozen.device_name,
        }


def network_with(
    llama: Any,
    visual: Any,
    adapter: AdapterFile,
    fusion: FusionSettings,
    eager: bool = False,
    fitted: FittedAdapter | None = None,
) -> FusedNetwork:
    """Return a network in evaluation mode with an adapter's weights.

    Args:
        llama: A LlamaForCausalLM; shared, not copied.
        visual: A vision tower from `load_visual`; shared, not copied.
        adapter: The tuned weights.
        fusion: Settings of the card, which go before the adapter's own.
        eager: As for `FusedDecoder`.
        fitted: The adapter as it was fitted to frozen parts; its method is used if these are they.

    Raises:
        CheckpointError: the adapter does not fit the frozen parts or the settings.
    """
    tower = vision_tower(visual)
    if fitted and fitted.method and fitted.sizes == sizes_of(llama, tower):
        network = FusedNetwork(tower, fitted.method, llama, eager)
    else:
        settings = resolve_settings(fusion, adapter.settings)
        network = build_network(llama, visual, adapter.method, settings, eager)
        network.method.load_adapter(adapter.tensors, str(adapter.path))
    network.method.to(network.decoder.device)
    return network.eval()


@torch.inference_mode()
def _tuned(frozen: FrozenParts, fitted: FittedAdapter) -> TunedWeights:
    """Return the model that an adapter makes.

    Raises:
        CheckpointError: it does not fit the frozen parts or the card's method.
    """
    card, adapter = frozen.card, fitted.file
    check_kind(card, adapter)
    check_base(card, adapter, frozen.identities)
    eager = card.attention == "eager"
    network = network_with(frozen.llama, frozen.visual, adapter, card.fusion, eager, fitted)
    if card.shard:
        gather_in_turn(network.decoder)
    method = network.method
    return TunedWeights(
        method=method,
        decoder=network.decoder,
        sequences=_sequences(frozen, method),
        no_image_memory=network.no_image_memory(),
        images=ImageCache(network, ImageReader(network.vision.image_size, card.image_reading)),
        trainable_parameters=sum(p.numel() for p in method.adapter_tensors().values()),
    )


@torch.inference_mode()
def _untuned(frozen: FrozenParts) -> TunedWeights:
    """Return the language model alone: no memory, no prefix, images ignored."""
    method = LanguageModelAlone()
    decoder = FusedDecoder(frozen.llama, method, frozen.card.attention == "eager")
    if frozen.card.shard:
        gather_in_turn(decoder)
    return TunedWeights(
        method=method,
        decoder=decoder,
        sequences=_sequences(frozen, method),
        no_image_memory=VisualMemory(),
        images=None,
        trainable_parameters=0,
    )


def _tuning(frozen: FrozenParts, adapter: AdapterFile, method: Method) -> Tuning:
    """Return what is known of an adapter.

    Args:
        frozen: The parts that it is used with.
        adapter: As read.
        method: As it chose its settings for these parts.
    """
    card, stated = frozen.card, adapter.settings
    weights_file = adapter.path / WEIGHTS_NAME if adapter.path.is_dir() else adapter.path
    return Tuning(
        path=adapter.path,
        settings=replace(stated, values=method.chosen.values()),
        depends_on_batch=method.depends_on_batch,
        fingerprint=file_digest(weights_file),
        warnings=(*_conflicts(card.fusion.values(), stated.values), *frozen.warnings()),
    )


def _no_tuning(card: FusedCard) -> Tuning:
    """Return what is known of the language model as it is."""
    return Tuning(None, AdapterSettings(method=card.fusion.kind), False, "none")


def _sequences(frozen: FrozenParts, method: Method) -> SequenceBuilder:
    card = frozen.card
    cut = None if card.overflow == "fix" else method.cut_prompt
    return SequenceBuilder(frozen.tokenizer, method.layout, card.max_sequence_length, cut)


def _conflicts(card: Mapping[str, Any], stated: Mapping[str, Any]) -> Sequence[str]:
    """Say where the card overrules what the adapter's file says of itself (Q28)."""
    return [
        f"{name}: the card's {value} is used, though the adapter was tuned with "
        f"{stated[name]} (Q28)"
        for name, value in card.items()
        if stated.get(name) is not None and stated[name] != value
    ]
