"""A model of ours behind another harness: its questions as requests, our responses as its texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from adem_bench.cards import load_model_card, load_task_card
from adem_bench.files import expand_home
from adem_bench.models.base import Instructed, ModelOptions, build_model
from adem_bench.models.vlmevalkit import FAILED
from adem_bench.prompts import INSTRUCTION
from adem_bench.records import Request, Response, Sample
from adem_bench.runner.batching import Backoff, Item, ahead, plan
from adem_bench.tasks.base import Task, task_of
from adem_bench.tasks.benchmark import Benchmark


@dataclass(frozen=True, slots=True)
class Weights:
    """Which task's weights are to answer: what `Model.load_adapter_for` takes."""

    task: str
    kind: str


GENERAL = Weights(INSTRUCTION, INSTRUCTION)
"""For questions of benchmarks that ADEM-VL was not tuned on: the card's `default` adapter."""


class Answerer:
    """A loaded model that switches to the weights each question wants."""

    def __init__(
        self,
        model: str,
        data_root: str | None = None,
        device: str = "auto",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: Name or path of a model card, or `KIND:SOURCE`.
            data_root: Folder whose `weights/` has what the card names; None means
                `$ADEM_BENCH_DATA` or `./data`.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, …
            settings: Fields of the card to override, by dotted name.

        Raises:
            AdemBenchError: no such card, or weights that are missing or do not fit.
        """
        # JSON is YAML, which overrides are read as.
        overrides = [f"{name}={json.dumps(value)}" for name, value in (settings or {}).items()]
        root = expand_home(data_root) if data_root else None
        self.model = build_model(load_model_card(model, overrides), ModelOptions(device, root))
        self._in_use: Weights | None = None
        self._backoff = Backoff(self.model.answer)

    def instruction(self, text: str, images: Sequence[Path], max_new_tokens: int) -> Request:
        """Return a question in the wording that the model's instructions were tuned in.

        Args:
            text: The question.
            images: To look at, in order.
            max_new_tokens: The longest answer.
        """
        prompt = self.model.instruction(text) if isinstance(self.model, Instructed) else text
        return Request(prompt, tuple(images), max_new_tokens)

    def answer(self, requests: Sequence[Request], weights: Weights) -> list[Response]:
        """Return one response per request, in order, answered in batches of like length.

        Raises:
            AdemBenchError: the card names no weights for this, or one request does not fit in
                memory.
        """
        if weights != self._in_use:
            self.model.load_adapter_for(weights.task, weights.kind)
            self._in_use = weights
        items = (
            Item(Sample(str(place), {}, None), request, self.model.length(request))
            for place, request in enumerate(requests)
        )
        found: dict[int, Response] = {}
        for unit in ahead(plan(items, self.model.budget()), self.model.prefetch):
            for item, response in self._backoff.answer(unit.items):
                found[int(item.sample.id)] = response
        return [found[place] for place in range(len(requests))]


@cache
def published_task(name: str) -> Task:
    """Return a task of ours for the sake of its prompts; its data is never read."""
    return task_of(load_task_card(name), Path())


def weights_for(task: str) -> Weights:
    """Return the weights for a task of ours."""
    return Weights(task, load_task_card(task).kind)


def text_of(response: Response) -> str:
    """Return what the other harness keeps: the answer, or a text that says there is none."""
    return response.answer_text if response.error is None else f"{FAILED}: {response.error}"


def caption_of(task: str, text: str) -> str:
    """Return the caption in an answer to the published prompt, and any other answer as it is.

    A tuned model begins with the prompt once more (Q10), which no other harness takes off.
    """
    published = published_task(task)
    return published.answer_in(text) if isinstance(published, Benchmark) else text
