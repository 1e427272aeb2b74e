"""VQA accuracy: an answer is right so far as annotators gave it, three of them making it whole.

Each of the (usually ten) annotators is left out in turn, and the scores against the others are
averaged. Answers are processed before they are compared, by one of several rules: `official` is
that of the VQA evaluation (vqaEval.py of GT-Vision-Lab/VQA, a013f00), the others those of
evaluations that were made after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

NUMBERS = {
    **{"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"},
    **{"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"},
}
ARTICLES = frozenset(("a", "an", "the"))
CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am
mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't
she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd
there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've
you'd you'd've you'll you're you've
"""
MARKS = ';/[]"{}()=+\\_-><@`,?!'
ANY_MARK = re.compile(f"[{re.escape(MARKS)}]")
COMMA_IN_NUMBER = re.compile(r"\d,\d")
FULL_STOP = re.compile(r"\.(?!\d)")
MAX_FULL_STOPS = 32
"""The published pattern passes re.UNICODE (32) where the count belongs."""
WITH_APOSTROPHE = ("ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've")
"""In VizWiz's table; its other contractions are written with a backtick."""
CACHED = 2**16
"""Processed answers that are kept: a few thousand make up most of a data set."""


def _one_apostrophe_less(form: str) -> list[str]:
    return [form[:place] + form[place + 1 :] for place, mark in enumerate(form) if mark == "'"]


@cache
def official_contractions() -> dict[str, str]:
    """Return the VQA evaluation's table: a contraction short of an apostrophe to its full form."""
    table = {key: form for form in CONTRACTIONS.split() for key in _one_apostrophe_less(form)}
    return table | {"somebody'd": "somebodyd"}  # the wrong way round, as published


@cache
def _vizwiz_contractions() -> dict[str, str]:
    # Keys with a backtick never match: punctuation is gone by then.
    table = {
        form.replace("'", ""): form if form in WITH_APOSTROPHE else form.replace("'", "`")
        for form in CONTRACTIONS.split()
        if form.count("'") == 1
    }
    return table | {"couldn'tve": "couldn`t`ve", "hadn'tve": "hadn`t`ve"}


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return the accuracy of an answer in [0, 1], as the VQA evaluation computes it.

    Nothing is processed where all annotators agree, so that there case and punctuation count.

    Args:
        prediction: The answer.
        answers: One of each annotator; a single one leaves nothing to compare with.

    Raises:
        ValueError: no answers.
    """
    return RULES["official"].accuracy(prediction, answers)


def agreement(prediction: str, answers: Sequence[str]) -> float:
    """Return the mean over annotators of min(1, equal answers of the others / 3).

    Raises:
        ValueError: no answers.
    """
    if not answers:
        raise ValueError("no answers to compare with")
    same = sum(answer == prediction for answer in answers)
    others = len(answers) - same
    # An annotator who gave this answer sees one fewer among the others.
    return (same * min(1, max(same - 1, 0) / 3) + others * min(1, same / 3)) / len(answers)


@dataclass(frozen=True, slots=True)
class VqaRule:
    """How an answer and the annotators' are made comparable."""

    prediction: Callable[[str], str]
    answer: Callable[[str], str]
    keeps_unanimous: bool = False
    """Whether nothing is processed where all annotators agree."""

    def accuracy(self, prediction: str, answers: Sequence[str]) -> float:
        """Return the accuracy in [0, 1]; arguments and errors are those of `vqa_accuracy`."""
        return agreement(*self.comparable(prediction, answers))

    def comparable(self, prediction: str, answers: Sequence[str]) -> tuple[str, list[str]]:
        """Return the answer and the annotators' as they are compared."""
        if self.keeps_unanimous and len(set(map(one_line, answers))) <= 1:
            return one_line(prediction), [one_line(answer) for answer in answers]
        return self.prediction(prediction), [self.answer(answer) for answer in answers]


def one_line(text: str) -> str:
    """Return text without line breaks, tabs and margins."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def without_punctuation(text: str) -> str:
    """Return text without marks and full stops, as processPunctuation (vqaEval.py)."""
    return FULL_STOP.sub("", without_marks(text), count=MAX_FULL_STOPS)


def without_marks(text: str) -> str:
    """Return text without marks other than full stops.

    A mark next to a blank somewhere is deleted, as is any mark once a number has a
    comma; other marks become blanks.
    """
    found = text
    if ANY_MARK.search(text):
        glued = COMMA_IN_NUMBER.search(text) is not None
        for mark in MARKS:
            next_to_blank = f"{mark} " in text or f" {mark}" in text
            found = found.replace(mark, "" if glued or next_to_blank else " ")
    return found


def without_articles(text: str, contractions: Mapping[str, str] | None = None) -> str:
    """Return lower-case words, numbers in digits, no articles, contractions with apostrophes."""
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    forms = official_contractions() if contractions is None else contractions
    return " ".join(forms.get(word, word) for word in words if word not in ARTICLES)


@lru_cache(CACHED)
def processed(text: str) -> str:
    """Return an answer as the VQA evaluation compares it."""
    return without_articles(without_punctuation(one_line(text)))


@lru_cache(CACHED)
def _vizwiz(text: str) -> str:
    return without_articles(without_punctuation(one_line(text)), _vizwiz_contractions())


@lru_cache(CACHED)
def _evalai(text: str) -> str:
    spaced = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return processed(spaced)


def _unchanged(text: str) -> str:
    return text


RULES = {
    "official": VqaRule(processed, processed, keeps_unanimous=True),
    "vlm_evaluation": VqaRule(processed, without_punctuation),
    "evalai": VqaRule(_evalai, _evalai),
    "vizwiz": VqaRule(_vizwiz, _unchanged),
}
"""`official`: the VQA evaluation. `vlm_evaluation`: as in TRI-ML's suite (of LAVIS), which
processes the prediction always and of the annotators' answers the punctuation alone. `evalai`:
TextVQA's (m4c_evaluators.py of MMF). `vizwiz`: VizWiz's, annotators' answers as they are."""
