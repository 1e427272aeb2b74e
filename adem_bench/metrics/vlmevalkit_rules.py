"""How VLMEvalKit reads answers by rule, without a judge model, its oddities included.

Read off its commit e8e78f05: `utils/matching_util.py`, `dataset/utils/yorn.py` and
`dataset/utils/vqa_eval.py`. tests/fixtures/vlmevalkit holds what that code made of answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from adem_bench.metrics.vqa import (
    MAX_FULL_STOPS,
    agreement,
    one_line,
    without_articles,
    without_marks,
)

COMMIT = "e8e78f05f3080fe28154f2130321f17951c3be94"
NONE, REFUSED = "", "Z"
"""No option could be read; the answer declines to name one."""
MISSING = frozenset(
    [
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND"),
        *("1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    ]
)
"""Cells that pandas takes for empty ones, and so VLMEvalKit: an option `None` does not exist."""
MISSING_TEXT = "nan"
"""What it makes of such a cell where it needs a text."""
FAILED = "Failed to obtain answer via API"
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
STATED = re.compile(r"answer\s+is\s+\**([A-D])", re.IGNORECASE)
LAST_WORDS = 4
FULL_STOP = re.compile(r"(?<!\d)\.(?!\d)")


def read_option(answer: str, options: Mapping[str, str]) -> str:
    """Return the letter of the option that an answer names, `Z` for a refusal, or nothing.

    A letter counts if it alone of the options' stands among the last four words, or behind
    "answer is"; else the one option whose text the answer holds, if the answer is not too long.

    Args:
        answer: What the model wrote.
        options: Letters to texts.
    """
    return _by_letter(answer, options) or _by_text(answer, options)


def _by_letter(answer: str, options: Mapping[str, str]) -> str:
    if FAILED in answer:
        return NONE
    if any(refusal in answer for refusal in REFUSALS):
        return REFUSED
    words = answer.translate(SEPARATORS).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and words.index(named[0]) >= len(words) - LAST_WORDS:
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    stated = STATED.search(answer)
    letter = stated.group(1).upper() if stated else NONE
    return letter if letter in options else NONE


def _by_text(answer: str, options: Mapping[str, str]) -> str:
    lowered = answer.lower()
    if len(lowered) > 2 * sum(len(text) for text in options.values()):
        return NONE
    found = [letter for letter, text in options.items() if text.lower() in lowered]
    return found[0] if len(found) == 1 else NONE


def read_yes_no(answer: str) -> Literal["yes", "no", "other"]:
    """Read an answer: exactly one of the words yes and no decides, wherever it stands."""
    found = {"yes", "no"} & set(_without_punctuation(answer.lower()).split())
    return ("yes" if "yes" in found else "no") if len(found) == 1 else "other"


def _without_punctuation(text: str) -> str:
    """Return text as the VQA evaluation does, but full stops stay behind digits too."""
    return FULL_STOP.sub("", without_marks(text), count=MAX_FULL_STOPS)


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return VQA accuracy in [0, 1]: like the official one, but everything is always processed.

    Raises:
        ValueError: no answers.
    """
    return agreement(_processed(prediction), [_processed(answer) for answer in answers])


def _processed(text: str) -> str:
    return without_articles(_without_punctuation(one_line(text)))
