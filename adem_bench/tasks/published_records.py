"""What VLMEvalKit and lmms-eval keep of a model's answers, matched to the samples of a task.

VLMEvalKit writes `{model}_{dataset}.xlsx` (.tsv, .json): the data's columns and `prediction`.
lmms-eval writes `{date}_samples_{task}.jsonl`: a line for each document. A task that is the same
data set in that harness has its row numbers; any other is matched by its questions.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adem_bench.errors import PredictionsError
from adem_bench.files import open_text, read_text, text_encoding
from adem_bench.records import Record, Response, Sample
from adem_bench.tasks.base import Task
from adem_bench.tasks.benchmark import imported_record
from adem_bench.tasks.tsv.predictions import read_table

VLMEVALKIT, LMMS_EVAL = "vlmevalkit", "lmms_eval"
TITLES = {VLMEVALKIT: "VLMEvalKit", LMMS_EVAL: "lmms-eval"}
FAILED = "Failed to obtain answer via API"
"""What VLMEvalKit has in place of an answer that it did not get."""
LETTERS = "ABCDEFGHIJ"
ASKED_FOR = re.compile(r" *please answer yes or no\.?$|^(?:question|context): *")
"""What harnesses put around a question."""


@dataclass(frozen=True, slots=True)
class PublishedAnswer:
    """One row, as far as it says what was asked."""

    place: str
    """`row 3`, as messages name it."""
    row_id: str
    text: str
    question: str
    """The question, or all of the prompt with it."""
    is_prompt: bool
    choices: tuple[str, ...] = ()
    answer: str = ""
    """The right one; empty if it is not said."""
    facts: frozenset[str] = field(default_factory=frozenset)
    """Names of an image or a category."""


class VlmEvalKitRecords:
    """`{model}_{dataset}.xlsx` and its kind."""

    def recognises(self, path: Path) -> bool:
        """Return whether a table has the columns `index` and `prediction`."""
        suffix = path.suffix.lower()
        if not path.is_file() or suffix not in (".xlsx", ".tsv", ".json"):
            return False
        try:
            names = _columns(path) if suffix != ".xlsx" else {"index", "prediction"}
        except (OSError, ValueError, RecursionError, csv.Error):
            return False
        return {"index", "prediction"} <= names

    def read(self, task: Task, path: Path) -> list[Record]:
        """Return a record of each row.

        Raises:
            PredictionsError: the file cannot be read, or is of other data.
        """
        if getattr(task, "reads_vlmevalkit", False):
            return task.import_predictions(path)
        rows = [_row(row, number) for number, row in enumerate(read_table(path, False), 1)]
        return _records(task, path, VLMEVALKIT, rows)


class LmmsEvalSamples:
    """`{date}_samples_{task}.jsonl`, which `--log_samples` writes."""

    def recognises(self, path: Path) -> bool:
        """Return whether the first line is of a document with its responses."""
        try:
            with open_text(path, text_encoding(path)) as lines:
                line = json.loads(lines.readline())
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(line, dict) and {"doc_id", "filtered_resps"} <= set(line)

    def read(self, task: Task, path: Path) -> list[Record]:
        """Return a record of each line.

        Raises:
            PredictionsError: a line cannot be read, or is of other data.
        """
        return _records(task, path, LMMS_EVAL, list(_lines(path)))


def _columns(path: Path) -> set[str]:
    if path.suffix.lower() == ".tsv":
        csv.field_size_limit(1 << 30)
        with open_text(path, text_encoding(path), errors="replace", newline="") as lines:
            return set(next(csv.reader(lines, delimiter="\t"), []))
    rows = json.loads(read_text(path))
    first = rows[0] if isinstance(rows, list) and rows else {}
    return set(first) if isinstance(first, dict) else set()


def _row(row: Mapping[str, str], number: int) -> PublishedAnswer:
    choices = tuple(row[letter] for letter in LETTERS if letter in row)
    named = [row[name] for name in ("image_path", "category", "l2-category") if name in row]
    return PublishedAnswer(
        f"row {number}",
        row["index"],
        row["prediction"],
        row.get("question", ""),
        is_prompt=False,
        choices=choices,
        answer=row.get("answer", ""),
        facts=frozenset(_names(named)),
    )


def _lines(path: Path) -> Iterator[PublishedAnswer]:
    # Not `splitlines`: JSON texts may hold U+2028 and its kind as they are.
    for number, text in enumerate(read_text(path).rstrip("\n").split("\n"), 1):
        try:
            line = json.loads(text)
            asked, response = line["input"], line["filtered_resps"]
            row_id, target = str(line["doc_id"]), line.get("target")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise PredictionsError(
                f"{path}, line {number}: not a sample of lmms-eval ({reason})"
            ) from error
        while isinstance(response, list) and len(response) == 1:
            response = response[0]
        if not isinstance(response, str):
            raise PredictionsError(
                f"{path}, line {number}: document {row_id} has {len(response)} responses; only "
                "samples with one answer each can be read"
            )
        about = [value for value in line.values() if isinstance(value, dict)]
        named = [str(v[key]) for v in about for key in ("question_id", "category") if key in v]
        yield PublishedAnswer(
            f"line {number}",
            row_id,
            response,
            asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False),
            is_prompt=True,
            answer="" if target is None else str(target),
            facts=frozenset(_names(named)),
        )


def _names(texts: Sequence[str]) -> Iterator[str]:
    """Yield names of files without folder and suffix, and other texts as they are."""
    for text in texts:
        yield text
        yield Path(text).stem


def _records(task: Task, path: Path, harness: str, rows: Sequence[PublishedAnswer]) -> list[Record]:
    by_number = getattr(task, "rows_of", "")
    if by_number and by_number != harness:
        raise PredictionsError(
            f"{path} is of {TITLES[harness]}, and the rows of task {task.card.name} are "
            f"{TITLES[by_number]}'s; score it as a task of its own harness"
        )
    samples = {sample.id: sample for sample in task.samples()}
    matching = _ByQuestion(list(samples.values()))
    found: dict[str, Record] = {}
    strangers: list[PublishedAnswer] = []
    others: list[tuple[PublishedAnswer, Sample]] = []
    left_out = {row.id for row in task.skipped_rows()}
    for row in rows:
        sample = samples.get(row.row_id) if by_number else matching.take(row)
        if sample is None:
            if not (by_number and row.row_id in left_out):
                strangers.append(row)
        elif not _is_right(row, sample):
            others.append((row, sample))
        elif sample.id in found:
            raise PredictionsError(f"{path}, {row.place}: {sample.id!r} is answered twice")
        else:
            found[sample.id] = _record(task, sample, row, is_theirs=bool(by_number))
    _check(task, path, len(rows), strangers, others)
    return [found[name] for name in samples if name in found]


def _check(
    task: Task,
    path: Path,
    count: int,
    strangers: Sequence[PublishedAnswer],
    others: Sequence[tuple[PublishedAnswer, Sample]],
) -> None:
    """Refuse rows of other data.

    Args:
        task: Whose samples were answered.
        path: For the message.
        count: Of all rows.
        strangers: Rows without a sample.
        others: Rows whose right answer is another than the sample's.

    Raises:
        PredictionsError: there is one.
    """
    where = f"split {task.card.split} of task {task.card.name}"
    if strangers:
        first = strangers[0]
        said = " ".join(first.question.split())[:80]
        raise PredictionsError(
            f"{path}: {len(strangers)} of {count} answers are to no question of {where}, the first "
            f"in {first.place} ({first.row_id}: {said!r})"
        )
    if others:
        row, sample = others[0]
        raise PredictionsError(
            f"{path}: {len(others)} of {count} rows have another right answer than {where}, the "
            f"first in {row.place}: {row.answer!r} there, {sample.reference!r} here"
        )


def _record(task: Task, sample: Sample, row: PublishedAnswer, is_theirs: bool) -> Record:
    if FAILED in row.text and not is_theirs:  # their own scoring knows what to do with it
        return Record(
            sample.id, "", row.text, None, sample.reference, None, sample.groups, sample.cluster,
            error=row.text,
        )  # fmt: skip
    return imported_record(sample, row.text, task.parse_response(sample, Response(row.text)))


class _ByQuestion:
    """Samples by their questions; each is given once."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._left: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            self._left[_first_line(sample)].append(sample)

    def take(self, row: PublishedAnswer) -> Sample | None:
        """Return the sample that a row answers; of those that are alike, the next one."""
        found = [sample for sample in self._candidates(row) if _has_choices(row, sample)]
        if not found:
            return None
        named = [len(_names_of(sample) & row.facts) for sample in found]
        found = [s for s, count in zip(found, named, strict=True) if count == max(named)]
        chosen = next((sample for sample in found if _is_right(row, sample)), found[0])
        self._left[_first_line(chosen)].remove(chosen)
        return chosen

    def _candidates(self, row: PublishedAnswer) -> list[Sample]:
        asked = _plain(row.question)
        lines = [_plain(line) for line in row.question.strip().split("\n")]
        if not row.is_prompt:
            lines = lines[:1]
        found = [
            sample
            for line in dict.fromkeys(lines)
            for sample in self._left.get(line, ())
            if line and _plain(str(sample.fields["question"])) in asked
        ]
        if found or not row.is_prompt:
            return found
        # What is put around the question stands on its line.
        within = [
            line for line, samples in self._left.items() if line and samples and line in asked
        ]
        return list(self._left[max(within, key=len)]) if within else []


