"""What a chat model thought aloud, told apart from what it answered (docs/answers.md).

Reasoning stands between tags, or before an end tag whose start the chat template wrote into the
prompt. A response that begins to think and never stops has no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator

DEFAULT_TAGS = (
    *("think", "thinking", "thought", "thoughts", "reasoning", "reason", "reflection"),
    *("analysis", "scratchpad", "seed:think"),
    "[THINK] [/THINK]",
    "\u25c1think\u25b7 \u25c1/think\u25b7",
    "<|begin_of_thought|> <|end_of_thought|>",
    "<|START_THINKING|> <|END_THINKING|>",
    "<|channel|>analysis<|message|> <|channel|>final<|message|>",
    "<unused94> <unused95>",
)
"""Tags of models that are known: names, and pairs of a start and an end as they stand there."""
FORMS = (("<", ">"), ("<|", "|>"))
"""What a tag's name stands in: `<think>`, `<|think|>`; case does not matter."""
TAG = re.compile(r"\S+(?: \S+)?")
END_TOKENS = (
    *("</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<eos>"),
    *("<|return|>", "<|end_of_text|>", "<|END_RESPONSE|>"),
)
"""Tokens that end a turn, and that some servers leave in the text."""
ANSWER = re.compile(
    r"<(answer|final_answer|conclusion)>|<\|(begin_of_box|begin_of_solution|start_response)\|>",
    re.IGNORECASE,
)
"""The start of an answer that has a tag of its own."""
ANSWER_END = re.compile(
    r"(?:</(?:answer|final_answer|conclusion)>|"
    r"<\|(?:end_of_box|end_of_solution|end_response)\|>)\Z",
    re.IGNORECASE,
)
INVISIBLE = "\ufeff\u200b"
UNANSWERED = (
    "the response ends within the model's reasoning, and no answer follows: its tokens were used "
    "up (raise options.max_new_tokens), or it ended of itself"
)
"""Why a response without an answer fails."""


def check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags, if each is a name such as `think`, or a start and an end with a blank.

    Raises:
        ValueError: one is neither.
    """
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise ValueError(
                f"{tag!r} is not a tag: expected a name (`think`), or a start and an end as the "
                "model writes them, with one blank between (`<|think_on|> <|think_off|>`)"
            )
    return tags


ReasoningTags = Annotated[tuple[str, ...], AfterValidator(check_tags)]
"""What a card may say of them."""


def stated_tags(tags: Sequence[str]) -> dict[str, Any]:
    """Return what a model's fingerprint says of its tags: nothing of those it has by default."""
    return {} if tuple(tags) == DEFAULT_TAGS else {"reasoning_tags": list(tags)}


def answer_in(text: str, tags: Sequence[str] = DEFAULT_TAGS) -> str | None:
    """Return what a response says besides its reasoning; None if that is nothing.

    What stands between a start and an end is reasoning, and all before an end without a start. A
    start without an end leaves no answer. A response without reasoning is its own answer, whatever
    it is. An answer that ends the response in a tag of its own (`<answer>`) is that alone, and
    tokens that end a turn are none of it.

    Args:
        text: All that the model wrote.
        tags: Of the reasoning, as `DEFAULT_TAGS`.
    """
    outside: list[str] = []
    place, is_open, found = 0, False, False
    pattern = _tag_pattern(tuple(tags))
    for tag in pattern.finditer(text) if pattern else ():
        found = True
        if tag.lastgroup == "start":
            if not is_open:
                outside.append(text[place : tag.start()])
            is_open = True
        else:
            if not is_open:
                outside.clear()
            is_open = False
        place = tag.end()
    if is_open:
        return None
    if not found:
        return _bare(text)
    outside.append(text[place:])
    parts = (part.strip() for part in outside)
    return _bare("\n".join(part for part in parts if part)).strip() or None


def opens_reasoning(prompt: str, tags: Sequence[str] = DEFAULT_TAGS) -> str:
    """Return the start tag in which a prompt ends, with what follows it; nothing if in none.

    A chat template that ends so has the model begin in its reasoning.
    """
    pattern = _tag_pattern(tuple(tags))
    last = prompt[-200:]
    tags_there = list(pattern.finditer(last)) if pattern else []
    if not tags_there or tags_there[-1].lastgroup != "start":
        return ""
    tag = tags_there[-1]
    return "" if last[tag.end() :].strip() else last[tag.start() :]


def is_tag(text: str, tags: Sequence[str] = DEFAULT_TAGS) -> bool:
    """Return whether a text is the start or the end of a reasoning."""
    pattern = _tag_pattern(tuple(tags))
    return bool(pattern and pattern.fullmatch(text))


@lru_cache(maxsize=16)
def _tag_pattern(tags: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return what finds a start or an end, as a group of that name."""
    starts, ends = [], []
    for tag in tags:
        start, _, end = tag.partition(" ")
        if end:
            starts.append(re.escape(start))
            ends.append(re.escape(end))
            continue
        for left, right in FORMS:
            inner = rf"{re.escape(left)}{{}}{re.escape(tag)}\s*{re.escape(right)}"
            starts.append(inner.format(""))
            ends.append(inner.format("/"))
    if not starts:
        return None
    return re.compile(f"(?P<end>{'|'.join(ends)})|(?P<start>{'|'.join(starts)})", re.IGNORECASE)


def _bare(text: str) -> str:
    """Return a text without what ends a turn, and without a tag around the answer at its end."""
    text = text.lstrip(INVISIBLE)
    bare = text.rstrip()
    while ended := next((token for token in END_TOKENS if bare.endswith(token)), ""):
        bare = text = bare.removesuffix(ended).rstrip()
    starts = list(ANSWER.finditer(bare))
    end = ANSWER_END.search(bare)
    if len(starts) != 1 or end is None or starts[0].end() > end.start():
        return text
    return bare[starts[0].end() : end.start()].strip()
