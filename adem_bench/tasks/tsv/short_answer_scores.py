"""Scores of short answers: ANLS, relaxed accuracy, exact and contained matches.

Each is 0 to 1, that of the reference that fits best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adem_bench.metrics.vlmevalkit_rules import vqa_accuracy
from adem_bench.metrics.vqa import RULES

ANLS_THRESHOLD = 0.5
"""Below this similarity an answer is wrong (Biten et al. 2019, ICDAR's scorer)."""
TOLERANCE = 0.05
"""Of numbers (ChartQA, section 5.1)."""
Score = Callable[[str, Sequence[str]], float]


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Return the average normalized Levenshtein similarity of one answer, as ICDAR's scorer."""
    best = max((_similarity(prediction, answer) for answer in answers), default=0.0)
    return best if best >= ANLS_THRESHOLD else 0.0


def _similarity(prediction: str, answer: str) -> float:
    found, wanted = (" ".join(text.lower().split()) for text in (prediction, answer))
    # Distances are of the squeezed texts, lengths of the texts as they are: so in the scorer.
    length = max(len(prediction.upper()), len(answer.upper()))
    if not length:
        return 1.0
    if abs(len(found) - len(wanted)) > (1 - ANLS_THRESHOLD) * length:
        return 0.0  # too far apart whatever they say, and a long answer would take seconds
    return 1 - levenshtein(found, wanted) / length


def levenshtein(first: str, second: str) -> int:
    """Return the least number of characters to insert, delete or replace."""
    if len(first) > len(second):
        first, second = second, first
    row = list(range(len(first) + 1))
    for place, letter in enumerate(second, 1):
        previous, row[0] = row[0], place
        for column, other in enumerate(first, 1):
            changed = previous + (letter != other)
            previous = row[column]
            row[column] = min(changed, previous + 1, row[column - 1] + 1)
    return row[-1]


def relaxed(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 for a number within 5% of one of the answers, or for the same text (ChartQA)."""
    return float(any(_is_close(prediction.strip(), answer) for answer in answers))


def _is_close(prediction: str, answer: str) -> bool:
    found, wanted = _number(prediction), _number(answer)
    if found is not None and wanted:
        return abs(found - wanted) / abs(wanted) <= TOLERANCE
    return prediction.lower() == answer.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def exact(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 for the text of one of the answers, case and margins aside."""
    return float(prediction.strip().lower() in {answer.strip().lower() for answer in answers})


def contained(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if one of the answers stands somewhere in the prediction, case aside (OCRBench)."""
    found = prediction.lower().strip().replace("\n", " ")
    return float(any(answer.lower().strip().replace("\n", " ") in found for answer in answers))


def contained_formula(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if one of the formulas stands in the prediction, blanks aside (OCRBench)."""
    found = _without_blanks(prediction)
    return float(any(_without_blanks(answer) in found for answer in answers))


def _without_blanks(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")


SCORES: Mapping[str, Score] = {
    "vqa": RULES["official"].accuracy,
    "anls": anls,
    "relaxed": relaxed,
    "exact": exact,
    "contained": contained,
}
VLMEVALKIT_SCORES = {**SCORES, "vqa": vqa_accuracy}
"""As VLMEvalKit computes them: only VQA accuracy differs."""
