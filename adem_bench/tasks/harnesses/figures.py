"""What each sample adds to a figure of another harness, where that figure is a mean of theirs.

Harnesses say figures of a set and, elsewhere, numbers of its rows. Which figure is the mean of
which numbers is not stated; it is found by computing the mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Literal

Vector = Mapping[str, float]
"""A number for each sample, by id."""
LIKELY = ("hit", "score", "match", "eval_match", "")
"""Columns that hold the score of a row, the likeliest first."""
PLAIN = re.compile(r"(^|\W)(overall|acc|accuracy|score)$", re.IGNORECASE)
"""Names of figures that are shares of all samples."""
TOLERANCE = 1e-9


def parts_of_figures(
    figures: Mapping[str, float],
    vectors: Mapping[str, Vector],
    labels: Mapping[str, Mapping[str, str]],
    allowed: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, dict[str, float]]:
    """Return, for each figure that is a mean over samples, what each adds to it, in its unit.

    Args:
        figures: By name.
        vectors: Numbers of the samples, by column.
        labels: Of each sample: the values of its columns, by which figures of groups are found.
        allowed: The columns that may belong to a figure; all by default.

    Returns:
        Sample ids to numbers, by the figure's name; figures that are no means are missing.
    """
    found = {}
    for name, value in figures.items():
        columns = vectors if allowed is None else allowed.get(name, ())
        likely = [vectors[column] for column in sorted(columns, key=_likelihood)]
        group = _group(name, labels)
        is_sure = allowed is not None or group is not None or bool(PLAIN.search(name))
        part = _matching(value, likely, group, is_sure)
        if part:
            found[name] = part
    return found


def _matching(
    value: float, vectors: Sequence[Vector], ids: frozenset[str] | None, is_sure: bool
) -> dict[str, float]:
    """Return the numbers, or 100 times them, whose mean is a value; nothing if none are.

    Args:
        value: The figure.
        vectors: The likeliest first.
        ids: The samples that the figure is of; None for all.
        is_sure: Whether numbers that are all alike, whose other figures are alike too, count.
    """
    for vector in vectors:
        kept = {key: one for key, one in vector.items() if ids is None or key in ids}
        if not is_sure and len(set(kept.values())) == 1:
            continue
        for factor in (1.0, 100.0) if kept else ():
            mean = fmean(kept.values()) * factor
            if math.isclose(mean, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                return {key: one * factor for key, one in kept.items()}
    return {}


def _group(name: str, labels: Mapping[str, Mapping[str, str]]) -> frozenset[str] | None:
    """Return the samples whose labels a figure names; None for all, where it names no label.

    Names are flattened tables: `split=dev|l2-category=OCR|Overall`, `split=none|coarse perception`.
    """
    words = {word for part in name.split("|") for word in (part, part.partition("=")[2]) if word}
    by_label: dict[str, set[str]] = {}
    for key, row in labels.items():
        for label in row.values():
            if label in words:
                by_label.setdefault(label, set()).add(key)
    return frozenset.intersection(*map(frozenset, by_label.values())) if by_label else None


def _likelihood(column: str) -> tuple[int, str]:
    last = column.rpartition("|")[2]
    return (LIKELY.index(last) if last in LIKELY else len(LIKELY), column)


def unit_of(
    figures: Mapping[str, float], parts: Mapping[str, Mapping[str, float]]
) -> Literal["fraction", "points"]:
    """Return in which unit figures are: one that is not known is none, and they stand as they are.

    Figures from 0 to 1 are shares where one of them is more than 0, unless samples add more than 1
    to one: 0.5 is then a half of a hundredth.

    Args:
        figures: By name, all that scoring gave.
        parts: From `parts_of_figures`.
    """
    numbers = [*figures.values(), *(one for part in parts.values() for one in part.values())]
    is_share = all(0 <= number <= 1 for number in numbers) and any(numbers)
    return "fraction" if is_share else "points"


def own_scores(
    headline: str, parts: Mapping[str, Mapping[str, float]], vectors: Mapping[str, Vector]
) -> dict[str, float]:
    """Return the score of each sample, from 0 to 1: its part in the headline, or else its number.

    Args:
        headline: The figure that counts most.
        parts: From `parts_of_figures`.
        vectors: Numbers of the samples, by column, the likely ones of which are scores.
    """
    for vector in (parts.get(headline, {}), *_scores(vectors)):
        if vector and all(value >= 0 for value in vector.values()):
            top = max(vector.values())
            if top <= 1:
                return dict(vector)
            if top <= 100 and vector is parts.get(headline):
                return {key: value / 100 for key, value in vector.items()}
    return {}


def _scores(vectors: Mapping[str, Vector]) -> Iterator[Vector]:
    for column in sorted(vectors, key=_likelihood):
        if _likelihood(column)[0] < len(LIKELY):
            yield vectors[column]
