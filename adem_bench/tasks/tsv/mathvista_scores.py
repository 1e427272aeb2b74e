"""MathVista without a judge model: the answer is found by rule, or not at all.

The official scorer has GPT-4 find the answer in the response. `extracted` looks for it by rule;
`vlmevalkit` takes only responses that VLMEvalKit scores before it asks its judge (mathvista.py,
commit e8e78f05): a number alone, or an option.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adem_bench.metrics.chat_answers import read_choice
from adem_bench.metrics.vlmevalkit_rules import NONE, read_option

NUMBER = re.compile(r"[-\u2212]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?|[-\u2212]?\.\d+")
LIST = re.compile(r"\[[^\[\]]*\]")
CHAT = "chat"
MAX_CHARACTERS = 10_000
"""Of a response that is looked at: its end."""


@dataclass(frozen=True, slots=True)
class MathQuestion:
    """What a question's answer must be."""

    answer: str
    """The option's letter for multiple choice, else the answer itself."""
    answer_type: str
    """`integer`, `float`, `list` or `text`."""
    precision: int | None
    """Decimal places of a float."""
    options: Mapping[str, str]
    """Letters to texts; none if it is not multiple choice."""


def read_extracted(response: str, question: MathQuestion) -> tuple[str, bool]:
    """Return the answer found in a response, and whether it is right.

    Multiple choice is read as VLMEvalKit reads it. Of numbers the last one counts, rounded as
    the question asks; of lists the last one; a text must be the response, or its last line.
    """
    response = response[-MAX_CHARACTERS:]
    if question.options:
        letter = read_option(response, question.options)
        return letter, letter == question.answer
    if question.answer_type in ("integer", "float"):
        return _number(response, question)
    if question.answer_type == "list":
        found = LIST.findall(response)
        wanted = _list(question.answer)
        return (
            (found[-1], wanted is not None and _list(found[-1]) == wanted) if found else ("", False)
        )
    last = response.strip().rpartition("\n")[2].strip().rstrip(".")
    return last, last.lower() == question.answer.strip().rstrip(".").lower()


def _number(response: str, question: MathQuestion) -> tuple[str, bool]:
    found = NUMBER.findall(response)
    if not found:
        return "", False
    number = found[-1].replace(",", "").replace("\u2212", "-")
    try:
        value, wanted = float(number), float(question.answer)
    except ValueError:
        return number, False
    if question.answer_type == "integer":
        return number, value == wanted
    places = 2 if question.precision is None else question.precision
    return number, round(value, places) == round(wanted, places)


def _list(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def read_vlmevalkit(response: str, question: MathQuestion) -> tuple[str, bool]:
    """Return what VLMEvalKit takes from a response without its judge, and whether it is right."""
    if question.options:
        letter = read_option(response, question.options)
        return letter, letter == question.answer
    convert: Callable[[str], float] = int if question.answer_type == "integer" else float
    try:
        value, wanted = convert(response), convert(question.answer)
    except (ValueError, OverflowError):
        return NONE, False
    if question.answer_type not in ("integer", "float"):
        return NONE, False
    # A right 0 is false in its code, so that the judge is asked.
    return response.strip(), value == wanted and bool(value)


def read_chat(response: str, question: MathQuestion) -> tuple[str, bool]:
    """Return what `read_extracted` does, but options by the rule `chat`."""
    if not question.options:
        return read_extracted(response, question)
    letter = read_choice(response, question.options)
    return letter, letter == question.answer


READERS: Mapping[str, Callable[[str, MathQuestion], tuple[str, bool]]] = {
    "extracted": read_extracted,
    "vlmevalkit": read_vlmevalkit,
    CHAT: read_chat,
}
