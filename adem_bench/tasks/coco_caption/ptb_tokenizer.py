"""Caption tokens: the official Penn Treebank tokenizer through Java, and a substitute in Python."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from adem_bench.tasks.coco_caption.java import UnavailableError, package_file, run_java

PUNCTUATION = frozenset(
    [
        "''",
        "'",
        "``",
        "`",
        ".",
        "?",
        "!",
        ",",
        ":",
        "-",
        "--",
        "...",
        ";",
        "-LRB-",
        "-RRB-",
        "-LCB-",
        "-RCB-",
    ]
)
"""Tokens that the official scoring drops (pycocoevalcap, ptbtokenizer.py).

Its list has brackets too, as `-LRB-`; tokens are lower-case by then, so `-lrb-` stays.
"""
SECONDS = 600
WORDS = re.compile(
    r"[a-z]+(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b"  # contractions part as in the treebank
    r"|(?:[a-z]\.){2,}|\b(?:dr|jr|mr|mrs|ms|sr|st)\."  # abbreviations keep their dots
    r"|\d+(?:[.,:/]\d+)*|[^\W_]+(?:[-&./][^\W_]+)*|[^\w\s]|_"
)
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def one_line(text: str) -> str:
    """Return text without line breaks, tabs, odd blanks, or METEOR's separator `|||`."""
    return " ".join(text.replace("|||", " ").split())


def official_tokens(captions: Sequence[str]) -> list[str]:
    """Return captions as lower-case tokens joined by blanks, punctuation dropped.

    Raises:
        UnavailableError: no Java, the tokenizer's file is missing, or it fails.
    """
    jar = package_file("tokenizer", "stanford-corenlp-3.4.1.jar")
    lines = [one_line(caption) for caption in captions]
    program = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    # An end mark, because trailing empty lines would be dropped.
    text = "\n".join([*lines, "end"]) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        printed = run_java([*program, "-preserveLines", "-lowerCase"], text, SECONDS, Path(folder))
    tokens = printed.rstrip("\n").split("\n")[:-1]
    if len(tokens) != len(lines):
        raise UnavailableError(
            f"the tokenizer returned {len(tokens)} lines for {len(lines)} captions"
        )
    return [_without_punctuation(line.split()) for line in tokens]


def substitute_tokens(captions: Sequence[str]) -> list[str]:
    """Return captions as lower-case tokens without Java: the same on plain English captions."""
    found = []
    for caption in captions:
        words = WORDS.findall(one_line(caption).lower().replace("...", " "))
        words = [BRACKETS.get(word, word) for word in words if word != '"']
        found.append(_without_punctuation(words))
    return found


def _without_punctuation(words: Sequence[str]) -> str:
    return " ".join(word for word in words if word not in PUNCTUATION)
