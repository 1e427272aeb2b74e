"""What counts as an answer, whatever model gave it."""

from __future__ import annotations

import math

import pytest

from adem_bench.models.settling import settle
from adem_bench.records import Request, Response

ASKED = Request("Which?", max_new_tokens=8)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (Response("", finish_reason="filter"), "withheld"),
        (Response("Yes", finish_reason="filter"), "withheld"),
        (Response("Ye", finish_reason="error"), "did not end in order"),
        (Response("The picture", finish_reason="length"), "raise options.max_new_tokens"),
        (Response("", finish_reason="length"), "cut at 8 tokens"),
    ],
)
def test_what_is_no_answer_has_an_error_that_says_the_remedy(response, words):
    settled = settle(ASKED, response, cut_is_failed=True)
    assert words in (settled.error or "")
    assert settled.text == response.text


@pytest.mark.parametrize("reason", ["", "stop"])
@pytest.mark.parametrize("text", ["", "B", " yes "])
def test_an_answer_stays_as_it_is_an_empty_one_too(text, reason):
    response = Response(text, finish_reason=reason)
    assert settle(ASKED, response, cut_is_failed=True) == response


def test_a_cut_answer_counts_where_a_published_rule_says_so():
    response = Response("a dog on a", finish_reason="length")
    assert settle(ASKED, response, cut_is_failed=False) == response


def test_an_error_is_how_it_ended():
    settled = settle(ASKED, Response("", error="no such image"), cut_is_failed=True)
    assert (settled.error, settled.finish_reason) == ("no such image", "error")


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_log_probabilities_that_are_no_numbers_are_no_answer(odd):
    request = Request("Which?", choices=(" A", " B"))
    settled = settle(request, Response("A", choice_logprobs=(-1.0, odd)), cut_is_failed=False)
    assert "not finite" in (settled.error or "")
    fine = Response("A", choice_logprobs=(-1.0, -math.inf), finish_reason="length")
    assert settle(request, fine, cut_is_failed=True).error is None
    assert settle(request, Response("A"), cut_is_failed=False).error


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The answer is B. Or is it C?", "The answer is B"),
        ("The answer is B\nQuestion: 2", "The answer is B"),
        ("two\nQuestion: answer is C", "two"),
        ("C", "C"),
    ],
)
def test_nothing_is_kept_behind_what_ends_an_answer(text, wanted):
    request = Request("Which?", stop_pattern="answer is ([A-Z])", stop=("\nQuestion", "###"))
    settled = settle(request, Response(text, finish_reason="length"), cut_is_failed=True)
    assert settled.text == wanted
    assert (settled.error is None) == (wanted != text)


TAGS = ("think",)


@pytest.mark.parametrize("end", ["", "stop", "length"])
@pytest.mark.parametrize("text", ["<think>A? B?", "A? B?</think>", "<think>A</think> <think>B"])
def test_reasoning_that_no_answer_follows_is_none(text, end):
    settled = settle(ASKED, Response(text, finish_reason=end), True, TAGS)
    assert "raise options.max_new_tokens" in (settled.error or "")
    assert settled.text == text
    # Of models without such tags it is what they said.
    assert settle(ASKED, Response(text), True).error is None


def test_what_follows_the_reasoning_is_read_and_all_of_it_kept():
    response = Response("<think>A?</think>\n\nB", finish_reason="stop")
    settled = settle(ASKED, response, True, TAGS)
    assert (settled.text, settled.answer, settled.error) == (response.text, "B", None)
    assert settle(ASKED, Response("B"), True, TAGS) == Response("B")


def test_an_answer_ends_where_it_was_to_end_and_not_within_the_reasoning():
    asked = Request("Which?", stop=("#",), stop_pattern="is [A-Z]")
    text = "<think>is A # is C</think>It is B, or not # x"
    settled = settle(asked, Response(text), True, TAGS)
    assert (settled.text, settled.answer) == (text, "It is B")


def test_log_probabilities_count_whatever_was_written():
    asked = Request("Which?", choices=(" A", " B"))
    response = Response("<think>A", choice_logprobs=(-1.0, -2.0))
    assert settle(asked, response, True, TAGS).error is None


def test_an_answer_that_ends_in_what_it_was_to_end_in_is_whole():
    request = Request("Which?", max_new_tokens=5, stop_pattern=r"answer is [A-E]\.")
    settled = settle(request, Response("The answer is B.", finish_reason="length"), True)
    assert (settled.error, settled.finish_reason) == (None, "stop")


def test_reasoning_that_a_stop_string_ended_says_so():
    request = Request("Which?", stop=("\n",))
    settled = settle(request, Response("<think>", finish_reason="stop"), True, ("think",))
    assert "stop strings ended it ('\\n')" in (settled.error or "")
