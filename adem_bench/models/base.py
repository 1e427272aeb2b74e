"""What every model offers to the runner, and where its files are on this machine."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from adem_bench.cards import load_model_card
from adem_bench.errors import CardError
from adem_bench.files import exists, expand_home
from adem_bench.models.settling import settle
from adem_bench.records import Decoding, Json, Request, Response, Sample
from adem_bench.registry import MODEL_KINDS
from adem_bench.schemas import ModelCard, TaskCard, TorchModelCard

DEFAULT_ROWS = 16
"""Requests answered together by models that say nothing of their memory."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a batch may be before memory is short."""

    tokens: int
    """Rows times the longest row's prompt and answer tokens."""
    rows: int
    ahead: int = 1
    """Batches that `prefetch` is given before it is their turn."""
    in_order: bool = False
    """Whether batches are the samples in their order, because answers depend on them."""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How to load a model, whatever its card says."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, …"""
    data_root: Path | None = None
    """Folder whose `weights/` holds what the card names; None as for tasks."""


class Model(ABC):
    """Anything that answers requests; it works with any task.

    `generate` and `fingerprint` suffice; the rest has defaults that suit a model without weights
    per task and without a memory to speak of.
    """

    chats: ClassVar[bool] = False
    """Whether it answers in sentences, which tasks then read by their rule `chat`."""
    decoding_fields: ClassVar[frozenset[str]] = frozenset()
    """The fields of `Decoding` that it honours; with none it decodes in its own way."""
    keeps_answers: ClassVar[bool] = True
    """Whether other runs that ask the same get its answers; not if they cost nothing."""
    answers_vary: ClassVar[bool] = True
    """Whether the same question may have another answer where no temperature says so."""
    request_fields: ClassVar[frozenset[str]] = frozenset({"choices"})
    """Which of a request's `choices` and `parts` it honours."""
    loading_s: float | None = None
    """Seconds that `build_model` and `load_weights` took to load it."""

    def __init__(self, card: ModelCard, options: ModelOptions) -> None:
        """Keep the card.

        Args:
            card: Of the class that `MODEL_CARDS` names for its kind.
            options: How to load the model.
        """
        self.card = card

    @classmethod  # noqa: B027 - may be nothing
    def check(cls, card: ModelCard, tasks: Sequence[TaskCard], data_root: Path | None) -> None:
        """Refuse a model that cannot answer these tasks, as far as is seen without loading it.

        Args:
            card: The model's.
            tasks: What it will be asked.
            data_root: Folder whose `weights/` holds what the card names; None for the default.

        Raises:
            CheckpointError: weights are missing, or do not go together.
        """

    @classmethod
    def inspect(cls, card: ModelCard, data_root: Path | None) -> list[tuple[str, str, str]]:
        """Return each tuned file on disk: its path, what it is, in what it is not as the card says.

        Raises:
            CheckpointError: one cannot be read.
        """
        return []

    @classmethod
    def ends_answers(cls, card: ModelCard, data_root: Path | None) -> bool:
        """Return whether a model that chats ends its answers by itself, if it has the room.

        Args:
            card: The model's.
            data_root: As for `check`.
        """
        return True

    @classmethod
    def price(cls, card: ModelCard, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Return what so many tokens cost; None where the card has no prices.

        Args:
            card: The model's.
            prompt_tokens: Of all prompts.
            answer_tokens: Of all answers.
        """
        return None

    @property
    def continues_text(self) -> bool:
        """Whether it goes on with the prompt's text, rather than taking its turn in a chat."""
        return True

    @property
    def cut_is_failed(self) -> bool:
        """Whether an answer that ended at `max_new_tokens` is none.

        Models that were tuned to answer within a task's limit are scored as published.
        """
        return False

    @property
    def reasoning_tags(self) -> Sequence[str]:
        """The tags of reasoning in responses, which is no part of the answer; by default none."""
        return ()

    @property
    def answers_together(self) -> bool:
        """Whether all processes of a run must answer every request together."""
        return False

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        """Answer a batch as `generate` does; a response that is no answer has an error.

        Raises:
            OutOfMemoryError: as for `generate`.
        """
        if self.continues_text:
            requests = [
                replace(r, stop=(*r.stop, r.text_stop)) if r.text_stop else r for r in requests
            ]
        responses = self.generate(requests)
        if len(responses) != len(requests):  # whoever asks says so
            return responses
        return [
            settle(request, response, self.cut_is_failed, self.reasoning_tags)
            for request, response in zip(requests, responses, strict=True)
        ]

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer a batch; one response per request, in order. Callers use `answer`.

        Raises:
            OutOfMemoryError: the batch did not fit; nothing is lost, a smaller one may fit.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the weights or their settings.

        Runs are found again by them: what a later version adds enters only where it is off its
        default (`digests.py`).
        """

    def decoding(self, asked: Decoding) -> Decoding:
        """Return how a request is decoded: what it leaves open is the card's, and then greedy.

        Raises:
            CardError: it asks for what this kind of model does not offer.
        """
        return resolve_decoding(self.card, self.decoding_fields, asked)

    def load_adapter_for(self, task: str, task_kind: str) -> None:  # noqa: B027 - may be nothing
        """Switch to the weights that the card names for a task (by its name, then its kind).

        Raises:
            CheckpointError: they are missing or do not fit.
        """

    @property
    def is_loaded(self) -> bool:
        """Whether it could answer at once; if not, `load` or the first question loads weights."""
        return True

    def load(self) -> None:  # noqa: B027 - may be nothing
        """Load what `is_loaded` says is not; the fingerprint is known before.

        Raises:
            CheckpointError: it cannot be read, or does not fit.
        """

    def training_prompts(self, task_kind: str) -> Mapping[str, Json]:
        """Return what is known of the prompts that the current weights were tuned on.

        Keys are those of the task kind's `prompt_settings`, `prompt_format` first of all.
        """
        return {}

    def length(self, request: Request) -> int:
        """Return the number of tokens that a request takes, its answer included."""
        return 1

    def budget(self) -> Budget:
        """Return how large a batch may be."""
        return Budget(tokens=1 << 62, rows=DEFAULT_ROWS)

    def prefetch(self, requests: Sequence[Request]) -> None:  # noqa: B027 - may be nothing
        """Start reading the images of requests that `generate` will soon be given."""

    def warnings(self) -> Sequence[str]:
        """Return what a reader of the results must know about the weights in use."""
        return ()

    def describe(self) -> Mapping[str, Any]:
        """Return what a manifest should say of the loaded model, as JSON data."""
        return {"name": self.card.name, "fingerprint": self.fingerprint()}


@runtime_checkable
class Baseline(Protocol):
    """A model that may look at a task's right answers, because it is there to be beaten."""

    def fit(self, samples: Iterable[Sample]) -> None:
        """Take in the samples of the task that comes next, references included."""
        ...


@runtime_checkable
class Priced(Protocol):
    """A model whose tokens cost money."""

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Return what so many tokens cost; None if it is not known."""
        ...


@runtime_checkable
class Instructed(Protocol):
    """A model whose weights were tuned on one wording of questions, for questions by hand."""

    def instruction(self, question: str) -> str:
        """Return the prompt that asks a question."""
        ...


def chosen_card(
    name: str,
    overrides: Sequence[str] = (),
    dtype: str | None = None,
    adapter: str | None = None,
    quantization: str | None = None,
) -> ModelCard:
    """Return a model's card with what the command line says of it.

    Args:
        name: Name or path of a card, or `KIND:SOURCE`.
        overrides: `key=value` settings of its fields.
        dtype: `--dtype`; None leaves it to the card.
        adapter: `--adapter`: a path, or `none`; None leaves it to the card.
        quantization: `--quantization`; None leaves it to the card.

    Raises:
        CardError: there is no such card, or a field is wrong.
    """
    card = load_model_card(name, overrides)
    given = {"dtype": dtype, "adapter": adapter, "quantization": quantization}
    for field, value in given.items():
        if value is not None and field not in type(card).model_fields:
            raise CardError(
                f"--{field}: model {card.name} is of kind {card.kind}, which has no {field}; leave "
                "the option out"
            )
    chosen = [
        f"{field}={given[field]}" for field in ("dtype", "quantization") if given[field] is not None
    ]
    if chosen:
        card = load_model_card(name, [*overrides, *chosen])
    if adapter is None:
        return card
    here = expand_home(adapter)
    place = str(here.resolve()) if exists(here) else adapter
    return card.model_copy(update={"adapter": place})


def resolve_decoding(card: ModelCard, honoured: Collection[str], asked: Decoding) -> Decoding:
    """Return how a model decodes a request.

    Equal ways of decoding give equal results, so that a run is found again however it was asked
    for: greedy decoding is the empty `Decoding()`, or says so against a card that samples.

    Args:
        card: Of the model; its `decoding` fills in what is left open.
        honoured: The fields that the model's kind honours.
        asked: By the request.

    Raises:
        CardError: it asks for what the model does not offer, or for what has no effect.
    """
    given = {name: value for name, value in asdict(asked).items() if value is not None}
    wanted = {name for name in given if name != "seed" and given[name] != 0} - set(honoured)
    if wanted:
        offered = f"honours {', '.join(sorted(honoured))}" if honoured else "decodes in its own way"
        raise CardError(
            f"{', '.join(sorted(wanted))}: model {card.name} is of kind {card.kind}, which "
            f"{offered}; leave the option out"
        )
    own = Decoding()
    if isinstance(card, TorchModelCard):
        stated = card.decoding
        beams = getattr(stated, "num_beams", None)  # of kinds that search
        own = Decoding(stated.temperature, stated.top_p, stated.top_k, num_beams=beams)
    if asked.samples and (asked.num_beams or 1) > 1:
        raise CardError(f"model {card.name}: tokens are drawn or beams searched, not both")
    found = asked.over(own)
    if found.samples and (found.num_beams or 1) > 1:  # what is asked for goes before the card
        found = replace(found, temperature=0.0) if asked.num_beams else found
    if found.samples:
        top_p = None if found.top_p == 1 else found.top_p
        return replace(found, top_p=top_p, seed=found.seed or 0, num_beams=None)
    if asked.top_p is not None or asked.top_k is not None:
        raise CardError(
            f"top_p and top_k have no effect on model {card.name} without a temperature; give "
            "--temperature too"
        )
    searches = (own.num_beams or 1) > 1 or (found.num_beams or 1) > 1
    return Decoding(
        temperature=0.0 if own.samples else None, num_beams=found.num_beams if searches else None
    )


def build_model(card: ModelCard, options: ModelOptions) -> Model:
    """Return the model that a card describes; it may load its weights later.

    Raises:
        CardError: unknown kind.
        CheckpointError: weights are missing or do not fit.
    """
    began = time.perf_counter()
    model: Model = MODEL_KINDS.load(card.kind)(card, options)
    if isinstance(model, Model):  # a plug-in's may be anything with the same methods
        model.loading_s = time.perf_counter() - began
    return model


def load_weights(model: Model) -> None:
    """Load the weights that a model has put off, if any.

    Raises:
        CheckpointError: they cannot be read, or do not fit.
    """
    if isinstance(model, Model) and not model.is_loaded:
        began = time.perf_counter()
        model.load()
        model.loading_s = (model.loading_s or 0.0) + time.perf_counter() - began


def check_model(card: ModelCard, tasks: Sequence[TaskCard], data_root: Path | None) -> None:
    """Check a model before it is loaded; arguments and errors are those of `Model.check`."""
    kind = MODEL_KINDS.load(card.kind)
    if hasattr(kind, "check"):  # a plug-in's may be a function
        kind.check(card, tasks, data_root)
