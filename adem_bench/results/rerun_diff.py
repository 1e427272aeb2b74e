"""Where a run and its repetition differ: records, figures, identity, environment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adem_bench.errors import ResultsError, in_shell
from adem_bench.records import Record
from adem_bench.results.run_folder import MANIFEST, METRICS, RunFolder, read_run_file

MAX_RECORDS = 10
"""Differing records that are listed one by one."""
METRIC_FIELDS = ("value", "low", "high", "count", "unit")
IDENTITY_WORDS = {
    "model": "weights and settings",
    "data": "data",
    "task_version": "task version",
    "task_options": "task options",
    "prompt_settings": "prompts",
}
"""Fields of `identity`, in the words of messages; the others under their own names."""
ENVIRONMENT = (
    ("model", "device"),
    ("model", "dtype"),
    ("model", "quantization"),
    ("options", "batch_size"),
    ("run", "processes"),
)
"""Where the manifest says how a run was computed, besides versions and `hardware`."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that has another value in the repetition; None where there is no such thing."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class RecordChange:
    """A sample whose records differ, or that one of the runs has no record of."""

    sample_id: str
    """With the number of the repeat, where the sample was asked several times."""
    fields: tuple[Change, ...]
    """Of a record that one run lacks, `response` alone."""


@dataclass(frozen=True, slots=True)
class RecordChanges:
    """How the records of two runs differ."""

    before: int
    """Records of the run."""
    after: int
    """Records of its repetition."""
    changed: int
    """Samples whose records differ."""
    fields: Mapping[str, int]
    """How many samples differ in each field."""
    first: tuple[RecordChange, ...]
    """The first of them, in the run's order."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What a repetition came to."""

    run: Path
    repetition: Path
    records: RecordChanges
    metrics: tuple[Change, ...]
    """Names are `METRIC.FIELD`."""
    metrics_compared: int
    identity: tuple[Change, ...]
    """Of what records depend on."""
    environment: tuple[Change, ...]
    """Of versions, hardware and the way of computing."""

    @property
    def same(self) -> bool:
        """Whether all records and figures are the same."""
        return not self.records.changed and not self.metrics

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON data."""
        texts = {"run": str(self.run), "repetition": str(self.repetition)}
        return {"same": self.same} | asdict(self) | texts


def differences(run: Path, repetition: Path) -> Differences:
    """Compare two finished run folders.

    Raises:
        ResultsError: a file is missing or is not as documented.
    """
    folders = (run, repetition)
    manifests = [read_run_file(folder / MANIFEST) for folder in folders]
    try:
        metrics = [_by_name(read_run_file(folder / METRICS)) for folder in folders]
    except (KeyError, TypeError) as error:
        raise ResultsError(
            f"{run / METRICS} is not as documented; "
            f"`adem-bench validate {in_shell(run)}` says where"
        ) from error
    before, after = (RunFolder(folder).records() for folder in folders)
    return Differences(
        run,
        repetition,
        _record_changes(before, after),
        tuple(_metric_changes(*metrics)),
        len(metrics[0].keys() | metrics[1].keys()),
        tuple(_changes(*(_identity(manifest) for manifest in manifests))),
        tuple(_changes(*(_environment(manifest) for manifest in manifests))),
    )


def _record_changes(before: Mapping[str, Record], after: Mapping[str, Record]) -> RecordChanges:
    changed = 0
    counts: Counter[str] = Counter()
    first: list[RecordChange] = []
    for name in dict.fromkeys([*before, *after]):
        fields = _field_changes(before.get(name), after.get(name))
        if fields:
            changed += 1
            counts.update(change.name for change in fields)
            if len(first) < MAX_RECORDS:
                first.append(RecordChange(_place(before.get(name) or after[name]), fields))
    return RecordChanges(len(before), len(after), changed, dict(counts), tuple(first))


def _place(record: Record) -> str:
    return f"{record.sample_id}, repeat {record.repeat}" if record.repeat else record.sample_id


def _field_changes(before: Record | None, after: Record | None) -> tuple[Change, ...]:
    if before is None or after is None:
        texts = [None if record is None else record.response for record in (before, after)]
        return (Change("response", *texts),)
    if before == after:
        return ()
    fields = [record.to_json() for record in (before, after)]
    if not (before.finish_reason and after.finish_reason):  # earlier runs do not say it
        for line in fields:
            line.pop("finish_reason", None)
    return tuple(_changes(*fields))


def _by_name(metrics: Any) -> dict[str, Mapping[str, Any]]:
    return {str(metric["name"]): metric for metric in metrics["metrics"]}


def _metric_changes(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> Iterator[Change]:
    for name in dict.fromkeys([*before, *after]):
        for field in METRIC_FIELDS:
            values = [metrics.get(name, {}).get(field) for metrics in (before, after)]
            if values[0] != values[1]:
                yield Change(f"{name}.{field}", *values)


def _identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {IDENTITY_WORDS.get(name, name): value for name, value in manifest["identity"].items()}


def _environment(manifest: Mapping[str, Any]) -> dict[str, Any]:
    found = {f"{part}.{name}": manifest[part].get(name) for part, name in ENVIRONMENT}
    found["versions.adem-bench"] = manifest["adem_bench_version"]
    for part in ("hardware", "versions"):
        found |= {f"{part}.{name}": value for name, value in manifest[part].items()}
    return found


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*before, *after]):
        values = before.get(name), after.get(name)
        # As text: a log-probability may be NaN, which equals nothing.
        if values[0] != values[1] and json.dumps(values[0]) != json.dumps(values[1]):
            yield Change(name, *values)
