"""MathVista with a judge: it is shown the published examples, and finds the answer in a response.

The prompt is MathVista's (Lu et al. 2024), as VLMEvalKit (`ms-vlmeval` 0.0.20) words it. A response
that already is an answer is not shown to the judge. What it found is then matched: as MathVista's
own scorer does, or under `answer_rule: vlmevalkit` as VLMEvalKit does, which counts no list and no
text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from adem_bench.tasks.tsv.mathvista_scores import MathQuestion, read_vlmevalkit
from adem_bench.tasks.tsv.short_answer_scores import levenshtein

MAX_TOKENS = 128
"""Of what the judge says."""
MOST_CHARACTERS = 2000
"""Of what it says that is compared with options."""
LETTER = re.compile(r"\(([a-zA-Z])\)")
TASK = """
Please read the following example.
Then extract the answer from the model response and type it at the end of the prompt.

"""
HINTS = (
    "Hint: Please answer the question requiring an integer answer and provide the final value,\n"
    "e.g., 1, 2, 3, at the end.",
    "Hint: Please answer the question requiring a floating-point number with one decimal place and "
    "provide the final value,\ne.g., 1.2, 1.3, 1.4, at the end.",
    "Hint: Please answer the question requiring a floating-point number with two decimal places "
    "and provide the final value,\ne.g., 1.23, 1.34, 1.45, at the end.",
    "Hint: Please answer the question requiring a Python list as an answer and provide the final "
    "list,\ne.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end.",
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at "
    "the end.",
)
EXAMPLES = (
    (
        "Question: Which number is missing?",
        "Model response: The number missing in the sequence is 14.",
        "Extracted answer: 14",
    ),
    (
        "Question: What is the fraction of females facing the camera?",
        "Model response: The fraction of females facing the camera is 0.6,\nwhich means that six "
        "out of ten females in the group are facing the camera.",
        "Extracted answer: 0.6",
    ),
    (
        "Question: How much money does Luca need to buy a sour apple candy and a butter-scotch "
        "candy? (Unit: $)",
        "Model response: Luca needs $1.45 to buy a sour apple candy and a butterscotch candy.",
        "Extracted answer: 1.45",
    ),
    (
        "Question: Between which two years does the line graph saw its maximum peak?",
        "Model response: The line graph saw its maximum peak between 2007 and 2008.",
        "Extracted answer: [2007, 2008]",
    ),
    (
        "Question: What fraction of the shape is blue?",
        "Choices: (A) 3/11 (B) 8/11 (C) 6/11 (D) 3/5",
        "Model response: The correct answer is (B) 8/11.",
        "Extracted answer: B",
    ),
)


def judge_prompt(question: str, response: str) -> str:
    """Return what the judge is asked: the examples, then a question and what was answered.

    Args:
        question: As the data has it, hint and choices included.
        response: The model's.
    """
    shown = ("\n\n".join((hint, *lines)) for hint, lines in zip(HINTS, EXAMPLES, strict=True))
    examples = "".join(f"\n{example}\n\n" for example in shown)
    # The word and the missing line ends are theirs.
    return f"{TASK}{examples}{question}\nModel respone: {response}Extracted answer:"


def needs_no_judge(response: str, question: MathQuestion) -> str | None:
    """Return the answer that a response is by itself, as VLMEvalKit decides; None: ask the judge.

    Args:
        response: The model's.
        question: What its answer must be.
    """
    found, is_right = read_vlmevalkit(response, question)
    if question.options:
        return found or None
    return found if is_right else None


def matches_published(found: str, question: MathQuestion) -> bool:
    """Return whether what the judge found is right, as MathVista's scorer compares.

    An option is meant by its letter, or is the one of the least edit distance; numbers are rounded
    as the question asks; lists and texts must be the same.

    Args:
        found: In the response.
        question: What its answer must be.
    """
    found = found.strip()
    if question.options:
        return _option(found, question.options) == question.options.get(question.answer)
    with suppress(ValueError, OverflowError):
        if question.answer_type == "integer":
            return str(int(float(found))) == question.answer.strip()
        if question.answer_type == "float":
            places = 2 if question.precision is None else question.precision
            return str(round(float(found), places)) == question.answer.strip()
        return found == question.answer.strip()
    return False


def _option(found: str, options: Mapping[str, str]) -> str | None:
    named = LETTER.findall(found)
    letter = named[0].upper() if named else found
    if letter in options:
        return options[letter]
    near = letter[:MOST_CHARACTERS]
    return min(options.values(), key=lambda text: levenshtein(near, text), default=None)


def matches_vlmevalkit(found: str, question: MathQuestion) -> bool:
    """Return whether what the judge found is right, as VLMEvalKit compares: no list or text is.

    Args:
        found: In the response.
        question: What its answer must be.
    """
    if question.options or question.answer_type not in ("integer", "float"):
        return bool(question.options) and read_vlmevalkit(found, question)[1]
    convert: Callable[[str], float] = int if question.answer_type == "integer" else float
    try:
        return convert(found) == convert(question.answer)
    except (ValueError, OverflowError):
        return False
