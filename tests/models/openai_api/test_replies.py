"""Every shape of a reply: the right answer, or a failed sample with the server's words."""

from __future__ import annotations

import codecs
import json

import pytest

from adem_bench.models.openai_api.bodies import WESTERN
from adem_bench.models.openai_api.model import ServerError
from adem_bench.models.openai_api.refusals import error_status, error_text
from adem_bench.models.openai_api.replies import (
    MalformedError,
    RefusedError,
    UnansweredError,
    read_answer,
)
from adem_bench.records import Request
from support.chat_server import Step, said


def body(content="Yes", finish="stop", usage=None, **message):
    """A reply as JSON text."""
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "No. A?"}]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Yes", "Yes"),
        ("", ""),
        ([{"type": "text", "text": "Yes"}], "Yes"),
        ([{"type": "text", "text": "Y"}, {"type": "text", "text": "es"}], "Yes"),
        ([THOUGHT, {"type": "text", "text": "Yes"}], "Yes"),
        ([{"type": "text", "text": "Yes"}, {"type": "reasoning", "text": "No"}], "Yes"),
        ([{"text": "No?", "thought": True}, {"text": "Yes"}], "Yes"),
        ([{"type": "redacted_thinking"}, {"type": "output_text", "text": "Yes"}], "Yes"),
        ([{"type": "text", "text": {"value": "Yes", "annotations": []}}], "Yes"),
        ([{"type": "image_url", "image_url": {}}, "Yes"], "Yes"),
        ([{"type": "refusal", "refusal": "I cannot."}], "I cannot."),
        ({"type": "text", "text": "Yes"}, "Yes"),
        ([{"type": "text", "text": "\ud835"}, {"type": "text", "text": "\udc00"}], "\U0001d400"),
    ],
)  # fmt: skip
def test_content_of_every_kind(content, text):
    assert read_answer(body(content)).text == text


@pytest.mark.parametrize(
    "message",
    [{"reasoning_content": "No dog?"}, {"reasoning": "No dog?"}, {"reasoning_details": [{}]}],
)
def test_reasoning_beside_an_answer_is_not_the_answer(message):
    assert read_answer(body("Yes", **message)).text == "Yes"


@pytest.mark.parametrize(
    ("content", "fields", "reasoning"),
    [
        ("Yes", {"reasoning_content": "No dog?"}, "No dog?"),
        ("Yes", {"reasoning": "No dog?", "reasoning_content": "No dog?"}, "No dog?"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "A?"}]},
          {"type": "text", "text": "Yes"}], {}, "A?"),
        ([{"type": "reasoning", "text": "A?"}, {"type": "text", "text": "Yes"}], {}, "A?"),
        ("Yes", {"reasoning_details": [{"text": 3}]}, ""),
        ("Yes", {}, ""),
    ],
)  # fmt: skip
def test_reasoning_kept_apart_is_in_the_record_and_no_part_of_the_answer(
    content, fields, reasoning
):
    answer = read_answer(body(content, **fields))
    assert (answer.text, answer.reasoning) == ("Yes", reasoning)


@pytest.mark.parametrize(
    "reply",
    [
        b'{"choices": [{"index": 0, "finish_reason": "stop", "text": "Yes"}]}',
        b'{"choices": [{"finish_reason": "stop", "message": "Yes"}]}',
        b'{"choices": [{"message": {"content": null, "refusal": "Yes"}}]}',
        b'{"choices": [{"message": {"content": "Yes"}}], "error": null}',
        b'{"choices": [{"message": {"content": "Yes"}}], "error": {"code": 0, "message": "ok"}}',
        b'[{"choices": [{"message": {"content": "Yes"}}]}]',
        b'\xef\xbb\xbf{"choices": [{"message": {"content": "Yes"}}]}',
        b'\n\n{"choices": [{"message": {"content": "\xef\xbb\xbfYes"}}]}',
        '{"choices": [{"message": {"content": "Yes"}}]}'.encode("utf-16"),
    ],
)
def test_other_replies_that_say_yes(reply):
    assert read_answer(reply).text == "Yes"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ('"Yes, café"'.encode("latin-1"), "Yes, café"),
        ('"é and \u201cé\u201d"'.encode("cp1252"), "é and \u201cé\u201d"),
        ('"é'.encode() + 'é"'.encode("latin-1"), "éé"),
        (b'"Yes \\ud835 sure"', "Yes ? sure"),
        (b'"Yes\n\ttab\x0b"', "Yes\n\ttab\x0b"),
    ],
)
def test_bytes_that_are_no_good_json(raw, text):
    answer = read_answer(b'{"choices": [{"message": {"content": ' + raw + b"}}]}")
    assert answer.text == text
    assert answer.text.encode()


