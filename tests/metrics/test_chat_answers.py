"""The rule `chat`: what chat models' sentences mean, and what they leave open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adem_bench.metrics.chat_answers import TRUE_FALSE, read_choice, read_yes_no
from adem_bench.metrics.chat_text import plain
from support.deadlines import deadline
from tools.chat_answer_goldens import PAGE, page

FIXTURES = Path(__file__).parents[1] / "fixtures" / "chat_answers"
THINGS = {"A": "a cat", "B": "a rock", "C": "a car"}
TEXTS = st.text(
    st.sampled_from("ABCI abc.:,()[]*'\"\n?=\\{}answerisorck\u2212\u0130\uff22"), max_size=60
)


def load(name):
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["answers.json", "adversarial.json"])
def test_every_answer_is_read_as_it_is_meant(name):
    data = load(name)
    wrong = [
        (entry["answer"], found)
        for entry in data["answers"]
        if (found := read_choice(entry["answer"], data["options"][entry["options"]]))
        != entry["meant"]
    ]
    assert len(data["answers"]) >= 200
    assert wrong == []


def test_the_page_shows_what_the_three_rules_read():
    assert PAGE.read_text(encoding="utf-8") == page(load("answers.json"))


@pytest.mark.parametrize("lead", ["", "A cat has fur. C is a vehicle.\n\n", "Let me see: A? No.\n"])
@pytest.mark.parametrize(
    "said",
    ["Answer: {}", "The answer is {}.", "The answer is ({}).", "**Answer:** {}", "\\boxed{{{}}}",
     "So the correct option is **{}**.", "Final answer: {}) a rock", "<answer>{}</answer>"],
)  # fmt: skip
def test_a_statement_counts_whatever_stands_before_it(lead, said):
    assert read_choice(lead + said.format("B"), THINGS) == "B"
    # Twice the same is the same, and two are none.
    assert read_choice(f"{said.format('B')}\n{said.format('B')}", THINGS) == "B"
    assert read_choice(f"{said.format('B')}\n{said.format('C')}", THINGS) == ""


@pytest.mark.parametrize(
    ("texts", "answer", "letter"),
    [
        # Options whose texts are letters: the prompt asks for the letter.
        (["C", "D", "A"], "C", "C"),
        (["C", "D", "A"], "The answer is A.", "A"),
        (["X", "Y", "Z"], "Y", "B"),
        # Alike but for case, or all the same.
        (["Polish", "polish"], "polish", "B"),
        (["same", "same"], "same", ""),
        # One text within another.
        (["light", "light blue", "blue"], "It is light blue.", "B"),
        (["0.5 m", "0.5 mm", "5 m"], "0.5 mm", "B"),
        (["1,000", "1", "10"], "1,000", "A"),
        (["", "rock"], "rock", "B"),
    ],
)
def test_options_that_look_like_something_else(texts, answer, letter):
    assert read_choice(answer, dict(zip("ABCDEFG", texts, strict=False))) == letter


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ("Yes", "yes"), ("no.", "no"), ("**Yes**", "yes"), ("Yes, there is a dog.", "yes"),
        ("No, there is no dog.", "no"), ("No there isn't", "no"), ("Answer: Yes", "yes"),
        ("The answer is no.", "no"), ("\\boxed{Yes}", "yes"), ("<answer>No</answer>", "no"),
        ("I see a tail.\n\nYes", "yes"), ("There is a dog, so yes.", "yes"),
        ("Is there a dog? Yes.", "yes"), ("Final answer: **No**", "no"),
        ("\uff39\uff45\uff53", "yes"),
        ("Yes, no doubt about it.", "yes"), ("I would say no.", "no"), ("\u201cYes\u201d", "yes"),
        ("Yes\n\nExplanation: there is no cat, but a dog.", "yes"),
    ],
)  # fmt: skip
def test_yes_and_no_are_read_where_they_are_said(answer, meaning):
    assert read_yes_no(answer) == meaning


@pytest.mark.parametrize(
    "answer",
    ["Yes sure", "Yes \ufffd sure", "yes " + "x" * 40_000, "Yes\x0b\x00\x1b[31m, \t\"a\"\r\nmore",
     "**Yes** the picture shows a dog"],
)  # fmt: skip
def test_yes_may_be_followed_by_anything_that_does_not_deny_it(answer):
    assert read_yes_no(answer) == "yes"


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ("A cat is not visible in the image. It shows a dog.", ""),
        ("A and C are wrong. The picture shows fur, as in B.", ""),
        ("The incorrect answer is A, so the remaining one is B.", ""),
        ("The wrong answer is B", ""),
        ("A is wrong, the answer is C", "C"),
        ("B is not right. It is C.", "C"),
        ("A cat", "A"), ("A: a cat", "A"), ("(A) a cat", "A"),
    ],
)  # fmt: skip
def test_what_is_ruled_out_is_not_the_answer_and_an_article_is_no_letter(answer, meaning):
    assert read_choice(answer, THINGS) == meaning


@pytest.mark.parametrize(
    "answer",
    [
        "Oui", "Sí, hay un perro", "Ja", "Nein", "\u662f", "\u3044\u3044\u3048", "Da", "Correct",
        "That is right.", "Yeah", "Nope", "y", "N", "True", "1", "Not really", "No dog",
        "No dogs are visible.", "There is no dog.", "None", "Yesterday", "Noah is there.",
        "Yes and no", "Yes or no?", "yes/no", "Yes\n\nNo", "No. Wait, yes.", "I cannot tell.",
        "The answer is yes. The answer is no.", "I'm not sure whether the answer is yes.", "",
    ],
)  # fmt: skip
def test_yes_and_no_in_other_words_or_at_once_are_not_guessed(answer):
    assert read_yes_no(answer) == "other"


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [("True", "yes"), ("false.", "no"), ("True, it is on the mat.", "yes"), ("Yes", "yes"),
     ("The answer is False.", "no"), ("True and false", "other"), ("Correct", "other")],
)  # fmt: skip
def test_statements_are_called_true_or_false_too(answer, meaning):
    assert read_yes_no(answer, TRUE_FALSE) == meaning


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_whatever_is_written_is_read_as_an_option_or_as_none(text):
    assert read_choice(text, THINGS) in ("", *THINGS)
    assert read_choice(text, {}) == ""
    assert read_yes_no(text) in ("yes", "no", "other")
    # What is for the eye alone changes nothing.
    assert read_choice(f"**{plain(text)}**", THINGS) in ("", *THINGS)


@pytest.mark.parametrize(
    "piece", ["a", "[", "\n", "B\n", "answer is ", "\\boxed{", "*", "$", "a\n"]
)
def test_long_answers_are_read_in_one_pass(piece):
    text = piece * (1_000_000 // len(piece))
    with deadline():
        assert read_choice(text, THINGS) in ("", *THINGS)
        assert read_yes_no(text) == "other"


def test_of_a_long_answer_beginning_and_end_are_read():
    assert read_choice("It is grey. " * 100_000 + "The answer is B.", THINGS) == "B"
    assert read_choice("Answer: B\n" + "It is grey. " * 100_000, THINGS) == "B"