def _first_line(sample: Sample) -> str:
    return _plain(str(sample.fields.get("question", "")).strip().partition("\n")[0])


def _plain(text: str) -> str:
    return ASKED_FOR.sub("", " ".join(text.split()).casefold())


def _has_choices(row: PublishedAnswer, sample: Sample) -> bool:
    choices = [_plain(str(choice)) for choice in sample.fields.get("choices", ())]
    if row.is_prompt:
        asked = _plain(row.question)
        return all(choice in asked for choice in choices)
    return not choices or choices == [_plain(choice) for choice in row.choices]


def _names_of(sample: Sample) -> set[str]:
    return {image.stem for image in sample.images} | set(sample.groups)


def _is_right(row: PublishedAnswer, sample: Sample) -> bool:
    """Return whether a row and a sample have the same right answer, or one of them says none."""
    reference: Any = sample.reference
    if not row.answer or reference is None:
        return True
    said = _plain(row.answer)
    if isinstance(reference, int) and not isinstance(reference, bool):
        choices = [_plain(str(choice)) for choice in sample.fields.get("choices", ())]
        named = LETTERS[reference].casefold() if 0 <= reference < len(LETTERS) else ""
        texts = choices[reference : reference + 1]
        return said in (named, str(reference), *texts)
    known = reference if isinstance(reference, list) else [reference]
    return any(_alike(said, _plain(str(one))) for one in known)


def _alike(first: str, second: str) -> bool:
    """Return whether two cells are the same: a spreadsheet may hold 1.0 for 1."""
    if first == second:
        return True
    try:
        return float(first) == float(second)
    except ValueError:
        return False
