"""A served model on a task: the run goes on past failures and keeps what was paid for."""

from __future__ import annotations

import json

import pytest

from adem_bench.errors import AdemBenchError
from adem_bench.models.openai_api.model import ServedModel
from adem_bench.results.validation.validate import validate_run
from adem_bench.runner.distributed import Processes
from adem_bench.runner.loop import run_task
from adem_bench.runner.manifest import RunOptions
from adem_bench.tasks.base import build_task
from support.chat_server import Step, said
from support.run_files import read_manifest, read_records


@pytest.fixture
def run(tmp_path):
    """Runs a model on mini MME."""

    def call(model, **options):
        task = build_task("mini_mme", None)
        model.load_adapter_for(task.card.name, task.card.kind)
        return run_task(model, task, RunOptions(**options), tmp_path, Processes())

    return call


PRICES = ("options.input_price=1", "options.output_price=10")


def test_failed_samples_are_recorded_and_asked_again_by_the_next_run(server, served, run):
    server.steps = [Step(said("Yes"))]
    server.last = lambda asked: Step(b"{")
    first = run(served(*PRICES, "options.concurrency=1", "options.retries=0"), limit=6)
    assert first.result.failed == 5
    assert "5 requests failed: the answer is not JSON" in first.result.warnings
    assert read_manifest(first.folder)["model"]["requests"]["failures"] == 5
    server.last = lambda asked: Step(said("Yes"))
    second = run(served(*PRICES), limit=6)
    assert (second.folder, second.resumed, second.result.failed) == (first.folder, 1, 0)
    assert all(record["tokens"] == [10, 2] for record in read_records(second.folder))
    spent = read_manifest(second.folder)["run"]
    assert (spent["prompt_tokens"], spent["answer_tokens"]) == (60, 12)
    assert spent["cost"] == pytest.approx(60e-6 + 12e-5)


def test_requests_stay_in_flight_across_batches(server, served, run):
    server.last = lambda asked: Step(said("Yes"), together=6)
    run(served("options.concurrency=6"), limit=30)
    assert len(server.asked) == 30
    assert server.most_flying == 6


def test_what_was_answered_before_a_refusal_is_kept(server, served, run, monkeypatch, tmp_path):
    model = served("options.concurrency=1")
    answered = []

    def generate(self, requests):
        if len(answered) == 3:
            raise AdemBenchError("gone")
        answered.append(requests)
        return original(self, requests)

    original = ServedModel.generate
    monkeypatch.setattr(ServedModel, "generate", generate)
    with pytest.raises(AdemBenchError, match="gone"):
        run(model, limit=10)
    (samples,) = tmp_path.rglob("samples.jsonl")
    assert len([json.loads(line) for line in samples.read_text().splitlines()]) == 3


def test_the_run_is_valid(server, served, run):
    outcome = run(served(), limit=4)
    assert validate_run(outcome.folder).issues == ()
