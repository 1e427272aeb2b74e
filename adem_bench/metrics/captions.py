"""Caption metrics through pycocoevalcap, on captions tokenized as its COCOEvalCap does.

A metric that cannot be had (no Java, a file missing, a program that fails) has no value and
says how to get it; the others come all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adem_bench.metrics.caption_scorers import SCORERS, Scored, Tokens
from adem_bench.metrics.intervals import Formula, Statistics, with_intervals
from adem_bench.metrics.java import UnavailableError
from adem_bench.metrics.tokens import official_tokens, substitute_tokens
from adem_bench.records import Metric

NAMES = tuple(name for names in SCORERS for name in names)
SUBSTITUTE = "not the official tokenizer, which needs Java"


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of captions, and what they are made of."""

    metrics: tuple[Metric, ...]
    """BLEU-1 to BLEU-4, METEOR, ROUGE-L, CIDEr and SPICE."""
    statistics: Statistics
    """By image; of the metrics that could be had."""


def caption_scores(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[Metric, ...]:
    """Return BLEU-1 to BLEU-4, METEOR, ROUGE-L, CIDEr and SPICE with their intervals.

    Args:
        captions: One caption for each image.
        references: At least one reference for each of these images.

    Raises:
        ValueError: an image has no reference.
    """
    scores = score_captions(captions, references)
    return with_intervals(scores.metrics, scores.statistics)


def score_captions(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> CaptionScores:
    """Return the metrics without intervals, and what they are made of; else as `caption_scores`."""
    bare = [image for image in captions if not references.get(image)]
    if bare:
        raise ValueError(f"no reference for image {bare[0]}")
    scored: list[Scored] = []
    reasons: dict[str, str] = {}
    note = ""
    if captions:
        found, wanted, note = _tokens(captions, references)
        for names, compute in SCORERS.items():
            try:
                scored.append(compute(found, wanted))
            except UnavailableError as error:
                reasons |= dict.fromkeys(names, str(error))
    else:
        reasons = dict.fromkeys(NAMES, "no caption was scored")
    values = {name: value for part in scored for name, value in part.values.items()}
    metrics = tuple(
        _metric(name, values.get(name), len(captions), reasons.get(name, note)) for name in NAMES
    )
    return CaptionScores(metrics, _statistics(tuple(captions), scored))


def _metric(name: str, value: float | None, count: int, note: str) -> Metric:
    if value is not None and not math.isfinite(value):
        return Metric(name, None, "fraction", count, "the scorer returned no number")
    return Metric(name, value, "fraction", count, note)


def _statistics(images: tuple[str, ...], scored: Sequence[Scored]) -> Statistics:
    """Put the columns of all scorers side by side."""
    import numpy as np

    formulas: dict[str, Formula] = {}
    start = 0
    for part in scored:
        columns = slice(start, start + part.rows.shape[1])
        formulas |= {name: _of(columns, formula) for name, formula in part.formulas.items()}
        start = columns.stop
    rows = [part.rows for part in scored]
    table = np.concatenate(rows, axis=1) if rows else np.zeros((len(images), 0))
    return Statistics("images", images, ("",) * len(images), table, formulas)


def _of(columns: slice, formula: Formula) -> Formula:
    return lambda sums: formula(sums[..., columns])


def _tokens(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[Tokens, Tokens, str]:
    """Return tokenized captions and references by image, and what to know of the tokens."""
    texts = [*captions.values(), *(text for image in captions for text in references[image])]
    try:
        tokens, note = official_tokens(texts), ""
    except UnavailableError as error:
        tokens, note = substitute_tokens(texts), f"{SUBSTITUTE} ({error})"
    rest = iter(tokens)
    found = {image: [next(rest)] for image in captions}
    return found, {image: [next(rest) for _ in references[image]] for image in captions}, note
