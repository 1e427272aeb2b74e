"""How a number is read out of an answer to `how many`."""

from __future__ import annotations

import re
from collections.abc import Callable

UNREAD = -1
WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty"""
NUMBERS = {word: number for number, word in enumerate(WORDS.split())} | {"no": 0, "none": 0}
TOKEN = re.compile(r"\d+|[a-z]+")
LONGEST = 9
"""Digits: anything longer counts nothing in an image."""


def read_number(text: str) -> int:
    """Return the first number of an answer, in digits or as a word; -1 without one."""
    for token in TOKEN.findall(text.lower()):
        if token.isascii() and token.isdigit():
            return int(token) if len(token) <= LONGEST else UNREAD
        if token in NUMBERS:
            return NUMBERS[token]
    return UNREAD


def read_whole(text: str) -> int:
    """Return the number that an answer is, closing full stop aside; -1 if it is more than one."""
    words = text.lower().strip().removesuffix(".").split()
    return read_number(words[0]) if len(words) == 1 else UNREAD


READERS: dict[str, Callable[[str], int]] = {"number": read_number, "whole": read_whole}
