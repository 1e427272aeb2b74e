"""Run folders as the runner leaves them, made of records alone: no model, no data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adem_bench.cards import as_mapping, load_task_card
from adem_bench.records import Record
from adem_bench.registry import TASK_KINDS
from adem_bench.results.run_folder import RunFolder


def fingerprint_of(model: str) -> str:
    """Return a fingerprint that only models of one name share."""
    return hashlib.sha256(model.encode(errors="backslashreplace")).hexdigest()[:16]


def write_run(
    folder: Path,
    records: Sequence[Record],
    task: str = "mini_sqa",
    model: str = "m",
    **changes: Any,
) -> Path:
    """Write a finished run of a shipped task card; `changes` are fields of its identity."""
    card = load_task_card(task)
    result = TASK_KINDS.load(card.kind)(card, Path()).aggregate(records)
    identity = {
        "model": fingerprint_of(model),
        "task": card.name,
        "task_kind": card.kind,
        "task_version": card.version,
        "task_options": dict(card.options),
        "split": card.split,
        "prompt_settings": {"prompt_format": card.prompt_format},
        "data": "d" * 16,
        "blind": False,
        "limit": None,
    } | changes
    manifest = {
        "schema": 1,
        "model": {"name": model, "fingerprint": identity["model"], "card": {}},
        "task": {
            "name": card.name,
            "kind": card.kind,
            "version": card.version,
            "split": card.split,
            "prompt_format": card.prompt_format,
            "prompt_settings": identity["prompt_settings"],
            "data_fingerprint": identity["data"],
            "card": json.loads(json.dumps(as_mapping(card)))
            | {"options": identity["task_options"]},
        },
        "options": {"blind": identity["blind"], "limit": identity["limit"], "seed": 0},
        "identity": identity,
        "run": {"finished": "2026-01-01T00:00:00+00:00"},
    }
    with RunFolder(folder) as run:
        run.gather(fresh=True)
        run.finish(records, result, manifest)
    return folder


def choice(number: int, prediction: int, reference: int = 0, **changes: Any) -> Record:
    """Return the record of a multiple-choice question."""
    fields = {
        "sample_id": str(number),
        "request_digest": "",
        "response": f" {'ABCDE'[prediction]}",
        "prediction": prediction,
        "reference": reference,
        "score": float(prediction == reference),
        "groups": ("NAT", "NO") if number % 2 else ("SOC", "IMG"),
    }
    return Record(**fields | changes)
