"""Scores on the test split of the mini world, by the harness itself."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pycocoevalcap.cider.cider import Cider

import adem_bench
from adem_bench.tasks.base import build_task

METRICS = {
    "mini_mme": {"accuracy": "mme"},
    "mini_sqa": {"average": "sqa", "IMG": "sqa with image"},
    "mini_caption": {"CIDEr": "CIDEr"},
}
"""Task to its metrics, and what the log calls them."""


def score(model: Path, blind: bool = False, adapter: str | None = None) -> dict[str, float]:
    """Return the figures of a model card on the three mini tasks, as fractions.

    Args:
        model: Path of the card.
        blind: Whether images are withheld.
        adapter: A path or `none`; None for the card's own.
    """
    options = adem_bench.RunOptions(blind=blind)
    more: dict[str, Any] = {"adapter": adapter} if adapter else {}
    with tempfile.TemporaryDirectory() as folder:
        outcomes = adem_bench.evaluate(model, ["mini"], results=folder, options=options, **more)
    scores = {}
    for outcome in outcomes:
        names = METRICS[outcome.result.task]
        for metric in outcome.result.metrics:
            subtask = metric.name.removesuffix(".acc")
            name = names.get(metric.name) or (f"mme {subtask}" if subtask != metric.name else "")
            if name and metric.value is not None:
                scores[name] = round(metric.value, 4)
    return scores


def majority() -> dict[str, float]:
    """Return the figures of always giving the most frequent answer."""
    scores = {}
    for task, name in (("mini_mme", "mme"), ("mini_sqa", "sqa")):
        given = [sample.reference for sample in build_task(task, None).samples()]
        scores[name] = round(max(map(given.count, given)) / len(given), 4)
    references = {s.id: list(s.reference) for s in build_task("mini_caption", None).samples()}
    every = [caption for captions in references.values() for caption in captions]
    commonest = max(every, key=every.count)
    cider, _ = Cider().compute_score(references, {name: [commonest] for name in references})
    return scores | {"CIDEr": round(float(cider), 4)}
