"""Finished runs without weights: a model that answers by a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adem_bench.models.base import Budget, Model, ModelOptions
from adem_bench.models.fused.card import FusedCard
from adem_bench.records import Request, Response
from adem_bench.runner.distributed import Processes
from adem_bench.runner.loop import run_task
from adem_bench.runner.manifest import RunOptions
from adem_bench.tasks.base import build_task

CARD = FusedCard(name="answering", language_model={"path": "none"})
Answer = Callable[[Request], str]


def by_length(request: Request) -> str:
    """Answers of both kinds for every task, some of them wrong."""
    return ("Yes", "No", "A", "B")[len(request.prompt) % 4]


class Answering(Model):
    """A model of no weights."""

    keeps_answers = False  # tests give several of them one fingerprint

    def __init__(self, answer: Answer = by_length, fingerprint: str = "0123456789abcdef") -> None:
        super().__init__(CARD, ModelOptions())
        self._answer = answer
        self._fingerprint = fingerprint

    def length(self, request):
        return len(request.prompt)

    def budget(self):
        return Budget(tokens=1 << 20, rows=8)

    def generate(self, requests):
        return [Response(self._answer(request)) for request in requests]

    def fingerprint(self):
        return self._fingerprint

    def describe(self):
        facts = {"name": self.card.name, "fingerprint": self._fingerprint}
        return facts | {"dtype": "float32", "device": "cpu"}


def finished_run(
    results: Path, data_root: Path, task: str = "mini_mme", answer: Answer = by_length, **options
) -> Path:
    """Make a run of 24 samples and return its folder."""
    outcome = run_task(
        Answering(answer),
        build_task(task, data_root),
        RunOptions(**{"limit": 24} | options),
        results,
        Processes(),
    )
    assert outcome is not None
    return outcome.folder
