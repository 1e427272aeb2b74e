"""Prompts that several tasks ask in: LaVIN's instruction template, or the question alone."""

from __future__ import annotations

TEMPLATE = "Instruction: {question}\nResponse:"
"""How LaVIN words the instructions of its file, and MME's questions."""
INSTRUCTION = "instruction"
"""The format of that template."""
FORMATS = {INSTRUCTION: TEMPLATE, "question": "{question}"}
"""`instruction` is the published prompt (eval_mme.py); `question` is the question alone."""


def halve_blanks(text: str) -> str:
    """Halve every pair of blanks once and strip, as published: three blanks become two.

    Source: `util/base_prompt.py` of LaVIN, MemVP and ADEM-VL; LaVIN dd0a1bf `eval_mme.py`.
    """
    return text.replace("  ", " ").strip()
