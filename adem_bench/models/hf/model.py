"""The registered kind `hf`: a card in, responses out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adem_bench.digests import digest
from adem_bench.errors import AdemBenchError, CardError, CheckpointError
from adem_bench.images import open_rgb
from adem_bench.metrics.reasoning import is_tag, opens_reasoning, stated_tags
from adem_bench.models.base import Budget, Model, ModelOptions
from adem_bench.models.device import (
    batch_budget,
    count_parameters,
    is_memory_error,
    memory_errors,
    name_of,
    pick_device,
)
from adem_bench.models.hf.adapter import Adapter, find_adapter
from adem_bench.models.hf.architectures import DROPPED_AT_END, describe_network
from adem_bench.models.hf.chat import PROBE_SIDES, Prompts
from adem_bench.models.hf.decoding import Decoder, GeneratedRows, Limits
from adem_bench.models.hf.loading import (
    OF_PROCESSORS,
    Unloaded,
    check_places,
    check_quantizes,
    load,
    prepare,
)
from adem_bench.models.hf.settings import (
    HfCard,
    find_adapter_folder,
    find_files,
    find_folder,
    has_chat_template,
    read_options,
)
from adem_bench.models.quantization import stated_quantization
from adem_bench.models.sampling import RowSampler
from adem_bench.models.settling import NOT_FINITE
from adem_bench.records import FinishReason, Request, Response
from adem_bench.schemas import ModelCard

if TYPE_CHECKING:
    from PIL.Image import Image


MAX_PENDING = 64
"""Decoded images that wait to be used; twelve megapixels take 36 MB."""


class ImagePrefetcher:
    """Reads images before they are asked for."""

    def __init__(self) -> None:
        # PIL releases the interpreter lock while it decodes.
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "image-reader")
        self._pending: dict[Path, Future[Image]] = {}

    def prefetch(self, paths: Iterable[Path]) -> None:
        """Start reading images that `read` will be asked for."""
        for path in paths:
            if path not in self._pending and len(self._pending) < MAX_PENDING:
                self._pending[path] = self._pool.submit(open_rgb, path)

    def read(self, paths: Iterable[Path]) -> dict[Path, Image | str]:
        """Return every image, or why it cannot be read."""
        found: dict[Path, Image | str] = {}
        for path in paths:
            if path in found:
                continue
            future = self._pending.pop(path, None) or self._pool.submit(open_rgb, path)
            error = future.exception()
            found[path] = str(error) if error else future.result()
        return found


class ProcessorError(Exception):
    """A model's processor raised something over a request."""


def _blame(error: Exception) -> str:
    """Return why a request has no answer, by what a model's own code raised over it."""
    if isinstance(error, AdemBenchError):
        return str(error)
    if isinstance(error, ProcessorError):
        return f"the model's processor refuses the request: {error}"
    return f"the model's own code failed: {type(error).__name__}: {one_line(error)}"


def _has_padding(inputs: Any) -> bool:
    mask = inputs.get("attention_mask")
    return mask is not None and not bool(mask.all())


