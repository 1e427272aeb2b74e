"""A key goes where it was meant to go, and into no file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adem_bench.cards import load_model_card, model_card_of
from adem_bench.errors import CardError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.openai_api.keys import Redaction
from adem_bench.models.openai_api.settings import find_server, read_options
from adem_bench.records import Request
from adem_bench.results.progress import no_progress
from adem_bench.runner.distributed import Processes
from adem_bench.runner.loop import run_task
from adem_bench.runner.manifest import RunOptions
from adem_bench.runner.rerun import Rerun, rerun
from adem_bench.tasks.base import build_task
from support.chat_server import Step, said

FAR = "m@http://192.0.2.2:8000/v1"
KEY = "sk-hunter2/+&"


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("MY_KEY", KEY)


@pytest.fixture
def card(tmp_path):
    """Writes a stranger's card, and reads it."""

    def make(*settings, **options):
        path = tmp_path / "theirs.yaml"
        path.write_text(json.dumps({"kind": "openai", "options": options}))
        return load_model_card(str(path), settings)

    return make


def key_of(card):
    return find_server(card, read_options(card)).key


def typed(source, *settings):
    return load_model_card(f"openai:{source}", settings)


@pytest.mark.parametrize("source", [FAR, "m@http://127.0.0.1:8000/v1", "m@https://a.b/v1", "m"])
def test_a_card_alone_sends_no_key_that_it_names(card, source):
    theirs = card(source=source, key_variable="MY_KEY", insecure_key=True)
    with pytest.raises(CardError, match=r"add --set model\.options\.key_variable=MY_KEY if"):
        key_of(theirs)


@pytest.mark.parametrize("source", ["m", "m@http://localhost:8000", FAR])
def test_none_sends_none(card, source):
    assert key_of(card(source=source, key_variable="none")) == ""
    assert key_of(card("options.key_variable=none", source=source, key_variable="MY_KEY")) == ""


def test_neither_a_card_nor_a_manifest_can_say_what_the_command_line_says():
    fields = {"name": "x", "kind": "openai", "options": {"source": FAR, "key_variable": "MY_KEY"}}
    with pytest.raises(CardError, match="add --set"):
        key_of(model_card_of(fields))
    with pytest.raises(ValueError, match="_given"):
        model_card_of({**fields, "_given": ["options"]})


def test_a_card_gets_openais_key_at_openais_address_alone(card):
    assert key_of(card(source="m")) == "sk-openai"
    assert key_of(card(source="m@https://api.openai.com/v1/chat/completions")) == "sk-openai"
    for elsewhere in ("m@https://a.b/v1", "m@http://localhost:8000", FAR):
        assert key_of(card(source=elsewhere)) == ""
        assert key_of(card(source=elsewhere, key_variable="OPENAI_API_KEY")) == ""


@pytest.mark.parametrize(
    "setting",
    ["options.key_variable=MY_KEY", "options={source: 'm@https://a.b/v1', key_variable: MY_KEY}"],
)
def test_the_command_line_says_which_key(card, setting):
    assert key_of(card(setting, source="m@https://a.b/v1", key_variable="OTHER")) == KEY
    moved = load_model_card("openai:m@https://a.b/v1", [setting]).model_copy(update={"title": "x"})
    assert key_of(moved) == KEY


def test_an_address_that_was_typed_gets_the_default_key_but_not_in_the_clear():
    assert key_of(typed("m@http://127.0.0.1:8000/v1")) == "sk-openai"
    assert key_of(typed("m@https://a.b/v1")) == "sk-openai"
    assert key_of(typed(FAR)) == ""
    assert key_of(typed(FAR, "options.insecure_key=true")) == "sk-openai"


def test_no_key_goes_over_plain_http_unless_the_command_line_says_so(card):
    named = "options.key_variable=MY_KEY"
    far = {"source": FAR}
    for theirs in (typed(FAR, named), card(named, **far), card(named, **far, insecure_key=True)):
        with pytest.raises(CardError, match=r"over plain http .*MY_KEY .*insecure_key=true"):
            key_of(theirs)
    assert key_of(card(named, "options.insecure_key=true", source=FAR)) == KEY
    for local in ("localhost", "127.0.0.1", "127.3.2.1", "[::1]", "0.0.0.0", "me.localhost"):
        assert key_of(typed(f"m@http://{local}:8000/v1", named)) == KEY
    for other in ("localhost.a.b", "127.0.0.1.a.b", "10.0.0.1", "[::2]"):
        with pytest.raises(CardError, match="over plain http"):
            key_of(typed(f"m@http://{other}:8000/v1", named))


