"""Prompts that several tasks ask in: LaVIN's instruction template, or the question alone."""

from __future__ import annotations

TEMPLATE = "Instruction: {question}\nResponse:"
"""How LaVIN words the instructions of its file, and MME's questions."""
INSTRUCTION = "instruction"
"""The format of that template."""
FORMATS = {INSTRUCTION: TEMPLATE, "question": "{question}"}
"""`instruction` is the published prompt (eval_mme.py); `question` is the question alone."""


def whole(text: str) -> str:
    """Return text without halves of characters, which JSON can hold and no tokenizer takes.

    Two halves that belong together become their character, any other one a question mark.
    """
    if text.isascii():
        return text
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return joined.encode("utf-8", "replace").decode()


def halve_blanks(text: str) -> str:
    """Halve every pair of blanks once and strip, as published: three blanks become two.

    Source: `util/base_prompt.py` of LaVIN, MemVP and ADEM-VL; LaVIN dd0a1bf `eval_mme.py`.
    """
    return text.replace("  ", " ").strip()
