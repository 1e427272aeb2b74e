"""Proxies of the environment: passed by on this machine, named in errors elsewhere."""

from __future__ import annotations

import pytest

from adem_bench.models.openai_api.http_client import UnreachableError, is_this_machine, post
from adem_bench.models.openai_api.model import ServerError
from adem_bench.records import Request
from support.chat_server import Step

NOWHERE = "http://me:hunter2@127.0.0.1:9"
FAR = "http://adem-bench.invalid:8000/v1"


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_asked_directly(server, served, monkeypatch, variable, host):
    monkeypatch.setenv(variable, NOWHERE)
    (response,) = served(url=server.url.replace("127.0.0.1", host)).generate([Request("Hi")])
    assert response.text == "yes"


def test_a_proxy_before_another_machine_is_used_and_named_in_errors(served, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    with pytest.raises(ServerError, match="cannot be reached") as caught:
        served(url=FAR).generate([Request("Hi")])
    message = str(caught.value)
    assert "through the proxy 127.0.0.1:9 of $HTTP_PROXY" in message
    assert "NO_PROXY=adem-bench.invalid goes around it" in message
    assert "hunter2" not in message


def test_what_a_proxy_says_is_told_from_what_the_server_says(server, served, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    (response,) = served(url=FAR).generate([Request("Hi")])
    assert response.text == "yes"
    assert server.paths == [f"{FAR}/chat/completions"]
    server.last = lambda asked: Step({"error": "no route"}, 502)
    (response,) = served("options.retries=0", url=FAR).generate([Request("Hi")])
    assert "HTTP 502: no route (through the proxy 127.0.0.1" in response.error


def test_no_proxy_is_heeded_and_not_named(served, monkeypatch):
    monkeypatch.setenv("http_proxy", NOWHERE)
    monkeypatch.setenv("no_proxy", "adem-bench.invalid")
    with pytest.raises(ServerError) as caught:
        served(url=FAR).generate([Request("Hi")])
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["socks5://127.0.0.1:9", "http:///x", "http://[", "http://h:x", "http:/me:hunter2@h:hunter2"],
)
def test_an_address_of_a_proxy_that_cannot_be_used_is_no_crash(monkeypatch, address):
    monkeypatch.setenv("http_proxy", address)
    with pytest.raises(UnreachableError) as caught:
        post(f"{FAR}/chat/completions", {}, "", 2)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True), ("LOCALHOST", True), ("localhost.", True), ("a.localhost", True),
        ("127.8.8.8", True), ("[::1]", True), ("[::ffff:127.0.0.1]", True), ("0.0.0.0", True),
        ("10.0.0.1", False), ("localhost.com", False), ("[::ffff:8.8.8.8]", False),
    ],
)  # fmt: skip
def test_which_addresses_are_this_machine(host, here):
    assert is_this_machine(f"http://{host}:8000/v1") is here