def test_what_is_no_key_is_not_repeated(monkeypatch):
    for value in ("sk hunter2", "sk-hunter2\nX: y", "schlüssel-hunter2"):
        monkeypatch.setenv("MY_KEY", value)
        with pytest.raises(CardError, match="is not a key") as caught:
            key_of(typed("m@https://a.b/v1", "options.key_variable=MY_KEY"))
        assert "hunter2" not in str(caught.value)
    with pytest.raises(CardError, match="is the name of an environment variable") as caught:
        key_of(typed("m@http://localhost:1/v1", "options.key_variable=sk-hunter2"))
    assert "hunter2" not in str(caught.value)


ECHOES = {
    "answer": Step(said(f"yes {KEY}")),
    "escaped": Step(f'{{"choices": [{{"message": {{"content": "no {KEY}"}}}}]}}'
                    .replace("/", "\\/").replace("h", "\\u0068").encode()),
    "parts": Step(said([{"type": "text", "text": KEY[:5]}, {"type": "text", "text": KEY[5:]}])),
    "model": Step(said("yes", model=f"served for {KEY}")),
    "error": Step({"error": {"message": f"bad key Bearer {KEY}", "type": KEY}}, 400),
    "long error": Step({"error": {"message": "x" * 295 + KEY}}, 400),
    "unknown shape": Step({KEY: {"x": [KEY]}}, 400),
    "page": Step(f"<html>{KEY.replace('&', '&amp;')} sk-hunter2%2F%2B%26</html>".encode()),
    "text": Step(f"no {KEY}".encode(), 500),
    "content": Step({"choices": [{"message": {"content": {"x": KEY}}}], "error": KEY}),
    "finish": Step({"choices": [{"message": {"content": None}, "finish_reason": KEY}]}),
}  # fmt: skip


@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_that_a_server_repeats_is_in_no_file(server, served, tmp_path, echo):
    server.last = lambda asked: ECHOES[echo]
    model = served("options.key_variable=MY_KEY")
    run_task(model, build_task("mini_mme", None), RunOptions(limit=3), tmp_path, Processes())
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"samples.jsonl", "manifest.json"} <= {path.name for path in files}
    for path in files:
        assert b"hunter2" not in path.read_bytes()
    server_facts = find_server(model.card, read_options(model.card))
    said_of_it = [*model.warnings(), str(model.describe()), str(model.card), repr(server_facts)]
    assert "hunter2" not in "".join(said_of_it)


def test_a_run_that_is_repeated_needs_the_nod_again(server, served, tmp_path):
    model = served("options.key_variable=MY_KEY")
    task, options = build_task("mini_mme", None), RunOptions(limit=2)
    first = run_task(model, task, options, tmp_path / "results", Processes())
    job = Rerun(first.folder, tmp_path / "reruns")
    with pytest.raises(CardError, match="rerun: --key-variable MY_KEY"):
        rerun(job, no_progress)
    assert rerun(replace(job, key_variable="MY_KEY"), no_progress).records.changed == 0
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


def test_a_refused_key_is_not_in_the_error(server, served):
    server.last = lambda asked: Step({"error": {"message": f"bad key {KEY}"}}, 401)
    with pytest.raises(
        Exception, match=r"HTTP 401: bad key \*\*\*; .* the key in \$MY_KEY"
    ) as caught:
        served("options.key_variable=MY_KEY").generate([Request("Hi")])
    assert "hunter2" not in str(caught.value)


def test_who_refuses_for_want_of_a_key_hears_how_to_send_one(server, card):
    server.last = lambda asked: Step({"error": "who?"}, 401)
    theirs = card("options.retries=0", source=f"m@{server.url}")
    with pytest.raises(Exception, match=r"none was sent \(--set model.options.key_variable=NAME"):
        build_model(theirs, ModelOptions()).generate([Request("Hi")])
    assert "Authorization" not in server.headers[0]


def test_a_word_that_stands_for_no_key_may_be_an_answer():
    assert Redaction("EMPTY").hide("The glass is EMPTY.") == "The glass is EMPTY."
    assert Redaction("EMPTY").hide("Bearer EMPTY") == "Bearer ***"
    assert Redaction("").hide("any") == "any"
