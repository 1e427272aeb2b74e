"""The two harnesses, real where they are installed and their written contracts always."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from adem_bench.integrations import answering
from adem_bench.models.base import Budget
from adem_bench.models.vlmevalkit import process_settings_kept
from adem_bench.records import Response

CONTRACT = Path(__file__).parent / "contract"


def _taken_out(package: str) -> dict[str, ModuleType]:
    """Take a package, and what of ours rests on it, out of the imported modules."""
    ours = {
        "vlmeval": "adem_bench.integrations.vlmevalkit.model",
        "lmms_eval": "adem_bench.integrations.lmms_eval.model",
    }[package]
    names = [name for name in sys.modules if name == ours or name.partition(".")[0] == package]
    return {name: sys.modules.pop(name) for name in names}


def _harness(package: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with process_settings_kept():
        if kind == "real":
            pytest.importorskip(package)
            yield kind
            return
        real = _taken_out(package)
        monkeypatch.syspath_prepend(CONTRACT)
        yield kind
        _taken_out(package)
        sys.modules.update(real)


@pytest.fixture(params=["contract", "real"])
def vlmeval(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """VLMEvalKit, importable; the value says which."""
    yield from _harness("vlmeval", request.param, monkeypatch)


@pytest.fixture
def contract(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """VLMEvalKit's stand-in alone."""
    yield from _harness("vlmeval", "contract", monkeypatch)


@pytest.fixture(params=["contract", "real"])
def lmms_eval(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """lmms-eval, importable; the value says which."""
    yield from _harness("lmms_eval", request.param, monkeypatch)


class Recorder:
    """A model that answers with a number, and keeps what it was asked by which weights."""

    def __init__(self) -> None:
        self.asked = []
        self.weights = None
        self.said = "7"
        self.look = lambda request: None

    def load_adapter_for(self, task, task_kind):
        self.weights = (task, task_kind)

    def instruction(self, question):
        return f"Instruction: {question}\nResponse:"

    def length(self, request):
        return len(request.prompt)

    def budget(self):
        return Budget(tokens=1 << 20, rows=2)

    def prefetch(self, requests):
        pass

    def generate(self, requests):
        for request in requests:
            self.look(request)
        self.asked += [(self.weights, request) for request in requests]
        return [
            Response("", error="unreadable")
            if any("broken" in path.name for path in request.images)
            else Response(self.said)
            for request in requests
        ]

    answer = generate


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The model that every card stands for."""
    model = Recorder()
    monkeypatch.setattr(answering, "build_model", lambda card, options: model)
    return model


@pytest.fixture(scope="session")
def environment(mini: Path) -> dict[str, str]:
    """For commands: tiny models are fastest on one thread."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def unchanged() -> Iterator[None]:
    """What an import may not leave changed."""
    context, state = ssl._create_default_https_context, torch.get_rng_state()
    yield
    assert ssl._create_default_https_context is context
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
