"""Multiple choice: reading the option that an answer names, and questions asked in rotations.

In circular evaluation (MMBench) a question is asked several times, its options rotated, and
counts as right if it is answered rightly each time.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from adem_bench.metrics.chat_answers import read_choice
from adem_bench.metrics.grouped import Scored, grouped_metrics, grouped_statistics, majority, unread
from adem_bench.metrics.intervals import Statistics, share_metric
from adem_bench.metrics.vlmevalkit_rules import NONE, read_option
from adem_bench.records import Json, Metric

ACCURACY = "accuracy"
FIRST, EVERY = "first_rotation", "every_rotation"
CHAT = "chat"
"""The rule for models that answer in sentences; theirs by default."""
CHAT_OPTIONS: Mapping[str, Json] = {"answer_rule": CHAT, "max_new_tokens": 256}
"""How such models are asked."""
CHAT_SCORING = "options are read by the rule `chat` (docs/answers.md)"
ROTATION_STEP = 1_000_000
"""Rotations of a question have its index plus a multiple of this (multiple_choice.py)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answered row."""

    question: str
    """What rotations of a question share."""
    prediction: str
    reference: str
    groups: tuple[str, ...]
    is_unrotated: bool = True
    """Whether it is the question as it stands, not a rotation."""

    @property
    def is_right(self) -> bool:
        """Whether the right option was read."""
        return self.prediction == self.reference


def read_strict(answer: str, letters: Sequence[str]) -> str:
    """Return a listed option's letter at the start, alone or as `(B)`, `B.`, `B: …`; or nothing."""
    found = re.match(rf"\s*\(?([{''.join(letters)}])(?!\w|['\u2019]\w)", answer)
    return found.group(1) if found else NONE


def _strict(answer: str, options: Mapping[str, str]) -> str:
    return read_strict(answer, list(options)) if options else NONE


READERS: Mapping[str, Callable[[str, Mapping[str, str]], str]] = {
    "vlmevalkit": read_option,
    "strict": _strict,
    CHAT: read_choice,
}


NO_OPTION = -1
"""The index of no option."""


def read_option_index(text: str, options: Sequence[str], rule: str = "strict") -> int:
    """Return the index of the option that an answer names, -1 for none.

    Args:
        text: The answer.
        options: Texts of the options, of which the first has the letter A.
        rule: One of `READERS`; by `strict` an answer may also be just one option's text.
    """
    by_letter = dict(zip(ascii_uppercase, options, strict=False))
    letter = READERS[rule](text, by_letter)
    if letter in by_letter:
        return ascii_uppercase.index(letter)
    said = text.strip().lower().removesuffix(".")
    same = [place for place, option in enumerate(options) if option.lower() == said]
    return same[0] if rule == "strict" and len(same) == 1 else NO_OPTION


def question_of(index: str) -> str:
    """Return what the rotations of a question share; the index itself if it is not a number."""
    bare = index.strip()
    return str(int(bare) % ROTATION_STEP) if bare.isascii() and bare.isdigit() else bare


def choice_metrics(answers: Sequence[Choice], circular: bool) -> tuple[Metric, ...]:
    """Return the accuracy, overall and by group, and how many answers named no option.

    Args:
        answers: The answered rows.
        circular: Whether rows of one question count together; the shares of right first
            rotations and of right rows then come too.
    """
    scored = choice_scores(answers, circular)
    extra = []
    if circular:
        first = [answer.is_right for answer in answers if answer.is_unrotated]
        extra = [_share(FIRST, first), _share(EVERY, [answer.is_right for answer in answers])]
    elif answers:
        extra = [majority([answer.reference for answer in answers])]
    missing = sum(answer.prediction == NONE for answer in answers)
    accuracy, *by_group = grouped_metrics(scored, ACCURACY, _unit(circular))
    return (accuracy, unread(missing, len(answers), "option"), *extra, *by_group)


def choice_statistics(answers: Sequence[Choice], circular: bool) -> Statistics:
    """Return what the accuracies rest on, by question."""
    return grouped_statistics(choice_scores(answers, circular), ACCURACY, _unit(circular))


def _unit(circular: bool) -> str:
    return "questions" if circular else "images"


def choice_scores(answers: Sequence[Choice], circular: bool) -> list[Scored]:
    """Return one score per question; one per row where questions are asked once.

    A question whose first rotation has no answer is left out, as VLMEvalKit leaves it out.
    """
    if not circular:
        return [Scored(a.question, float(a.is_right), a.groups) for a in answers]
    rotations: dict[str, list[Choice]] = defaultdict(list)
    for answer in answers:
        rotations[answer.question].append(answer)
    return [
        Scored(first.question, float(all(a.is_right for a in rotations[first.question])), groups)
        for first in answers
        if first.is_unrotated
        for groups in [first.groups]
    ]


def _share(name: str, right: Sequence[bool]) -> Metric:
    if not right:
        return Metric(name, None, "fraction", 0, "no such question was answered")
    # Rotations of a question are not independent: no interval for their share.
    if name == EVERY:
        return Metric(name, sum(right) / len(right), "fraction", len(right))
    return share_metric(name, sum(right), len(right))


def most_probable_choice(logprobs: Sequence[float], count: int) -> int | None:
    """Return the index of the greatest; None if there are not so many, or one is not a number."""
    if len(logprobs) != count or any(math.isnan(value) for value in logprobs):
        return None
    return max(range(count), key=logprobs.__getitem__)
