"""Models without weights: what a score must be compared with before it means anything."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from adem_bench.cards import check_options
from adem_bench.errors import CardError
from adem_bench.models.base import Budget, Model, ModelOptions
from adem_bench.records import Json, Request, Response, Sample
from adem_bench.schemas import ModelCard, Strict, TaskCard

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _NoOptions(Strict):
    pass


class _ConstantOptions(Strict):
    source: str
    """The answer."""


class _Baseline(Model):
    """What the three have in common: no weights, no images, no memory."""

    answers_vary = False
    keeps_answers = False
    takes: ClassVar[type[Strict]] = _NoOptions
    """The options of its cards."""

    def __init__(self, card: ModelCard, options: ModelOptions) -> None:
        """Check the card's options; there is nothing to load. Errors are those of `check`."""
        super().__init__(card, options)
        self.check(card, (), options.data_root)

    @classmethod
    def check(cls, card: ModelCard, tasks: Sequence[TaskCard], data_root: Path | None) -> None:
        """Refuse options that the kind does not have; arguments as in `Model`.

        Raises:
            CardError: there are such.
        """
        check_options("model", card, cls.takes)

    @abstractmethod
    def _answer(self, request: Request) -> str:
        """Return what is said to a request, whatever it shows."""

    def budget(self) -> Budget:
        """Return room for any batch; rows are records written together."""
        return Budget(tokens=1 << 62, rows=256)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer by rule."""
        return [Response(self._answer(request)) for request in requests]

    def fingerprint(self) -> str:
        """Return a digest of the kind and its options."""
        seen = f"{self.card.kind} {sorted(self.card.options.items())}"
        return hashlib.sha256(seen.encode(errors="backslashreplace")).hexdigest()[:16]

    def warnings(self) -> Sequence[str]:
        """Return that this is a baseline."""
        return [f"{self.card.name} is a baseline: it saw no image"]

    def describe(self) -> Mapping[str, Any]:
        """Return name and fingerprint."""
        return {**super().describe(), "device": "cpu"}


class Echo(_Baseline):
    """Answers every request with its own prompt."""

    def _answer(self, request: Request) -> str:
        return request.prompt


class Constant(_Baseline):
    """Answers every request with the text behind `constant:`."""

    takes = _ConstantOptions

    def _answer(self, request: Request) -> str:
        return str(self.card.options["source"])


class Majority(_Baseline):
    """Answers every request with the most frequent right answer of the task.

    It is shown the references (`fit`), so its score is the one to beat, not a result.
    """

    _text: str | None = None

    def fit(self, samples: Iterable[Sample]) -> None:
        """Find the most frequent reference; of several, the first in the data's order."""
        counts = Counter(text for sample in samples for text in _answers(sample.reference))
        self._text = counts.most_common(1)[0][0] if counts else ""

    def _answer(self, request: Request) -> str:
        if self._text is None:
            raise CardError(
                f"model {self.card.name} answers as a task's references do, and there is no task "
                "here; use it with `adem-bench run`"
            )
        return self._text

    def warnings(self) -> Sequence[str]:
        """Return that the answer was looked up."""
        return [f"{self.card.name} is a baseline: it looked at the right answers, at no image"]

    def describe(self) -> Mapping[str, Any]:
        """Return name, fingerprint and the answer."""
        return {**super().describe(), "answer": self._text}


def _answers(reference: Json) -> Iterator[str]:
    """Yield what a model would have to write for a reference: one text, or any of several."""
    if isinstance(reference, bool):
        yield "Yes" if reference else "No"
    elif isinstance(reference, int) and 0 <= reference < len(LETTERS):
        yield LETTERS[reference]  # the index of an option
    elif isinstance(reference, list):
        for one in reference:
            yield from _answers(str(one))
    elif reference is not None:
        yield str(reference)
