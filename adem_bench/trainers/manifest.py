"""`manifest.json` of a training: what the adapter was made of, so that it can be made again."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import adem_bench
from adem_bench.cards import as_mapping
from adem_bench.models.device import name_of
from adem_bench.records import Json
from adem_bench.runner.manifest import hardware, now, peak_memory, versions
from adem_bench.trainers.lr_schedule import peak_learning_rate
from adem_bench.trainers.prepare import Prepared

SCHEMA = 1


def training_manifest(
    prepared: Prepared, timing: Mapping[str, Json], counts: Mapping[str, Json], processes: int
) -> dict[str, Any]:
    """Return the manifest of a finished training.

    Args:
        prepared: What was trained, and on what.
        timing: Seconds of the last call, and the step that it went on from.
        counts: Skipped steps, losses that were no number, unreadable images.
        processes: Number of processes.
    """
    facts = training_facts(prepared, processes)
    return {
        "schema": SCHEMA,
        "finished": now(),
        **facts,
        "model": facts["model"] | {"card": as_mapping(prepared.frozen.card)},
        "counts": dict(counts),
        "timing": dict(timing),
        "memory": peak_memory(),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],  # noqa: PTH119
    }


def training_facts(prepared: Prepared, processes: int) -> dict[str, Any]:
    """Return the part of the manifest that is known before the first step; arguments as there."""
    frozen, plan, examples = prepared.frozen, prepared.plan, prepared.examples
    tuned, total = prepared.parameters
    return {
        "adem_bench_version": adem_bench.__version__,
        "recipe": as_mapping(prepared.recipe),
        "recipe_digest": prepared.recipe.digest(),
        "model": {
            "name": frozen.card.name,
            "fingerprint": frozen.fingerprint,
            "dtype": str(frozen.dtype).removeprefix("torch."),
            "device": name_of(prepared.network.device),
        },
        "parameters": {"trainable": tuned, "total": total, "share": tuned / total},
        "data": {
            "fingerprints": dict(prepared.data),
            "samples": len(examples),
            "with_image": examples.with_image,
            "malformed": len(examples.left_out.malformed),
            "unsupervised": len(examples.left_out.unsupervised),
        },
        "prompts": {
            use.source: {
                "training": dict(use.training),
                "evaluation": None if use.evaluation is None else dict(use.evaluation),
            }
            for use in prepared.prompts
        },
        "steps": {
            "epochs": prepared.recipe.epochs,
            "per_epoch": plan.steps,
            "total": plan.total_steps,
            "accumulation": plan.accumulation,
            "processes": processes,
            "peak_learning_rate": peak_learning_rate(prepared.recipe),
        },
        "hardware": hardware(),
        "versions": versions(),
    }
