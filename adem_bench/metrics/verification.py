"""How yes or no is read where true and false say it too."""

from __future__ import annotations

import re

from adem_bench.metrics.mme import YesNo

WORDS: dict[str, YesNo] = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def read_word(text: str) -> YesNo:
    """Read the first of yes, true, no and false that is a word of its own."""
    found = re.search(rf"\b(?:{'|'.join(WORDS)})\b", text.lower())
    return WORDS[found.group()] if found else "other"