def test_a_number_of_thousands_of_digits_costs_no_answer():
    usage = b'"usage": {"prompt_tokens": ' + b"9" * 6000 + b', "completion_tokens": 1}'
    found = read_answer(b'{"choices": [{"message": {"content": "Yes"}}], ' + usage + b"}")
    assert (found.text, found.tokens) == ("Yes", None)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        ("B</s>", "B"),
        ("<s> B</s>", "B"),
        ("Yes<|im_end|>", "Yes"),
        ("<|im_start|>assistant\nYes<|im_end|>\n<|im_start|>user\nNo", "Yes"),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nYes<|eot_id|>", "Yes"),
        ("Yes<end_of_turn>\n", "Yes"),
        ("Yes<\uff5cend\u2581of\u2581sentence\uff5c>", "Yes"),
        ("</s>", ""),
        ("It is <s>red</s> blue", "It is <s>red</s> blue"),
        ("It is <s>red</s> blue<|endoftext|>", "It is <s>red</s> blue"),
        ("No<|end|><|start|>assistant Yes<|return|>", "No<|end|><|start|>assistant Yes"),
        ("Yes<|end|>", "Yes"),
    ],
)
def test_tokens_around_an_answer_do_not_belong_to_it(left, text):
    assert read_answer(body(left)).text == text


@pytest.mark.parametrize(
    ("said_by_server", "reason"),
    [
        ("stop", "stop"), ("eos", "stop"), ("end_turn", "stop"), ("STOP", "stop"),
        ("length", "length"), ("MAX_TOKENS", "length"), ("content_filter", "filter"),
        ("SAFETY", "filter"), ("tool_calls", ""), (None, ""), (7, ""),
    ],
)  # fmt: skip
def test_how_an_answer_ended(said_by_server, reason):
    assert read_answer(body("Yes", said_by_server)).finish_reason == reason


REASONED = {"completion_tokens_details": {"reasoning_tokens": 16}}


