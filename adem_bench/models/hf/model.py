"""The registered kind `hf`: a card in, responses out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.images import open_rgb

if TYPE_CHECKING:
    from PIL.Image import Image


from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adem_bench.digests import digest
from adem_bench.errors import CheckpointError
from adem_bench.models.base import Budget, Model, ModelOptions
from adem_bench.models.device import (
    batch_budget,
    count_parameters,
    memory_errors,
    name_of,
    pick_device,
)
from adem_bench.models.hf.chat import Prompts
from adem_bench.models.hf.decoding import GeneratedRows, generate, score_continuations
from adem_bench.models.hf.loading import check_quantizes, load
from adem_bench.models.hf.settings import HfCard, find_files, read_options
from adem_bench.models.quantization import stated_quantization
from adem_bench.models.sampling import RowSampler
from adem_bench.records import Decoding, Request, Response
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


def one_line(error: Exception) -> str:
    """Return what transformers says of an error, in a line of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__


class HfModel(Model):
    """An image-text-to-text model of transformers."""

    card: HfCard
    decoding_fields = frozenset({"temperature", "top_p", "top_k", "seed"})

    def __init__(self, card: ModelCard, options: ModelOptions) -> None:
        """Find the files, fetching them if need be, and load them.

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
        self._device = pick_device(options.device)
        check_quantizes(card, self._device)
        self._files = find_files(card, self._settings, options.data_root)
        loaded = load(card, self._files, self._settings, self._device)
        self._network, self._tokenizer = loaded.network, loaded.processor.tokenizer
        self._prompts = Prompts(loaded.processor, self._settings.system)
        self._images = ImagePrefetcher()
        self._files_digest = self._files.fingerprint()

    def length(self, request: Request) -> int:
        """Return about how many tokens prompt, images and answer are."""
        return self._prompts.count(request) + request.max_new_tokens

    def budget(self) -> Budget:
        """Return the card's limit, or what fits into the memory that is free."""
        suits = batch_budget(self._network.config, self._device, self._network.dtype.itemsize)
        return Budget(self.card.prompt_batch_tokens or suits.tokens, suits.rows)

    def prefetch(self, requests: Sequence[Request]) -> None:
        """Start reading the images of requests to come."""
        self._images.prefetch(path for request in requests for path in request.images)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer a batch; those with and without image, or that are decoded otherwise, apart."""
        images = self._images.read(path for request in requests for path in request.images)
        responses: dict[int, Response] = {}
        parts: dict[tuple[bool, int, Decoding], list[int]] = {}
        requests = [replace(r, decoding=self.decoding(r.decoding)) for r in requests]
        for index, request in enumerate(requests):
            unreadable = [e for e in map(images.get, request.images) if isinstance(e, str)]
            fault = unreadable[0] if unreadable else self._prompts.fault(request)
            if fault:
                responses[index] = Response("", error=fault)
            else:
                decoding = replace(request.decoding, seed=None)
                key = (bool(request.images), request.max_new_tokens, decoding)
                parts.setdefault(key, []).append(index)
        with memory_errors():
            for indices in parts.values():
                answers = self._answer([requests[index] for index in indices], images)
                responses |= zip(indices, answers, strict=True)
        return [responses[index] for index in range(len(requests))]

    def _answer(
        self, requests: Sequence[Request], images: Mapping[Path, Image | str]
    ) -> list[Response]:
        """Answer requests that all have images, or none, and are decoded alike."""
        texts = [self._prompts.render(r.prompt, len(r.images)) for r in requests]
        try:
            inputs = self._prompts.inputs(texts, [[images[p] for p in r.images] for r in requests])
        except ValueError as error:
            if len(requests) > 1:  # one of them is at fault, and only that one is to fail
                return [self._answer([request], images)[0] for request in requests]
            refusal = f"the model's processor refuses the request: {one_line(error)}"
            return [Response("", error=refusal)]
        except (TypeError, AttributeError, KeyError) as error:
            raise CheckpointError(
                f"model {self.card.name}: its processor cannot be used: {one_line(error)}; its "
                "files may be of another version of transformers, or incomplete"
            ) from error
        inputs = inputs.to(self._device, self._network.dtype)
        try:
            first = requests[0]
            sampler = RowSampler(requests) if first.decoding.samples else None
            output = generate(self._network, inputs, first.max_new_tokens, sampler)
            choices = self._choices(requests, texts, inputs, output)
        except (ValueError, TypeError, IndexError) as error:
            raise CheckpointError(
                f"model {self.card.name}: what its processor makes of a request does not fit its "
                f"network: {one_line(error)}; the two may be of different versions"
            ) from error
        return [
            Response(
                self._tokenizer.decode(ids, skip_special_tokens=True), choice_logprobs=logprobs
            )
            for ids, logprobs in zip(output.ids, choices, strict=True)
        ]

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
            columns = [score_continuations(self._network, inputs, turn) for turn in turns]
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
            "dtype": str(self._network.dtype),
            "attention": self.card.attention,
            "processor": settings.processor,
            "system": settings.system,
            **stated_quantization(self.card),
        }
        return digest(seen)

    def warnings(self) -> Sequence[str]:
        """Return what a reader of the results must know of the model."""
        found = []
        if self._settings.trust_remote_code:
            found.append("Python code out of the model's repository was allowed to run")
        if not self._prompts.has_template:
            found.append("the model has no chat template: prompts were given to it as they are")
        return found

    def describe(self) -> Mapping[str, Any]:
        """Return names, sizes and precision for a manifest."""
        # Where a folder is on this machine is private.
        source = self._settings.source if self._files.revision else self._files.folder.name
        return {
            "name": self.card.name,
            "fingerprint": self.fingerprint(),
            "source": source,
            "revision": self._files.revision,
            "architecture": type(self._network).__name__,
            "total_parameters": count_parameters(self._network),
            "dtype": str(self._network.dtype).removeprefix("torch."),
            **stated_quantization(self.card),
            "device": name_of(self._device),
        }
