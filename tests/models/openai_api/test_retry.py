"""Servers that misbehave: what is tried again, how long is waited, what is given up."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import threading
import weakref
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from adem_bench.models.openai_api.model import ServerError
from adem_bench.models.openai_api.retry import backoff_s, pause_s, retry_after_s
from adem_bench.records import Request
from support.chat_server import DEADLINE_S, Step, said
from support.deadlines import deadline

BUSY = Step({"error": {"message": "slow down"}}, 429)


def ask(model, count=1):
    return model.generate([Request(f"question {index}") for index in range(count)])


@pytest.mark.parametrize(
    "bad",
    [
        BUSY,
        Step(b"oops", 500),
        Step(b"the server is down", 521),
        Step(b"{", 200),
        Step({"choices": []}, 200),
        Step(said(None), 200),
        Step(b'{"choices": [', 200, {"Content-Length": "99"}),
    ],
    ids=["429", "500", "521", "no JSON", "no choice", "empty choice", "cut off"],
)
def test_a_bad_answer_is_asked_for_again(server, served, bad):
    server.steps = [bad, bad]
    model = served()
    (response,) = ask(model)
    assert (response.text, response.error) == ("yes", None)
    assert model.describe()["requests"] == {"requests": 3, "retries": 2, "failures": 0}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (BUSY, "HTTP 429: slow down"),
        (Step(b"\x1b[2Joops\n!", 500), "HTTP 500: \x1b[2Joops !"),
        (Step(b"{", 200), "the answer is not JSON"),
        (Step(said(None), 200), "the answer's choice has no text (finish_reason stop)"),
    ],
)
def test_after_the_last_attempt_the_sample_has_failed_and_the_others_go_on(
    server, served, bad, reason
):
    server.last = lambda asked: bad if "1" in str(asked["messages"]) else Step(said("yes"))
    model = served()
    responses = ask(model, 3)
    assert [response.text for response in responses] == ["yes", "", "yes"]
    assert responses[1].error == f"{reason} (3 attempts)"
    assert model.warnings()[1:] == [f"1 request failed: {reason}"]


def test_a_request_that_is_wrong_in_itself_is_not_repeated(server, served):
    server.last = lambda asked: Step({"error": "too long"}, 400)
    (response,) = ask(served())
    assert response.error == "HTTP 400: too long (1 attempt)"
    assert len(server.asked) == 1


@pytest.mark.parametrize("slow", ["silent", "drip", "continues"])
def test_a_server_that_takes_too_long_is_given_up(server, served, slow):
    server.last = lambda asked: Step(said("x"), **{slow: True})
    with deadline():
        (response,) = ask(served("options.timeout=0.15", "options.retries=1"))
    assert response.error == "no answer within 0.15 s (2 attempts)"


def test_a_server_that_hangs_up_on_a_large_request_is_said_to(served):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up():
            listening.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        model = served("options.retries=0", url=f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
        (response,) = model.generate([Request("x" * (32 << 20))])
    assert "broke off before the request was sent, of 32,768 KiB" in response.error


def test_retry_after_holds_whichever_request_comes_next(server, served, clock):
    server.steps = [Step({}, 429, {"Retry-After": "0.4"})]
    responses = ask(served("options.concurrency=1", "options.retries=0"), 2)
    assert [response.text for response in responses] == ["", "yes"]
    assert clock.slept == [pytest.approx(0.4)]
    assert server.at == pytest.approx([0, 0.4])


def test_retry_after_is_longer_than_the_backoff_where_it_says_so(server, served, clock):
    server.steps = [Step({}, 429, {"Retry-After": "0.4"})]
    ask(served("options.concurrency=1"))
    assert server.at == pytest.approx([0, 0.4])


def test_a_used_up_rate_is_waited_for_even_after_a_good_answer(server, served, clock):
    used_up = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"}
    server.steps = [Step(said("yes"), headers=used_up)]
    ask(served("options.concurrency=1"), 2)
    assert clock.slept == [pytest.approx(0.3)]
    assert server.at == pytest.approx([0, 0.3])


def test_a_server_that_wants_too_long_a_wait_is_not_waited_for(server, served):
    server.last = lambda asked: Step({}, 429, {"Retry-After": "3600"})
    (response,) = ask(served("options.longest_wait=1"))
    asks = "HTTP 429 (asks to wait 3600 s, longer than longest_wait) (1 attempt)"
    assert response.error == asks


def test_nobody_there_ends_the_run(served):
    with pytest.raises(ServerError, match="9/v1: cannot be reached: "):
        ask(served(url="http://127.0.0.1:9/v1"))


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/v1", "http://[::1/v1"])
def test_a_redirect_is_told_with_its_place_and_not_followed(server, served, place):
    server.last = lambda asked: Step(b"", 308, {"Location": f"{place}?key=hunter2"})
    with pytest.raises(ServerError) as caught:
        ask(served())
    assert f"HTTP 308: it redirects to {place}, which is not followed; check" in str(caught.value)


@pytest.mark.parametrize("status", [401, 404, 407])
def test_a_refusal_before_any_answer_ends_the_run(server, served, status):
    elsewhere = {"Location": "http://127.0.0.1:9/v1"}
    server.last = lambda asked: Step({"message": "no such model"}, status, elsewhere)
    with pytest.raises(ServerError, match=rf"HTTP {status}: no such model; check .*\(tiny\)"):
        ask(served())
    assert len(server.asked) == 1


def test_a_refusal_after_an_answer_fails_its_sample_alone(server, served):
    server.steps = [Step(said("yes")), Step({"message": "moderated"}, 403)]
    responses = ask(served("options.concurrency=1"), 3)
    assert [r.error for r in responses] == [None, "HTTP 403: moderated (1 attempt)", None]


ZIPPED = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    "body", [gzip.compress(json.dumps(said("yes")).encode(), mtime=0), said("yes")]
)
def test_an_answer_that_is_said_to_be_compressed_is_read(server, served, body):
    server.last = lambda asked: Step(body, headers=ZIPPED)
    (response,) = ask(served("options.retries=0"))
    assert (response.text, response.error) == ("yes", None)


@pytest.mark.parametrize(
    "endless",
    [Step(b" " * (2 << 20)), Step(gzip.compress(b" " * (2 << 20), mtime=0), headers=ZIPPED)],
)
def test_an_endless_answer_is_cut(server, served, monkeypatch, endless):
    monkeypatch.setattr("adem_bench.models.openai_api.http_client.MAX_BYTES", 1 << 20)
    server.last = lambda asked: endless
    (response,) = ask(served("options.retries=0"))
    assert response.error == "the answer is larger than 1 MiB (1 attempt)"


def test_requests_fly_together_up_to_the_limit(server, served):
    server.last = lambda asked: Step(said("yes"), together=4)
    assert len(ask(served("options.concurrency=4"), 12)) == 12
    assert server.most_flying == 4


def test_threads_end_with_the_work_and_keep_no_model(server, served):
    before = set(threading.enumerate())
    model = served("options.concurrency=3")
    assert set(threading.enumerate()) == before
    assert len(ask(model, 7)) == 7
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE_S)
    kept = weakref.ref(model)
    del model
    gc.collect()
    assert kept() is None


def test_what_was_asked_ahead_is_not_asked_again(server, served):
    model = served()
    requests = [Request("a"), Request("b"), Request("a")]
    model.prefetch(requests)
    for request in requests:
        model.generate([request])
    assert sorted(asked["messages"][0]["content"] for asked in server.asked) == ["a", "a", "b"]


def test_backoff_doubles_up_to_the_longest_wait():
    for attempt, most in ((0, 1), (1, 2), (3, 8), (9, 30)):
        waits = [backoff_s(attempt, 1, 30) for _ in range(50)]
        assert most / 2 <= min(waits) < max(waits) <= most


def test_retry_after_is_seconds_or_a_date():
    assert retry_after_s({}) is None
    assert retry_after_s({"retry-after": "7"}) == 7
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    for junk in ("soon", "-5", "1e3", "Fri, 31 Dec 99999999999999999999 23:59:59 GMT"):
        assert retry_after_s({"retry-after": junk}) is None
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 15 < retry_after_s({"retry-after": date}) <= 20


@pytest.mark.parametrize(
    ("left", "reset", "seconds"),
    [
        ("0", "6m0s", 360),
        ("0", "1h2m3.5s", 3723.5),
        ("0", "20ms", 0.02),
        ("0", "12", 12),
        ("1", "12", 0),
        ("0", "2024-01-01T00:00:00Z", 0),
        ("0", "1700000000", 0),
        ("0", "", 0),
    ],
)
def test_rate_limit_headers(left, reset, seconds):
    headers = {"x-ratelimit-remaining-tokens": left, "x-ratelimit-reset-tokens": reset}
    assert pause_s(headers) == pytest.approx(seconds)