@pytest.mark.parametrize(
    ("reply", "reason", "ended"),
    [
        (body(None, "length", reasoning_content="Hm"), "all tokens went into reasoning", "length"),
        (body("", "length", reasoning="Let me"), "all tokens went into reasoning", "length"),
        (body("", "length", REASONED), "all tokens went into reasoning", "length"),
        (body([THOUGHT], "max_tokens"), "all tokens went into reasoning", "length"),
        (body(None, "length"), "all tokens went before the answer", "length"),
        (body(" \n", "length"), "all tokens went before the answer", "length"),
        (body(None, reasoning="Yes"), "reasoning and no answer .*reasoning parser", "stop"),
        (body("", usage=REASONED), "reasoning and no answer", "stop"),
        (body(None, "content_filter"), "a filter withheld the answer", "filter"),
        (body("", "SAFETY"), "a filter withheld the answer", "filter"),
        (b'{"choices": [{"finish_reason": "content_filter", "message": null}]}', "filter",
         "filter"),
        (body(None, "tool_calls", tool_calls=[{}]), "calls a tool", ""),
        (body("", "tool_calls", tool_calls=[{}]), "calls a tool", ""),
        (b"<html><title>Login</title><script>x=1</script>Sign in</html>",
         "web page, not JSON: Login Sign in; check the address", ""),
    ],
)  # fmt: skip
def test_a_whole_reply_without_an_answer_says_why(reply, reason, ended):
    with pytest.raises(UnansweredError, match=reason) as caught:
        read_answer(reply)
    assert caught.value.finish_reason == ended
    if ended == "length":
        assert "raise options.max_new_tokens" in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"{", "not JSON$"),
        (b"", "not JSON$"),
        (b"[" * 100_000, "not JSON$"),
        (b"upstream timed out", "not JSON: upstream timed out"),
        (b"[]", "no choice"),
        (b'{"choices": []}', "no choice"),
        (b'{"choices": ["Yes"]}', "no choice"),
        (b'{"choices": [{}]}', "no text"),
        (body(None), "no text .finish_reason stop"),
        (body(None, refusal=""), "no text .finish_reason stop"),
        (body({"x": 1}), "no text"),
        (body("Y", "error"), "broke the answer off"),
        (body("Y", "insufficient_system_resource"), "broke the answer off"),
    ],
)
def test_a_reply_that_is_no_answer_is_malformed(reply, reason):
    with pytest.raises(MalformedError, match=reason):
        read_answer(reply)


CREDITS = {"message": "Provider returned error: insufficient credits", "code": 402}


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        ({"error": CREDITS}, 402, "insufficient credits"),
        ({"error": {"message": "no more", "type": "insufficient_quota"}}, 402, "no more"),
        ({"error": {"message": "bad key", "code": "invalid_api_key"}}, 401, "bad key"),
        ({"error": "overloaded"}, 0, "overloaded"),
        ({"error": "gone", "choices": []}, 0, "gone"),
        ({"object": "error", "message": "too long", "code": 400}, 400, "too long"),
        ({"object": "error", "message": "TRAFFIC", "code": 50001}, 0, "TRAFFIC"),
        ({"code": "503", "msg": "busy"}, 503, "busy"),
        ({"detail": "no chat template"}, 0, "no chat template"),
        ({"base": 1, "errors": [{"message": "a"}, {"message": "b"}]}, 0, "a; b"),
        ({"choices": [{"error": {"code": 502, "message": "down"}, "finish_reason": "error"}]}, 502,
         "down"),
        ({"choices": [{"message": {"content": "Y"}}], "error": {"message": "cut"}}, 0, "cut"),
    ],
)  # fmt: skip
def test_an_error_in_a_good_reply(reply, status, words):
    with pytest.raises(RefusedError, match=words) as caught:
        read_answer(json.dumps(reply).encode())
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ({"error": {"message": "slow down", "param": None}}, "slow down"),
        ({"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "x"}]},
         "body.messages: field required"),
        ({"detail": [{"loc": [], "msg": "a"}, {"loc": ["b", 0], "msg": "c"}]}, "a; b.0: c"),
        ({"detail": "no chat template"}, "no chat template"),
        ({"message": "No such model", "error": "Not Found"}, "No such model; Not Found"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "CUDA error"}}},
         "Provider returned error; CUDA error"),
        ([{"error": {"message": "listed"}}], "listed"),
        ({"reply": "odd"}, '{"reply": "odd"}'),
        ({}, ""),
    ],
)  # fmt: skip
def test_the_words_of_a_refusal(refusal, words):
    assert error_text(json.dumps(refusal).encode()) == words


def test_a_refusal_that_is_a_page_is_its_words():
    page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
    assert error_text(page) == "502 Bad Gateway nginx"
    assert error_text("Clé refusée".encode("latin-1")) == "Clé refusée"
    assert len(error_text(b"x " * 10_000)) == 300


