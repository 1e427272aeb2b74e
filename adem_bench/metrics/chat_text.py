"""Text of chat models without what is there for the eye: emphasis, mark-up, typographic forms."""

from __future__ import annotations

import re
import unicodedata

STATED = "\nanswer: {}\n"
"""What an answer in a box or a tag of its own becomes: a statement."""
BOX = re.compile(r"\\f?boxed\s*\{")
ANSWER_TAG = re.compile(
    r"(?P<end></(?:answer|final_answer|conclusion)>|<\|end_of_(?:box|solution)\|>)"
    r"|<(?:answer|final_answer|conclusion)>|<\|begin_of_(?:box|solution)\|>",
    re.IGNORECASE,
)
HTML = re.compile(r"</?(?:b|i|u|em|strong|mark|p|br|span|div|code|h[1-6])\s*/?>", re.IGNORECASE)
LATEX = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathit|mathsf|bf|rm)\s*"
    r"\{([^{}\n]{0,200})\}"
)
FORMULA = re.compile(r"\\[()\[\]]|\\,|\\;|\\!|\\ ")
DOLLARS = re.compile(r"\${1,2}(?=\S)([^$\n]{1,200}?)(?<=\S)\${1,2}(?!\d)")
"""A formula; two prices are none."""
EMPHASIS = re.compile(r"(?<!\w)[*_`]{1,3}|[*_`]{1,3}(?!\w)")
LINE_START = re.compile(r"^[ \t]*(?:#{1,6}[ \t]*|>[ \t]*|[-+\u2022\u00b7][ \t]+)+", re.MULTILINE)
QUOTES = str.maketrans(
    {
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d\u300e\u300f", '"'),
        **dict.fromkeys("\u2018\u2019\u201a\u02bc", "'"),
        **dict.fromkeys("\u3010\u3014", "["),
        **dict.fromkeys("\u3011\u3015", "]"),
        **dict.fromkeys("\u3002", "."),
        **dict.fromkeys("\u3001", ","),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
        **dict.fromkeys("\u2212\u2010\u2011", "-"),
        "\r": "\n",
    }
)
BLANKS = re.compile(r"[^\S\n]+")


def plain(text: str) -> str:
    r"""Return a text as it is read aloud, its lines kept.

    Emphasis, headings, bullets, HTML and LaTeX around words go; full-width forms and typographic
    quotes become plain ones; `\boxed{X}` and `<answer>X</answer>` become a line `answer: X`.
    """
    text = unicodedata.normalize("NFKC", _unboxed(text)).translate(QUOTES)
    text = ANSWER_TAG.sub(lambda tag: "\n" if tag["end"] else STATED.format("").rstrip("\n"), text)
    text = DOLLARS.sub(r"\1", FORMULA.sub("", LATEX.sub(r"\1", LATEX.sub(r"\1", text))))
    text = LINE_START.sub("", EMPHASIS.sub("", HTML.sub(" ", text)))
    return BLANKS.sub(" ", LINE_START.sub("", text))


def _unboxed(text: str) -> str:
    r"""Return a text whose boxes, `\boxed{…}`, are statements; braces inside may be nested."""
    parts, place = [], 0
    for box in BOX.finditer(text):
        if box.start() < place:
            continue  # inside another box
        depth, end = 1, box.end()
        limit = min(len(text), end + 1000)
        while end < limit and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        inner = text[box.end() : end - 1 if depth == 0 else end]
        parts += [text[place : box.start()], STATED.format(inner)]
        place = end
    return "".join([*parts, text[place:]])
