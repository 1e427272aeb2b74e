"""Caption metrics through pycocoevalcap, on captions tokenized as its COCOEvalCap does.

A metric that cannot be had (no Java, a file missing, a program that fails) has no value and
says how to get it; the others come all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from adem_bench.metrics.intervals import Formula, Statistics, with_intervals, without_points
from adem_bench.records import Metric
from adem_bench.tasks.coco_caption.java import UnavailableError
from adem_bench.tasks.coco_caption.ptb_tokenizer import official_tokens, substitute_tokens
from adem_bench.tasks.coco_caption.scorers import SCORERS, Scorer, ScorerPart, Tokens

NAMES = tuple(name for scorer in SCORERS for name in scorer.formulas)
MEANS = ("CIDEr", "ROUGE-L")
"""Metrics whose figure of a set is the mean of its images' figures."""
NOT_THEIRS = ("METEOR", "SPICE")
SUBSTITUTE = "not the official tokenizer, which needs Java"


def _refuse() -> None:
    raise UnavailableError("VLMEvalKit does not compute it")


UNTOKENIZED = tuple(
    replace(scorer, check=_refuse) if set(NOT_THEIRS) & set(scorer.formulas) else scorer
    for scorer in SCORERS
)
"""The scorers that VLMEvalKit has."""


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of captions, and what they are made of."""

    metrics: tuple[Metric, ...]
    """BLEU-1 to BLEU-4, METEOR, ROUGE-L, CIDEr and SPICE."""
    statistics: Statistics
    """By image; of the metrics that could be had."""


class Kept(Protocol):
    """Parts of scores that were computed before for the same captions and references."""

    def get(self, name: str) -> ScorerPart | None:
        """Return what the scorer whose first metric is `name` made, if it is kept."""
        ...

    def put(self, name: str, scored: ScorerPart) -> None:
        """Keep what a scorer made of official tokens."""
        ...


def caption_scores(
    captions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    kept: Kept | None = None,
) -> tuple[Metric, ...]:
    """Return BLEU-1 to BLEU-4, METEOR, ROUGE-L, CIDEr and SPICE with their intervals.

    Args:
        captions: One caption for each image.
        references: At least one reference for each of these images.
        kept: Where parts are kept; nowhere by default.

    Raises:
        ValueError: an image has no reference.
    """
    scores = score_captions(captions, references, kept)
    return without_points(with_intervals(scores.metrics, scores.statistics))


def score_captions(
    captions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    kept: Kept | None = None,
) -> CaptionScores:
    """Return the metrics without intervals, and what they are made of; else as `caption_scores`.

    Args:
        captions: One caption for each image.
        references: At least one reference for each of these images.
        kept: Where parts are kept; nowhere by default.

    Raises:
        ValueError: an image has no reference.
    """
    bare = [image for image in captions if not references.get(image)]
    if bare:
        raise ValueError(f"no reference for image {bare[0]}")
    if not captions:
        reason = "no caption was scored"
        metrics = tuple(Metric(name, None, "fraction", 0, reason) for name in NAMES)
        return CaptionScores(metrics, _statistics((), []))
    return _scored(captions, _Tokenized(captions, references), SCORERS, kept)


def score_untokenized(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> CaptionScores:
    """Return BLEU, ROUGE-L and CIDEr of captions as they stand, split at blanks.

    So VLMEvalKit scores them (image_caption.py): not the official figures.
    """
    if not captions:
        return score_captions(captions, references)
    return _scored(captions, _Untokenized(captions, references), UNTOKENIZED, None)


def _scored(
    captions: Mapping[str, str], tokens: _Tokenized, scorers: Sequence[Scorer], kept: Kept | None
) -> CaptionScores:
    scored: list[tuple[Scorer, ScorerPart]] = []
    found: dict[str, Metric] = {}
    for scorer in scorers:
        names = tuple(scorer.formulas)
        part = kept.get(names[0]) if kept else None
        try:
            if part is None:
                scorer.check()
                part = scorer.compute(*tokens.get())
                if kept and not tokens.note():
                    kept.put(names[0], part)
        except UnavailableError as error:
            for name in names:
                found[name] = Metric(name, None, "fraction", len(captions), str(error))
            continue
        scored.append((scorer, part))
        for name, value in zip(names, part.values, strict=True):
            found[name] = _metric(name, value, len(captions), tokens.note())
    return CaptionScores(tuple(found.values()), _statistics(tuple(captions), scored))


def _metric(name: str, value: float, count: int, note: str) -> Metric:
    if not math.isfinite(value):
        return Metric(name, None, "fraction", count, "the scorer returned no number")
    return Metric(name, value, "fraction", count, note)


def _statistics(images: tuple[str, ...], scored: Sequence[tuple[Scorer, ScorerPart]]) -> Statistics:
    """Put the columns of all scorers side by side."""
    import numpy as np

    formulas: dict[str, Formula] = {}
    start = 0
    for scorer, part in scored:
        columns = slice(start, start + part.rows.shape[1])
        formulas |= {name: _of(columns, formula) for name, formula in scorer.formulas.items()}
        start = columns.stop
    rows = [part.rows for _, part in scored]
    table = np.concatenate(rows, axis=1) if rows else np.zeros((len(images), 0))
    return Statistics("images", images, ("",) * len(images), table, formulas)


def _of(columns: slice, formula: Formula) -> Formula:
    return lambda sums: formula(sums[..., columns])


class _Tokenized:
    """Captions and references as tokens, made when first asked for."""

    def __init__(
        self, captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
    ) -> None:
        self._captions, self._references = captions, references
        self._tokens: tuple[Tokens, Tokens] | None = None
        self._note: str | None = None

    def get(self) -> tuple[Tokens, Tokens]:
        """Return tokenized captions and references by image."""
        if self._tokens is None:
            captions, references = self._captions, self._references
            texts = [*captions.values(), *(t for image in captions for t in references[image])]
            try:
                tokens, self._note = official_tokens(texts), ""
            except UnavailableError as error:
                tokens = substitute_tokens(texts)
                self._note = f"{SUBSTITUTE} ({error})"
            rest = iter(tokens)
            found = {image: [next(rest)] for image in captions}
            wanted = {image: [next(rest) for _ in references[image]] for image in captions}
            self._tokens = found, wanted
        return self._tokens

    def note(self) -> str:
        """Return what to know of the tokens: nothing of official ones, which kept parts have."""
        return self._note or ""


class _Untokenized(_Tokenized):
    """Captions and references as they are."""

    def get(self) -> tuple[Tokens, Tokens]:
        """Return captions and references by image."""
        found = {image: [text] for image, text in self._captions.items()}
        return found, {image: list(self._references[image]) for image in self._captions}