def test_the_status_that_an_error_amounts_to():
    assert error_status(b'{"error": {"type": "insufficient_quota", "code": null}}') == 402
    assert error_status(b'{"error": {"status": "UNAUTHENTICATED", "code": 7}}') == 401
    assert error_status(b"[]") == error_status(b"<html>") == 0


def ask(model, count=1):
    return model.generate([Request(f"question {index}") for index in range(count)])


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step({"error": CREDITS}), r"the reply is an error \(402\): Provider returned .*credits"),
        (Step({"error": {"message": "none left", "type": "insufficient_quota"}}, 429), "none left"),
        (Step({"error": {"message": "pay", "code": 402}}, 402), "HTTP 402: pay"),
        (Step({"error": {"code": "invalid_api_key", "message": "who?"}}, 400), r"HTTP 400: who\?"),
        (Step({"error": {"code": 401, "message": "who?"}}), r"who\?; check the address"),
    ],
)
def test_a_final_refusal_ends_the_run_even_after_answers(server, served, step, reason):
    server.steps = [Step(said("yes"))]
    server.last = lambda asked: step
    model = served("options.concurrency=1")
    assert ask(model)[0].text == "yes"
    with pytest.raises(ServerError, match=reason):
        ask(model)
    assert len(server.asked) == 2
    server.last = lambda asked: Step(said("paid"))
    assert ask(model)[0].text == "paid"


def test_answers_that_are_there_are_handed_out_before_a_final_refusal_ends_the_run(server, served):
    server.steps = [Step(said("paid"))]
    server.last = lambda asked: Step({"error": {"message": "pay", "code": 402}}, 402)
    model = served("options.concurrency=1")
    requests = [Request(f"question {index}") for index in range(3)]
    model.prefetch(requests)
    (refused,) = model.generate(requests[1:2])
    assert "pay" in (refused.error or "")
    assert model.generate(requests[:1])[0].text == "paid"
    with pytest.raises(ServerError, match="pay"):
        model.generate(requests[2:])


def test_nothing_is_sent_after_a_final_refusal(server, served):
    server.last = lambda asked: Step({"error": {"message": "pay", "code": 402}}, 402)
    model = served("options.concurrency=1")
    requests = [Request(f"question {index}") for index in range(9)]
    model.prefetch(requests)
    with pytest.raises(ServerError, match="pay"):
        model.generate(requests[:1])
    assert model._threads.submit(requests[8]).exception(60)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("step", "attempts", "reason"),
    [
        (Step(json.loads(body(None, "length", reasoning_content="x"))), 1, "went into reasoning"),
        (Step(json.loads(body(None, "content_filter"))), 1, "a filter withheld"),
        (Step(b"<html>login</html>"), 1, "login"),
        (Step({"error": {"message": "long", "code": "context_length_exceeded"}}), 1, "long"),
        (Step({"error": {"message": "busy"}}), 3, "busy"),
        (Step({"detail": [{"loc": ["body"], "msg": "bad"}]}, 422), 1, "HTTP 422: body: bad"),
    ],
)  # fmt: skip
def test_a_sample_without_an_answer_fails_with_the_servers_words(
    server, served, step, attempts, reason
):
    server.last = lambda asked: step if "1" in str(asked["messages"]) else Step(said("yes"))
    model = served()
    first, second = ask(model, 2)
    assert first.error is None
    assert reason in second.error
    assert second.error.endswith(f"({attempts} attempt{'s' if attempts > 1 else ''})")
    assert len(server.asked) == 1 + attempts
    assert reason in model.warnings()[1]


def test_megabytes_of_anything_but_text_are_decoded_at_once():
    """Byte by byte they took minutes."""
    seen = []
    handler = codecs.lookup_error(WESTERN)
    codecs.register_error(WESTERN, lambda error: seen.append(error) or handler(error))
    try:
        with pytest.raises(MalformedError, match="not JSON"):
            read_answer(bytes(range(128, 256)) * 1000)
    finally:
        codecs.register_error(WESTERN, handler)
    assert not seen
