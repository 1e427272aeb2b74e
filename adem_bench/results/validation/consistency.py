"""Whether the files of a run folder speak of the same run."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from adem_bench.digests import digest
from adem_bench.files import sha256
from adem_bench.records import Record
from adem_bench.results.run_folder import (
    MANIFEST,
    METRICS,
    SAMPLES,
    manifest_digest,
    run_place,
)
from adem_bench.results.validation.issues import Issues

IN_MANIFEST = (
    ("model.fingerprint", "identity.model"),
    ("task.name", "identity.task"),
    ("task.name", "task.card.name"),
    ("task.kind", "identity.task_kind"),
    ("task.kind", "task.card.kind"),
    ("task.version", "identity.task_version"),
    ("task.version", "task.card.version"),
    ("task.split", "identity.split"),
    ("task.split", "task.card.split"),
    ("task.card.options", "identity.task_options"),
    ("task.prompt_settings", "identity.prompt_settings"),
    ("task.data_fingerprint", "identity.data"),
    ("options.blind", "identity.blind"),
    ("options.limit", "identity.limit"),
    ("options.repeats", "identity.repeats"),
)
"""Fields of the manifest that say the same."""
WITH_METRICS = (
    ("task", "task.name"),
    ("task_version", "task.version"),
    ("split", "task.split"),
    ("headline", "task.card.headline"),
)
"""Fields of metrics.json, and of the manifest, that say the same."""


def check_manifest(folder: Path, manifest: Mapping[str, Any], issues: Issues) -> None:
    """Check a manifest against itself and against the folder's name.

    Args:
        folder: Of the run.
        manifest: As its schema says.
        issues: Are added to.
    """
    for name, other in IN_MANIFEST:
        first, second = _at(manifest, name), _at(manifest, other)
        if first != second:
            text = f"{name} is {_shown(first)}, {other} is {_shown(second)}; expected the same"
            issues.add(MANIFEST, text)
    for part in ("model", "task"):
        if digest(manifest[part]["card"]) != manifest[part]["card_digest"]:
            issues.add(MANIFEST, f"{part}.card does not have the digest in {part}.card_digest")
    name = run_place("", manifest["identity"]).name
    if folder.resolve().name != name:
        issues.add(
            MANIFEST,
            f"identity belongs to a folder {name}; another run's manifest, an edited identity, "
            "or a renamed folder",
        )


def check_digests(folder: Path, manifest: Mapping[str, Any], issues: Issues) -> None:
    """Check what the manifest has the SHA-256 of: the other files and its own fields.

    Args:
        folder: Of the run.
        manifest: As its schema says.
        issues: Are added to.
    """
    files = manifest.get("files")
    if not files:
        issues.unchecked.append("digests of files: the manifest is older than they are")
        return
    found = {
        name: sha256(folder / name) for name in (SAMPLES, METRICS) if (folder / name).is_file()
    }
    found[MANIFEST] = manifest_digest(manifest)
    for name, content in found.items():
        if name not in files:
            issues.add(MANIFEST, f"files lacks the SHA-256 of {name}")
        elif content != files[name]:
            issues.add(name, "changed since the run wrote it: not the SHA-256 in the manifest")


def check_counts(metrics: Mapping[str, Any], count: int, noun: str, issues: Issues) -> None:
    """Check the counts in metrics.json against one another and against the number of records.

    Args:
        metrics: As its schema says.
        count: Lines of samples.jsonl, or samples where they were asked several times.
        noun: Which of the two it is.
        issues: Are added to.
    """
    scored, failed, expected = (metrics[name] for name in ("scored", "failed", "expected"))
    if scored + failed != count:
        text = f"scored {scored} and failed {failed}, but {SAMPLES} has {count} {noun}"
        issues.add(METRICS, text)
    complete = scored == expected and failed == 0
    if metrics["complete"] != complete:
        issues.add(METRICS, f"complete is {metrics['complete']}, expected {complete}")


def check_same_task(
    metrics: Mapping[str, Any], manifest: Mapping[str, Any], issues: Issues
) -> bool:
    """Check that metrics and manifest are of one task, and return whether they are.

    Args:
        metrics: As its schema says.
        manifest: As its schema says.
        issues: Are added to.
    """
    same = True
    for name, other in WITH_METRICS:
        first, second = metrics[name], _at(manifest, other)
        if name == "headline" and not second:
            continue  # scoring says which
        if first != second:
            text = f"{name} is {_shown(first)}, expected {_shown(second)} ({other} in {MANIFEST})"
            issues.add(METRICS, text)
            same = False
    return same


def record_faults(record: Record) -> list[str]:
    """Return what of a record contradicts itself, whatever the task."""
    if record.error is not None:
        kept = [name for name in ("prediction", "score") if getattr(record, name) is not None]
        return [f"{name} must be null where there is an error" for name in kept]
    if record.score is None:
        return []
    if not 0 <= record.score <= 1:
        return [f"score is {record.score:g}, expected 0 to 1"]
    right = _score(record)
    if right is not None and record.score != right:
        return [
            f"score is {record.score:g}, expected {right:g} for prediction "
            f"{_shown(record.prediction)} and reference {_shown(record.reference)}"
        ]
    return []


def _score(record: Record) -> float | None:
    """Return the score where prediction and reference leave no doubt."""
    prediction, reference = record.prediction, record.reference
    if isinstance(prediction, int) and isinstance(reference, int):
        return float(prediction == reference)
    if isinstance(prediction, str) and isinstance(reference, str):
        return 1.0 if prediction.casefold() == reference.casefold() else None
    return None


def _at(value: Any, dotted: str) -> Any:
    return reduce(lambda inner, key: inner.get(key), dotted.split("."), value)


def _shown(value: Any) -> str:
    return reprlib.repr(value)
