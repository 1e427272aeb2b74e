"""What a judge found is matched as MathVista's own scorer matches it: its code made the fixture.

`tools/mathvista_goldens.py` ran it (commit 53d52587) on answers that were made up.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_uppercase

from adem_bench.tasks.tsv.mathvista_judge import matches_published
from adem_bench.tasks.tsv.mathvista_scores import MathQuestion

GOLDENS = Path(__file__).parents[2] / "fixtures" / "mathvista" / "goldens.json"


def test_found_answers_are_right_where_the_official_scorer_says_so():
    cases = json.loads(GOLDENS.read_text(encoding="utf-8"))["cases"]
    other = []
    for answer, kind, places, choices, found, is_right in cases:
        options = dict(zip(ascii_uppercase, choices, strict=False))
        question = MathQuestion(answer, kind, places, options)
        if matches_published(found, question) != is_right:
            other.append((answer, kind, choices, found, is_right))
    assert not other
    assert {is_right for *_, is_right in cases} == {True, False}
