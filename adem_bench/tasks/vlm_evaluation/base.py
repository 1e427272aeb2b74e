"""What the kinds share: questions to samples, prompts, and answers to records and files."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from adem_bench.data.reading import SkippedRow
from adem_bench.errors import PredictionsError
from adem_bench.files import write_atomically
from adem_bench.records import Json, Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import (
    Benchmark,
    TaskOptions,
    check_choice,
    imported_record,
    scored_records,
)
from adem_bench.tasks.vlm_evaluation.files import Question, QuestionFiles
from adem_bench.tasks.vlm_evaluation.result_files import read_answers

IMAGES = "images"
"""What is independent of the rest: questions about one image are one unit."""


class QuestionOptions(TaskOptions):
    """Settings that cards of all these kinds have."""

    index: str = ""
    """An index file of vlm-evaluation (`metadata-….json`), below the data root: its questions
    are asked instead of the official files'."""
    hint: str | None = None
    """What is put behind each question; the kind's own words if left out."""


class QuestionTask(Benchmark):
    """Questions about images, one image each."""

    options: QuestionOptions
    unit = "images"

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        super().__init__(card, data_root)
        check_choice(card, "split", card.split, self.files.splits)

    @cached_property
    def files(self) -> QuestionFiles:
        """The data set's reader; it opens nothing yet."""
        return self.open_files()

    @abstractmethod
    def open_files(self) -> QuestionFiles:
        """Return the data set's reader; nothing is read yet."""

    @abstractmethod
    def hint(self) -> str:
        """Return the kind's words behind a question."""

    @abstractmethod
    def answer_text(self, record: Record) -> str:
        """Return what was read, as it stands in the data set's own result files."""

    @abstractmethod
    def suite_text(self, row: Mapping[str, Any]) -> str | None:
        """Return the response in a row of vlm-evaluation's results; None if it has none."""

    def asked(self, sample: Sample) -> str:
        """Return the question as it is asked, without hint and template."""
        return str(sample.fields["question"])

    def question(self, sample: Sample) -> str:
        """Return a question with its hint."""
        return "\n".join(part for part in (self.asked(sample), self._hint()) if part)

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return the prompt format and the hint."""
        return {"prompt_format": self.prompt_format, "hint": self._hint()}

    def _hint(self) -> str:
        return self.hint() if self.options.hint is None else self.options.hint

    def rows(self) -> Iterator[Question | SkippedRow]:
        """Yield the questions in the file's order.

        Raises:
            DataError: a file is missing or malformed.
        """
        return self.files.rows()

    def digest(self) -> str:
        """Return a digest of the annotation files and the image listing."""
        return self.files.digest(self.counted_rows())

    def sample(self, row: Question) -> Sample:
        """Return a question."""
        return Sample(
            id=row.id,
            fields={
                "question": row.text,
                "choices": row.choices,
                "ocr_tokens": row.tokens,
                "suite_id": row.suite_id,
            },
            reference=row.reference,
            images=(row.image,),
            groups=row.groups,
            cluster=row.image.name,
        )

    def warnings(self, records: Sequence[Record], metrics: Sequence[Metric]) -> Sequence[str]:
        """Return that the questions are those of an index alone."""
        if not self.options.index:
            return ()
        return (f"the questions of {Path(self.options.index).name} only (options.index)",)

    def export(self, records: Iterable[Record], folder: Path) -> list[Path]:
        """Write `predictions.json` in the data set's result format, without failed questions."""
        files = self.files
        rows = [
            {
                files.id_name: int(r.sample_id) if files.has_whole_ids else r.sample_id,
                files.answer_name: self.answer_text(r),
            }
            for r in scored_records(list(records))
        ]
        path = folder / "predictions.json"
        lines = ",\n".join(json.dumps(row) for row in rows)
        write_atomically(path, f"[\n{lines}\n]\n")
        return [path]

    def import_predictions(self, path: Path) -> list[Record]:
        """Return records of an official result file, or of vlm-evaluation's results.

        Raises:
            PredictionsError: not such a file, or questions of other data.
        """
        files = self.files
        answers = read_answers(path, files.id_name, files.answer_name, self.suite_text)
        left, records, known = dict(answers.texts), [], 0
        for sample in self.samples():
            key = sample.fields["suite_id"] if answers.from_suite else sample.id
            known += bool(key)
            text = left.pop(key, None)
            if text is not None:
                records.append(self._record(sample, text, answers.from_suite))
        if not known:
            raise PredictionsError(
                f"{path}: vlm-evaluation numbers these questions in its index file alone; name it: "
                "--set options.index=FILE, below the data root"
            )
        if left:
            raise PredictionsError(
                f"{path}: {len(left)} of {len(answers.texts)} questions are not in split "
                f"{self.card.split}{' of the index' if self.options.index else ''}, the first is "
                f"{next(iter(left))!r}"
            )
        return records

    def _record(self, sample: Sample, text: str, is_response: bool) -> Record:
        parse = self.parse_response if is_response else self.parse_official
        return imported_record(sample, text, parse(sample, Response(text)))

    def parse_official(self, sample: Sample, response: Response) -> Prediction:
        """Read an answer that stands in an official result file."""
        return self.parse_response(sample, response)
