"""ScienceQA's prompt formats, as the published code writes them (util/base_prompt.py).

A format is named INPUT-OUTPUT: Q question, C context, M options (multiple choice), L lecture,
E solution (explanation), A answer. `QCM-A` asks with question, context and options, in that
order, and answers with the letter alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from adem_bench.prompts import halve_blanks

INPUTS = ("Q", "QM", "CQM", "QCM", "QCML", "QCME", "QCMLE", "QCLM", "QCEM", "QCLEM")
OUTPUTS = {
    "A": "The answer is {answer}.",
    # AL ends in the solution and AE in the lecture: the published code has them crossed (Q26).
    "AL": "The answer is {answer}. BECAUSE: {solution}",
    "AE": "The answer is {answer}. BECAUSE: {lecture}",
    "ALE": "The answer is {answer}. BECAUSE: {lecture} {solution}",
    "AEL": "The answer is {answer}. BECAUSE: {solution} {lecture}",
    "LA": "{lecture} The answer is {answer}.",
    "EA": "{solution} The answer is {answer}.",
    "LEA": "{lecture} {solution} The answer is {answer}.",
    "ELA": "{solution} {lecture} The answer is {answer}.",
}
FORMATS = tuple(f"{asked}-{answered}" for asked in INPUTS for answered in OUTPUTS)
ANSWER_START = "The answer is"
"""Put behind the prompt in evaluation (ADEM-VL's eval_sqa.py, MemVP's eval.py); LaVIN's appends
nothing."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one question."""

    question: str
    hint: str
    caption: str
    """Empty to leave it out."""
    choices: Sequence[str]
    answer: str
    """The letter."""
    lecture: str
    solution: str


def render(prompt_format: str, texts: Texts) -> tuple[str, str]:
    """Return prompt and answer as the published trainer joins them.

    Args:
        prompt_format: One of `FORMATS`.
        texts: What to fill in.
    """
    asked, _, answered = prompt_format.partition("-")
    lecture, solution = (text.replace("\n", "\\n") for text in (texts.lecture, texts.solution))
    reasons = {"L": lecture, "E": solution}
    lines = {
        "Q": f"Question: {texts.question}\n",
        "C": f"Context: {' '.join((texts.hint, texts.caption)).strip() or 'N/A'}\n",
        "M": f"Options: {_options(texts.choices)}\n",
    }
    parts = [
        lines.get(part) or f"BECAUSE: {' '.join(reasons[letter] for letter in part)}\n"
        for part in re.findall("[QCM]|[LE]+", asked)
    ]
    answer = OUTPUTS[answered].format(answer=texts.answer, lecture=lecture, solution=solution)
    return halve_blanks("".join(parts) + "Response:"), halve_blanks(answer)


def _options(choices: Sequence[str]) -> str:
    return " ".join(
        f"({letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False)
    )
