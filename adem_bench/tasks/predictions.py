"""Predictions that other code made: which reader takes a file.

A task reads the published formats of its benchmark (`Task.import_predictions`). Formats that are
the same for every task have a reader in `READERS`, and are recognised by what is in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from adem_bench.errors import PredictionsError
from adem_bench.files import exists, is_dir, is_file, open_text, read_text, text_encoding
from adem_bench.records import Record, Response, Sample
from adem_bench.tasks.base import Task
from adem_bench.tasks.benchmark import imported_record
from adem_bench.tasks.published_records import LmmsEvalSamples, VlmEvalKitRecords


class PredictionsReader(Protocol):
    """One format, for any task."""

    def recognises(self, path: Path) -> bool:
        """Return whether a file or a folder is in this format; anything unreadable is not."""
        ...

    def read(self, task: Task, path: Path) -> list[Record]:
        """Return a record of each prediction.

        Raises:
            PredictionsError: the file cannot be read, or belongs to other samples.
        """
        ...


class SamplesOfRuns:
    """`samples.jsonl` of a run, which may lack its other files: its responses are read again."""

    def recognises(self, path: Path) -> bool:
        """Return whether the first line is a record."""
        try:
            with open_text(path, text_encoding(path)) as lines:
                line = json.loads(lines.readline())
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(line, dict) and {"sample_id", "response", "request_digest"} <= set(line)

    def read(self, task: Task, path: Path) -> list[Record]:
        """Return the records, with what the task reads out of their responses.

        Raises:
            PredictionsError: a line is not a record of a sample of the task.
        """
        kept = {record.sample_id: record for record in _records(path)}
        found = [
            _read_again(task, sample, kept.pop(sample.id))
            for sample in task.samples()
            if sample.id in kept
        ]
        malformed = {row.id for row in task.skipped_rows()}
        others = [name for name in kept if name not in malformed]
        if others:
            raise PredictionsError(
                f"{path}: {len(others)} of {len(others) + len(found)} samples are not in split "
                f"{task.card.split}, the first is {others[0]!r}"
            )
        return found


def _records(path: Path) -> Iterator[Record]:
    # Not `splitlines`: JSON texts may hold U+2028 and its kind as they are.
    for number, line in enumerate(read_text(path).rstrip("\n").split("\n"), 1):
        try:
            record = Record.from_json(json.loads(line))
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise PredictionsError(f"{path}, line {number}: not a record ({error})") from error
        if record.repeat:
            raise PredictionsError(
                f"{path}, line {number}: sample {record.sample_id!r} was asked several times; only "
                "samples that were asked once can be read"
            )
        yield record


def _read_again(task: Task, sample: Sample, kept: Record) -> Record:
    if kept.error is not None:
        return replace(kept, prediction=None, score=None)
    response = Response(kept.answer_text, None, kept.notes, kept.choice_logprobs)
    found = imported_record(sample, kept.response, task.parse_response(sample, response))
    return replace(found, answer=kept.answer, choice_logprobs=kept.choice_logprobs)


READERS: Sequence[PredictionsReader] = (SamplesOfRuns(), VlmEvalKitRecords(), LmmsEvalSamples())
"""Those of formats that every task has; the first that recognises a file reads it."""


def read_predictions(task: Task, path: Path) -> list[Record]:
    """Return records of predictions that other code made, in the data's order where it is known.

    Args:
        task: Whose samples were answered.
        path: A file or a folder.

    Raises:
        PredictionsError: it is in no format that can be read, or belongs to other samples.
    """
    if exists(path) and not (is_file(path) or is_dir(path)):
        raise PredictionsError(f"{path} is a device or a pipe; name a file or a folder")
    for reader in READERS:
        if reader.recognises(path):
            return reader.read(task, path)
    return task.import_predictions(path)
