from __future__ import annotations

import pytest

from support.chat_server import Step, said, serving


@pytest.fixture
def run(adem_bench, monkeypatch):
    """Runs mini MME on a server of which every other answer is broken."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def call(*more):
        with serving() as server:
            server.last = lambda asked: Step(b"{" if len(server.asked) % 2 else said("Yes"))
            return adem_bench(
                "run", "--model", f"openai:m@{server.url}", "--tasks", "mini_mme", "--limit", 8,
                "--set", "model.options.retries=0", "--set", "model.options.concurrency=1", *more,
            )  # fmt: skip

    return call


@pytest.mark.parametrize(("most", "code"), [(None, 1), (3, 1), (4, 0)])
def test_failed_samples_are_counted_and_the_limit_is_the_users(run, most, code):
    told = run() if most is None else run("--max-failed", most)
    assert told.code == code
    assert "failed: 4 samples have no answer" in told.out + told.err
    assert "4 requests failed: the answer is not JSON" in told.out + told.err


def test_a_server_that_is_not_there_ends_the_run_in_a_line(adem_bench):
    told = adem_bench(
        "run", "--model", "openai:m@http://127.0.0.1:9/v1", "--tasks", "mini_mme", "--limit", 8,
        "--set", "model.options.backoff=0.01",
    )  # fmt: skip
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("error: http://127.0.0.1:9/v1: cannot be reached: ")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    "reply", [Step(b"{"), Step(b"<html>Sign in</html>"), Step(b"no", 404), Step(b"", 500)]
)
def test_ask_names_the_server_whatever_it_replies(adem_bench, monkeypatch, reply):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as server:
        server.last = lambda asked: reply
        told = adem_bench(
            "ask", "--model", f"openai:m@{server.url}", "Hi", "--set", "options.retries=0",
            "--set", "options.backoff=0.01",
        )  # fmt: skip
    assert told.code == 2
    assert told.err.startswith(f"error: {server.url}")
    assert told.err.count(server.url) == 1
