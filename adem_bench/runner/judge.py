"""A model as judge: it reads what another model answered, asked in the runner's own way.

Its answers are kept in the run folder (`results/judgements.py`), and with those of all models for
other runs below the same results folder (`answers.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from adem_bench.cards import as_mapping
from adem_bench.errors import CardError
from adem_bench.models.base import (
    Baseline,
    Model,
    ModelOptions,
    build_model,
    check_model,
    chosen_card,
)
from adem_bench.records import Decoding, Json, Request, Response, Sample
from adem_bench.registry import MODEL_KINDS
from adem_bench.results.judgements import JudgeLog
from adem_bench.runner.answers import Answers, keeps_answers
from adem_bench.runner.batching import Backoff, Item, ahead, plan
from adem_bench.runner.manifest import spent
from adem_bench.schemas import ModelCard
from adem_bench.tasks.base import Question, Task, judging_of

MOST_AT_ONCE = 64
"""Questions that are put to a judge together."""
EMPTY = "it said nothing"


def judge_card(name: str, data_root: Path | None) -> ModelCard:
    """Return the card of a model that shall judge.

    Args:
        name: Name or path of a card, or `KIND:SOURCE`.
        data_root: Folder whose `weights/` holds what the card names; None for the default.

    Raises:
        CardError: there is no such card, or it is a baseline's.
        CheckpointError: its weights are missing.
    """
    try:
        card = chosen_card(name)
    except CardError as error:
        raise CardError(f"--judge {name}: {error}") from error
    if issubclass(MODEL_KINDS.load(card.kind), Baseline):
        raise CardError(
            f"--judge {name}: a model of kind {card.kind} reads no question; name one that does, "
            "for example openai:MODEL@URL"
        )
    check_model(card, [], data_root)
    return card


def check_use(judge: ModelCard | None, tasks: Sequence[Task]) -> None:
    """Refuse a judge that no task asks.

    Args:
        judge: Its card; None of none.
        tasks: That are run.

    Raises:
        CardError: none asks it.
    """
    if judge and tasks and all(judging_of(task) == "no" for task in tasks):
        names = ", ".join(task.card.name for task in tasks)
        ask = "asks" if len(tasks) == 1 else "ask"
        raise CardError(
            f"--judge {judge.name}: {names} {ask} no judge; leave the option out (`adem-bench "
            "tasks list` says which tasks ask one)"
        )


class JudgeModel:
    """A loaded model that judges."""

    def __init__(self, model: Model) -> None:
        """Take a model."""
        self._model = model
        model.load_adapter_for("judge", "judge")
        self.name = f"{model.card.name} {model.fingerprint()}"
        """With its fingerprint: part of the identity of what it judges."""

    @classmethod
    def load(cls, card: ModelCard, device: str, data_root: Path | None) -> JudgeModel:
        """Load a judge.

        Args:
            card: From `judge_card`.
            device: As for models.
            data_root: As for models.

        Raises:
            AdemBenchError: weights are missing or do not fit.
        """
        return cls(build_model(card, ModelOptions(device, data_root)))

    def of_finished_run(self, folder: Path) -> RunJudge:
        """Return the judge of a finished run; answers are shared with the runs next to it."""
        return self.of_run(folder, folder.parents[2] if len(folder.parents) > 2 else None)

    def of_run(self, folder: Path | None, results: Path | None, fresh: bool = False) -> RunJudge:
        """Return the judge of one run.

        Args:
            folder: The run's, where questions and answers are kept; None to keep none.
            results: The folder below which runs share answers; None to share none.
            fresh: Whether everything is asked anew.
        """
        answers = None
        if results is not None and keeps_answers(self._model):
            answers = Answers(results, self._model.fingerprint(), 0, fresh)
        return RunJudge(self._model, self.name, JudgeLog(folder, self.name), answers)


class RunJudge:
    """A judge of one run; to be closed."""

    def __init__(self, model: Model, name: str, log: JudgeLog, answers: Answers | None) -> None:
        """Keep what it is made of.

        Args:
            model: Which judges.
            name: Its name and fingerprint.
            log: Where questions and answers are kept.
            answers: Of other runs.
        """
        self.name = name
        self._model = model
        self._log = log
        self._answers = answers
        self._backoff = Backoff(model.answer)

    @property
    def at_once(self) -> int:
        """How many questions are best asked together."""
        budget = self._model.budget()
        return max(1, min(MOST_AT_ONCE, max(budget.rows, budget.ahead)))

    def ask(self, questions: Sequence[Question]) -> list[Response]:
        """Return an answer to each question; a kept one is not asked for again, a failure is.

        Raises:
            AdemBenchError: no question will be answered.
        """
        questions = [replace(one, request=self._asked(one.request)) for one in questions]
        found: dict[str, Response] = {}
        items = []
        for question in questions:
            key = question.request.digest()
            known = self._log.find(question)
            if known is not None and known.error is None:
                found[key] = known
            elif key not in found and (other := self._reused(question)) is not None:
                found[key] = other
                self._log.append(question, other, reused=True)
            elif key not in found:
                sample = Sample(question.sample_id, {}, None)
                items.append(Item(sample, question.request, self._model.length(question.request)))
        for item, response in self._answered(items):
            judged = _judgement(response)
            found[item.request.digest()] = judged
            self._log.append(Question(item.sample.id, item.request), judged, reused=False)
            if self._answers and judged.error is None:
                self._answers.keep(item.request, response)
        return [found[question.request.digest()] for question in questions]

    def _asked(self, request: Request) -> Request:
        """Return a question as this model takes it: it may offer no temperature, or no turns."""
        decoding = self._model.decoding(Decoding())
        with suppress(CardError):
            decoding = self._model.decoding(request.decoding)
        request = replace(request, decoding=decoding)
        if request.parts and "parts" not in self._model.request_fields:
            request = replace(request, parts=())
        return request

    def _reused(self, question: Question) -> Response | None:
        found = self._answers.find(question.request) if self._answers else None
        judged = _judgement(found) if found else None
        return judged if judged and judged.error is None else None

    def _answered(self, items: Sequence[Item]) -> Iterator[tuple[Item, Response]]:
        """Yield answers one by one: each is kept before the next one is waited for."""
        budget = self._model.budget()
        units = ahead(plan(items, budget), self._model.prefetch, budget.ahead)
        for unit in units:
            yield from self._backoff.answer(unit.items)

    def describe(self) -> dict[str, Json]:
        """Return what a manifest says of the judge: its card, questions, tokens and cost."""
        counts = self._log.counts()
        found: dict[str, Any] = {
            "name": self._model.card.name,
            "fingerprint": self._model.fingerprint(),
            "card": as_mapping(self._model.card),
            **counts,
        }
        if "prompt_tokens" in counts:
            found |= spent(self._model, [(self._log.tokens[0], self._log.tokens[1])])
        return found

    def close(self) -> None:
        """Write what is still to be kept."""
        self._log.close()
        if self._answers:
            self._answers.close()


def _judgement(response: Response) -> Response:
    """Return what a judge said: an answer that was cut counts, an empty one is none."""
    text = response.answer_text
    error = None if response.finish_reason == "length" and text.strip() else response.error
    if error is None and not text.strip():
        error = EMPTY
    return Response(text, error=error, tokens=response.tokens)