def one_line(error: Exception) -> str:
    """Return what transformers says of an error, in a line of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__


class HfModel(Model):
    """An image-text-to-text model of transformers."""

    card: HfCard
    chats = True
    request_fields = frozenset({"choices", "parts"})
    decoding_fields = frozenset({"temperature", "top_p", "top_k", "seed", "num_beams"})
    answers_vary = False

    @classmethod
    def ends_answers(cls, card: ModelCard, data_root: Path | None) -> bool:
        """Return whether the model was tuned on chats, as its files say where they are here."""
        folder = find_folder(card, read_options(card).source, data_root)
        return folder is None or has_chat_template(folder)

    def __init__(self, card: ModelCard, options: ModelOptions) -> None:
        """Find the files, fetching them if need be, and check them.

        Weights are loaded later where everything else is known without them: a finished run needs
        none.

        Args:
            card: An `HfCard`.
            options: How to load the model.

        Raises:
            CardError: an option is unknown or wrong.
            CheckpointError: there is no such model, or it cannot be loaded.
        """
        assert isinstance(card, HfCard)
        super().__init__(card, options)
        self._settings = read_options(card)
        check_places(card, self._settings, options.device)
        self._device = pick_device(options.device)
        check_quantizes(card, self._device)
        self._files = find_files(card, self._settings, options.data_root)
        self._adapter = self._find_adapter(options.data_root)
        unloaded = prepare(card, self._files, self._settings)
        self._tokenizer = unloaded.processor.tokenizer
        model_type = unloaded.config.model_type
        self._prompts = Prompts(unloaded.processor, self._settings.system, model_type)
        if self._settings.system and not self._prompts.has_template:
            raise CardError(
                f"model {card.name}: options.system has no effect, for the model has no chat "
                "template; leave it out"
            )
        self._prompts.check(card.name)
        self._images = ImagePrefetcher()
        self._files_digest = self._files.fingerprint()
        self._unloaded: Unloaded | None = unloaded
        dtype = unloaded.dtype(card, self._settings, self._device)
        if dtype is None or self._adapter is not None:
            self.load()
        self._dtype = str(self._network.dtype if dtype is None else dtype)

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are."""
        return self._unloaded is None

    def load(self) -> None:
        """Load the weights.

        Raises:
            CheckpointError: they cannot be read, or do not fit.
        """
        if self._unloaded is None:
            return
        given = (self.card, self._files, self._settings, self._device, self._adapter)
        self._network = load(self._unloaded, *given)
        lengths = tuple(map(self._prompts.measured, range(3)))
        self._architecture = describe_network(self._network, lengths)
        dropped = DROPPED_AT_END.get(self._network.config.model_type, 0)
        self._decoder = Decoder(self._network, dropped)
        self._unloaded = None

    @property
    def reasoning_tags(self) -> Sequence[str]:
        """The card's."""
        return self._settings.reasoning_tags

    @property
    def continues_text(self) -> bool:
        """Whether the model has no chat template."""
        return not self._prompts.has_template

    @property
    def cut_is_failed(self) -> bool:
        """Whether an answer that ended at `max_new_tokens` is none, as the card says.

        A model that was not tuned on chats goes on for as long as it may.
        """
        return self._settings.cut_answers == "failed" and self._prompts.has_template

    def _find_adapter(self, data_root: Path | None) -> Adapter | None:
        folder = find_adapter_folder(self.card, data_root)
        if folder is None:
            return None
        names = {self._settings.source, self._settings.adapter_base} - {""}
        if self._files.revision is None:
            names.add(str(self._files.folder.resolve()))
        return find_adapter(folder, names)

    def length(self, request: Request) -> int:
        """Return about how many tokens prompt, images and answer are."""
        beams = request.decoding.num_beams or 1
        return (self._prompts.count(request) + request.max_new_tokens) * beams

    def budget(self) -> Budget:
        """Return the card's limit, or what fits into the memory that is free."""
        config = self._unloaded.config if self._unloaded else self._network.config
        itemsize = getattr(torch, self._dtype.removeprefix("torch.")).itemsize
        suits = batch_budget(config, self._device, itemsize)
        return Budget(self.card.prompt_batch_tokens or suits.tokens, suits.rows)

    def prefetch(self, requests: Sequence[Request]) -> None:
        """Start reading the images of requests to come."""
        self._images.prefetch(path for request in requests for path in request.images)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer a batch; requests that cannot share a pass of the network, apart."""
        self.load()
        images = self._images.read(path for request in requests for path in request.images)
        responses: dict[int, Response] = {}
        parts: dict[object, list[int]] = {}
        requests = [replace(r, decoding=self.decoding(r.decoding)) for r in requests]
        for index, request in enumerate(requests):
            unreadable = [e for e in map(images.get, request.images) if isinstance(e, str)]
            fault = (
                next(iter(unreadable), None)
                or self._architecture.fault(len(request.images))
                or self._prompts.fault(request)
            )
            if fault:
                responses[index] = Response("", error=fault)
            else:
                parts.setdefault(self._part(request, images), []).append(index)
        with memory_errors():
            for indices in parts.values():
                answers = self._answer([requests[index] for index in indices], images)
                responses |= zip(indices, answers, strict=True)
        return [responses[index] for index in range(len(requests))]

    def _part(self, request: Request, images: Mapping[Path, Image | str]) -> object:
        """Return what requests have in common that are answered in one pass."""
        decoding = replace(request.decoding, seed=None)
        # Rows with fewer images than others get blank ones, which Mllama does not hide completely.
        alike = (len(request.images), request.max_new_tokens, decoding)
        if self._architecture.is_padded:
            return alike
        # Rows that need no padding: of equal length, with images of equal sizes.
        sides = tuple(getattr(images[path], "size", None) for path in request.images)
        return (*alike, self._prompts.count_text(request), sides)

    def _answer(
        self, requests: Sequence[Request], images: Mapping[Path, Image | str]
    ) -> list[Response]:
        """Answer requests that may share a batch; what one of them breaks, the others do not pay.

        Raises:
            CheckpointError: the model cannot answer anything.
        """
        try:
            return self._answer_together(requests, images)
        except Exception as error:
            if is_memory_error(error):
                raise  # the scheduler's to answer
            if len(requests) > 1:
                middle = len(requests) // 2
                halves = (requests[:middle], requests[middle:])
                return [answer for half in halves for answer in self._answer(half, images)]
            self._check_answers()
            return [Response("", error=_blame(error))]

    def _check_answers(self) -> None:
        """Ask about a blank image: a model that cannot do that can do nothing, or not any more.

        Raises:
            CheckpointError: it cannot.
        """
        from PIL import Image

        path = Path("blank")
        request = Request("Is this a picture?", (path,), 1)
        try:
            self._answer_together([request], {path: Image.new("RGB", PROBE_SIDES)})
        except ProcessorError as error:
            raise CheckpointError(
                f"model {self.card.name}: its processor cannot be used: {one_line(error)}; "
                f"{self._files.named(OF_PROCESSORS)} may be of another version of transformers, or "
                f"incomplete{self._settings.of_processors()}"
            ) from error
        except CheckpointError as error:
            raise CheckpointError(f"model {self.card.name}: {error}") from error
        except AdemBenchError:
            raise
        except Exception as error:
            if is_memory_error(error):
                raise
            raise CheckpointError(
                f"model {self.card.name}: what its processor makes of a request does not fit its "
                f"network: {one_line(error)}; the two may be of different versions"
            ) from error

    def _answer_together(
        self, requests: Sequence[Request], images: Mapping[Path, Image | str]
    ) -> list[Response]:
        """Answer requests that all have images, or none, and are decoded alike, in one batch."""
        texts = [self._prompts.text(request) for request in requests]
        shown = [[images[path] for path in self._prompts.images(r)] for r in requests]
        try:
            inputs = self._prompts.inputs(texts, shown)
        except Exception as error:
            raise ProcessorError(one_line(error)) from error
        for name in self._architecture.unknown_inputs:
            inputs.pop(name, None)
        if len(requests) > 1 and not self._architecture.is_padded and _has_padding(inputs):
            return [self._answer_together([request], images)[0] for request in requests]
        inputs = inputs.to(self._network.device, self._network.dtype)
        first = requests[0]
        sampler = RowSampler(requests) if first.decoding.samples else None
        output = self._decoder.generate(inputs, self._limits(first), sampler)
        choices = self._choices(requests, texts, inputs, output)
        starts = [opens_reasoning(text, self.reasoning_tags) for text in texts]
        rows = zip(starts, output.ids, output.ended, output.finite, choices, strict=True)
        return [self._response(*row) for row in rows]

    def _limits(self, request: Request) -> Limits:
        settings = self._settings
        beams = request.decoding.num_beams or 1
        return Limits(request.max_new_tokens, beams, settings.min_length, settings.max_length)

    def _response(
        self,
        start: str,
        ids: list[int],
        ended: bool,
        finite: bool,
        logprobs: tuple[float, ...] | None,
    ) -> Response:
        """Return what is made of a row of `GeneratedRows`, with those of its choices."""
        if not finite or not all(map(math.isfinite, logprobs or ())):
            return Response("", error=NOT_FINITE, finish_reason="error")
        # Reasoning that the chat template began has its start tag there.
        text = start + self._decoded(ids)
        reason: FinishReason = "stop" if ended else "length"
        return Response(text, choice_logprobs=logprobs, finish_reason=reason)

    @cached_property
    def _tag_ids(self) -> frozenset[int]:
        """The special tokens that are tags of reasoning."""
        special = self._tokenizer.all_special_ids
        names = self._tokenizer.convert_ids_to_tokens(special)
        tags = self.reasoning_tags
        return frozenset(i for i, name in zip(special, names, strict=True) if is_tag(name, tags))

    def _decoded(self, ids: list[int]) -> str:
        """Return the text of new tokens, without special ones but for tags of reasoning."""
        if not self._tag_ids.intersection(ids):
            return str(self._tokenizer.decode(ids, skip_special_tokens=True))
        dropped = set(self._tokenizer.all_special_ids) - self._tag_ids
        return str(self._tokenizer.decode([i for i in ids if i not in dropped]))

    def _choices(
        self, requests: Sequence[Request], texts: Sequence[str], inputs: Any, output: GeneratedRows
    ) -> list[tuple[float, ...] | None]:
        """Return the log-probabilities of every request's choices, None where it has none."""
        continuations = [
            [self._prompts.continuation(text, choice) for choice in request.choices]
            for request, text in zip(requests, texts, strict=True)
        ]
        if all(len(ids) == 1 for row in continuations for ids in row):
            # One token each: the first step of generation has them all.
            firsts = [[ids[0] for ids in row] for row in continuations]
            logprobs = [
                tuple(output.first_logprobs[row, ids].tolist()) for row, ids in enumerate(firsts)
            ]
        else:
            # Rows with fewer choices repeat one of theirs, or anything, and drop what it gives.
            turns = [
                [row[min(turn, len(row) - 1)] if row else [0] for row in continuations]
                for turn in range(max(map(len, continuations)))
            ]
            columns = [self._decoder.score(inputs, turn) for turn in turns]
            logprobs = [
                tuple(column[index] for column in columns[: len(row)])
                for index, row in enumerate(continuations)
            ]
        return [
            row if request.choices else None
            for request, row in zip(requests, logprobs, strict=True)
        ]

    def fingerprint(self) -> str:
        """Return a digest over the files and everything that changes answers."""
        settings = self._settings
        seen = {
            "files": self._files_digest,
            "dtype": self._dtype,
            "attention": self.card.attention,
            "processor": settings.processor,
            "system": settings.system,
            **stated_tags(settings.reasoning_tags),
            **stated_quantization(self.card),
        }
        if self._adapter is not None:
            seen["adapter"] = self._adapter.fingerprint()
        seen |= settings.model_dump(
            include={"min_length", "max_length", "cut_answers"}, exclude_defaults=True
        )
        return digest(seen)

    def warnings(self) -> Sequence[str]:
        """Return what a reader of the results must know of the model."""
        found = []
        if self._settings.trust_remote_code:
            found.append("Python code out of the model's repository was allowed to run")
        if not self._prompts.has_template:
            found.append("the model has no chat template: prompts were given to it as they are")
        if self._adapter is not None and not self._adapter.base:
            found.append("the adapter does not say which model it was tuned on")
        return found

    def describe(self) -> Mapping[str, Any]:
        """Return names, sizes and precision for a manifest."""
        self.load()
        # Where a folder is on this machine is private.
        source = self._settings.source if self._files.revision else self._files.folder.name
        used = str(getattr(self._network.config, "_attn_implementation", self.card.attention))
        attention = {} if used == self.card.attention else {"attention": used}
        adapter = {} if self._adapter is None else {"adapter": self._adapter.folder.name}
        return {
            "name": self.card.name,
            "fingerprint": self.fingerprint(),
            "source": source,
            "revision": self._files.revision,
            "architecture": type(self._network).__name__,
            "total_parameters": count_parameters(self._network),
            "dtype": self._dtype.removeprefix("torch."),
            **stated_quantization(self.card),
            **attention,
            **adapter,
            "device": name_of(self._device),
        }
