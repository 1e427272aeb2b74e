"""Whether the records answer the samples of the data, and were read as the task reads."""

from __future__ import annotations

import json
import reprlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from adem_bench.files import TEMPORARY
from adem_bench.records import Decoding, Record, Request, Response, Sample, record_key
from adem_bench.results.run_folder import SAMPLES, is_imported
from adem_bench.results.validation.issues import Issues
from adem_bench.tasks import repeats
from adem_bench.tasks.base import ScoresSets, Task

Numbered = tuple[int, Record]
"""A record and its line."""


def check_samples(
    task: Task,
    records: Sequence[Numbered],
    manifest: Mapping[str, Any],
    issues: Issues,
) -> bool:
    """Check that each record is of a sample, was asked as the task asks and read as it reads.

    Predictions of other code may lack samples, and how they were asked and read is not known.

    Args:
        task: With the data of the run.
        records: As in samples.jsonl.
        manifest: Of the run: its options, and how it decoded.
        issues: Are added to.

    Returns:
        Whether at least one record is of the data.

    Raises:
        AdemBenchError: the data cannot be read.
    """
    found = {record.key: (line, record) for line, record in records}
    options = manifest["options"]
    decoding = Decoding(**manifest.get("decoding") or {})
    imported = is_imported(manifest)
    limit = options["limit"]
    assert limit is None or isinstance(limit, int)
    reading = _reading(task, manifest)
    missing: list[str] = []
    last = 0
    for sample in islice(task.samples(), limit):
        asked = _asked(task, sample, decoding, options["blind"])
        for repeat in range(options.get("repeats", 1)):
            key = record_key(sample.id, repeat)
            if key not in found:
                missing += [] if imported else [key]
                continue
            line, record = found.pop(key)
            if line < last:
                text = (
                    f"sample {sample.id!r:.80} must come after line {last}: expected the data's "
                    "order"
                )
                issues.add(SAMPLES, text, line)
            last = max(last, line)
            request = replace(asked, repeat=repeat) if repeat else asked
            for text in _faults(task, sample, None if imported else request, record, reading):
                issues.add(SAMPLES, text, line)
    _check_malformed(task, found, imported, issues)
    if len(found) == len(records) > 0:
        issues.add(SAMPLES, f"none of the {len(records)} records belongs to a sample of this run")
        return False
    for name in missing:
        issues.add(SAMPLES, f"no record of sample {name!r:.80}")
    for line, record in found.values():
        issues.add(SAMPLES, f"sample {record.sample_id!r:.80} is not one of the run's", line)
    return True


def _reading(task: Task, manifest: Mapping[str, Any]) -> Sequence[str]:
    """Return what reading an answer once more must give again.

    Not scores of whole sets, and nothing that a judge read: those are compared with the figures.
    """
    if isinstance(task, ScoresSets):
        return ("prediction",)
    return () if "judge" in manifest["identity"] else ("prediction", "score")


def _asked(task: Task, sample: Sample, decoding: Decoding, blind: bool) -> Request:
    """Return what the run asked the first time.

    Args:
        task: With the data of the run.
        sample: What was asked about.
        decoding: Of the run.
        blind: Whether it withheld images.
    """
    request = task.request(sample)
    if decoding != request.decoding == Decoding():  # else the task's own goes before
        request = replace(request, decoding=decoding)
    return request.without_images() if blind else request


def _check_malformed(
    task: Task, found: dict[str, Numbered], may_lack: bool, issues: Issues
) -> None:
    """Take the records of malformed rows out of `found`; they hold an error alone."""
    for row in task.skipped_rows():
        line, record = found.pop(row.id, (None, None))
        if record is None:
            if not may_lack:
                issues.add(SAMPLES, f"no record of the malformed row {row.id!r:.80}")
        elif record.error is None:
            issues.add(SAMPLES, f"an answer to a malformed row: {row.reason}", line)


def _faults(
    task: Task, sample: Sample, request: Request | None, record: Record, reading: Sequence[str]
) -> Iterator[str]:
    """Yield in which fields a record is not what the run would have kept.

    Args:
        task: With the data of the run.
        sample: What was asked about.
        request: As the run asked it; None of predictions of other code.
        record: Of the sample.
        reading: What of reading the answer once more must be the same.
    """
    wanted: dict[str, object] = {
        "request_digest": request.digest() if request else "",
        "reference": sample.reference,
        "groups": sample.groups,
        "cluster": sample.cluster,
    }
    if record.error is None and request and reading:
        prediction = task.parse_response(
            sample, Response(record.answer_text, None, record.notes, record.choice_logprobs)
        )
        read = {"prediction": prediction.value, "score": prediction.score}
        wanted |= {name: read[name] for name in reading}
    for name, value in wanted.items():
        if (kept := getattr(record, name)) != value and _json(kept) != _json(value):
            yield f"{name} is {reprlib.repr(kept)}, expected {reprlib.repr(value)}"


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def check_exports(task: Task, records: Sequence[Record], folder: Path, issues: Issues) -> None:
    """Compare the files in the benchmark's format with what the records make.

    Args:
        task: With the data of the run.
        records: As in samples.jsonl.
        folder: Of the run.
        issues: Are added to.

    Raises:
        AdemBenchError: the data cannot be read.
    """
    with tempfile.TemporaryDirectory() as name:
        again = Path(name)
        wanted = {path.relative_to(again) for path in repeats.export(task, records, again)}
        for file in sorted(wanted):
            _compare(folder / file, again / file, str(file), issues)
    # A folder of files (MME's) holds those alone.
    for inner in {file.parent for file in wanted} - {Path()}:
        for path in sorted((folder / inner).glob("*")):
            file = path.relative_to(folder)
            if file not in wanted and path.is_file() and not TEMPORARY.fullmatch(file.name):
                issues.add(str(file), f"not one of the run's, which has {len(wanted)} such files")


def _compare(found: Path, wanted: Path, name: str, issues: Issues) -> None:
    if not found.is_file():
        issues.add(name, "missing; the same `adem-bench run` writes it again")
        return
    expected = wanted.read_bytes()
    if found.stat().st_size == len(expected):
        kept = found.read_bytes()
        if kept == expected:
            return
        lines = zip(kept.splitlines(), expected.splitlines(), strict=False)
        line = next((n for n, (a, b) in enumerate(lines, 1) if a != b), None)
    else:
        line = None
    issues.add(name, f"not what the records in {SAMPLES} make", line)
