from __future__ import annotations

import pytest

from adem_bench.cards import load_model_card
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.openai_api import model, retry
from support.chat_server import serving


@pytest.fixture
def server():
    """A server that does what its script says."""
    with serving() as script:
        yield script


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(server, monkeypatch):
    """The time that the model and the server read."""
    clock = Clock()
    for module in (retry, model):
        monkeypatch.setattr(module, "time", clock)
    server.clock = clock.monotonic
    return clock


@pytest.fixture(autouse=True)
def _keyless(monkeypatch):
    """No key of this machine's own."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def served(server):
    """Makes a model of the server, quick to try again."""

    def make(*settings, url=None):
        quick = ["options.backoff=0.01", "options.retries=2", *settings]
        card = load_model_card(f"openai:tiny@{url or server.url}", quick)
        return build_model(card, ModelOptions())

    return make
