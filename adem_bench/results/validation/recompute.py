"""Whether metrics.json is what the task makes of the records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from adem_bench.records import Metric, Record, Result
from adem_bench.results.run_folder import METRICS, SAMPLES
from adem_bench.results.validation.issues import Issues


def check_figures(
    metrics: Mapping[str, Any], again: Result, versions: Mapping[str, str], issues: Issues
) -> None:
    """Compare metrics.json, metric by metric, with what was computed again.

    Figures that another machine's programs made (no Java here, or none there) cannot be compared.

    Args:
        metrics: What the file holds.
        again: Of the records, by the task.
        versions: Of packages, from the manifest.
        issues: Are added to.
    """
    for name in ("scored", "failed", "expected", "unusable"):
        # Earlier runs do not say how many rows could not be used.
        if metrics.get(name, getattr(again, name)) != getattr(again, name):
            text = f"{name} is {metrics[name]}, expected {getattr(again, name)} of these records"
            issues.add(METRICS, text)
    found = {entry["name"]: Metric(**entry) for entry in metrics["metrics"]}
    if len(found) < len(metrics["metrics"]):
        issues.add(METRICS, "a metric appears twice")
    wanted = {metric.name: metric for metric in again.metrics}
    for name in (name for name in wanted if name not in found):
        issues.add(METRICS, f"metric {name} is missing")
    for name in (name for name in found if name not in wanted):
        issues.add(METRICS, f"metric {name!r:.80} is not one of this task's")
    same_numpy = versions.get("numpy") == metadata.version("numpy")
    for name in (name for name in found if name in wanted):
        _check_metric(found[name], wanted[name], same_numpy, issues)
    _check_warnings(metrics["warnings"], again, issues)


def check_set_scores(records: Sequence[Record], scored: Sequence[Record], issues: Issues) -> None:
    """Compare the scores of a task that scores whole sets with those that it gives again.

    Args:
        records: As in samples.jsonl.
        scored: The same records, scored again.
        issues: Are added to.
    """
    for number, (kept, wanted) in enumerate(zip(records, scored, strict=True), 1):
        if (kept.score, kept.scores) != (wanted.score, wanted.scores):
            text = f"score is {kept.score}, expected {wanted.score} of the whole set"
            issues.add(SAMPLES, text, number)
        elif (kept.prediction, kept.error) != (wanted.prediction, wanted.error):
            issues.add(SAMPLES, "it is not what the kept answers of the judge make", number)


def _check_metric(found: Metric, wanted: Metric, same_numpy: bool, issues: Issues) -> None:
    name = found.name
    if (found.unit, found.count) != (wanted.unit, wanted.count):
        issues.add(
            METRICS,
            f"metric {name} counts {found.count} in {found.unit}, expected {wanted.count} in "
            f"{wanted.unit}",
        )
    elif found.value is None and not found.note:
        issues.add(METRICS, f"metric {name} has neither a value nor a note that says why")
    elif not _close(found.value, wanted.value):
        if found.note == wanted.note:
            text = f"metric {name} is {_number(found.value)}, expected {_number(wanted.value)}"
            issues.add(METRICS, f"{text} of these records")
        else:
            # The note names the tokenizer or what is missing, on this machine or on the run's.
            reason = wanted.note or found.note
            issues.unchecked.append(f"metric {name}: computed by other means here ({reason})")
    else:
        if found.if_wrong is not None and not _close(found.if_wrong, wanted.if_wrong):
            text = f"metric {name} would be {_number(wanted.if_wrong)} with failed samples wrong"
            issues.add(METRICS, f"{text}, not {_number(found.if_wrong)}")
        if found.interval:  # runs older than intervals have none
            _check_interval(found, wanted, same_numpy, issues)


def _check_interval(found: Metric, wanted: Metric, same_numpy: bool, issues: Issues) -> None:
    same = _close(found.low, wanted.low) and _close(found.high, wanted.high)
    if same and found.interval == wanted.interval:
        return
    if not same_numpy:
        text = f"interval of {found.name}: redrawn by another version of numpy"
        issues.unchecked.append(text)
        return
    issues.add(METRICS, f"interval of {found.name} is {_bounds(found)}, expected {_bounds(wanted)}")


def _check_warnings(found: Iterable[str], again: Result, issues: Issues) -> None:
    # A note on the tokenizer is a warning too, and differs between machines.
    notes = {metric.note for metric in again.metrics}
    for warning in again.warnings:
        if warning not in found and warning not in notes:
            issues.add(METRICS, f"warnings lacks {warning!r}")


def _close(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)


def _bounds(metric: Metric) -> str:
    return f"{_number(metric.low)} to {_number(metric.high)} by {metric.interval[:40]!r}"


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.12g}"
