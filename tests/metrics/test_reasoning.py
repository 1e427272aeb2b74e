"""What a model thought aloud is not what it answered."""

from __future__ import annotations

import pytest

from adem_bench.metrics.reasoning import (
    DEFAULT_TAGS,
    answer_in,
    check_tags,
    is_tag,
    opens_reasoning,
)
from support.deadlines import deadline

TAGS = [
    ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<Thought>", "</Thought>"),
    ("<reasoning>", "</reasoning>"), ("<analysis>", "</analysis>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"), ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|think|>", "<|/think|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<unused94>", "<unused95>"),
]  # fmt: skip


@pytest.mark.parametrize(("start", "end"), TAGS)
def test_the_answer_follows_the_reasoning(start, end):
    assert answer_in(f"{start}No dog. A is out.\n{end}\n\nYes") == "Yes"
    assert answer_in(f"\n{start}{end}Yes") == "Yes"
    # The chat template wrote the start into the prompt.
    assert answer_in(f"No dog. A is out.\n{end}\n\nYes") == "Yes"
    assert answer_in(f"{start}a{start}b{end}c{end}Yes") == "Yes"
    assert answer_in(f"{start}a{end}Yes{start}b{end}") == "Yes"


@pytest.mark.parametrize(("start", "end"), TAGS)
def test_reasoning_that_never_ends_or_that_nothing_follows_leaves_no_answer(start, end):
    for text in (f"{start}No dog", start, f"Yes. {start}but", f"{start}No dog{end}", f"a{end} \n"):
        assert answer_in(text) is None, text
    assert answer_in(f"{start}No dog{end}<|im_end|>") is None


@pytest.mark.parametrize(
    "text",
    ["Yes", " Yes\n", "", "a < b", "I think B", "</thinker> B", "[Analysis] B", "<box>1</box>"],
)
def test_a_response_without_reasoning_is_its_own_answer(text):
    assert answer_in(text) == text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("B</s>", "B"), ("Yes<|im_end|>\n", "Yes"), ("<think>x</think>Yes<|im_end|>", "Yes"),
        ("\ufeffYes", "Yes"), ("<answer> a cat </answer>", "a cat"),
        ("<think>x</think>\n<answer>B</answer>", "B"), ("<|begin_of_box|>7<|end_of_box|>", "7"),
        ("<SUMMARY>s</SUMMARY><REASONING>r</REASONING><CONCLUSION>B</CONCLUSION>", "B"),
        ("<answer>A</answer><answer>B</answer>", "<answer>A</answer><answer>B</answer>"),
    ],
)  # fmt: skip
def test_what_ends_a_turn_or_wraps_an_answer_is_none_of_it(text, answer):
    assert answer_in(text) == answer


def test_a_card_names_other_tags():
    assert answer_in("<ponder>A?</ponder>B", ["ponder"]) == "B"
    assert answer_in("<|on|>A?<|off|>B", ["<|on|> <|off|>"]) == "B"
    assert answer_in("<think>A?</think>B", []) == "<think>A?</think>B"
    assert check_tags(DEFAULT_TAGS) == DEFAULT_TAGS
    for wrong in ("", "a b c", " "):
        with pytest.raises(ValueError, match="is not a tag: expected"):
            check_tags([wrong])


@pytest.mark.parametrize(
    ("prompt", "start"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\n"), ("[INST]a[/INST][THINK]", "[THINK]"),
        ("assistant\n<think>\n\n</think>\n\n", ""), ("assistant\n", ""), ("<think> a", ""),
    ],
)  # fmt: skip
def test_a_prompt_may_begin_the_reasoning(prompt, start):
    assert opens_reasoning(prompt) == start


def test_tags_are_known_one_by_one():
    assert is_tag("<think>")
    assert is_tag("[/THINK]")
    assert not is_tag("think")


def test_a_long_response_is_read_in_one_pass():
    with deadline():
        assert answer_in("<think>" * 150_000) is None
        assert answer_in("</think>" * 150_000 + "B") == "B"
        assert answer_in("<answer>" * 150_000) is not None
