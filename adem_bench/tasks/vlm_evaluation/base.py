"""What the kinds share: questions to samples, prompts, and answers to records and files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from adem_bench.data.reading import SkippedRow
from adem_bench.errors import PredictionsError
from adem_bench.files import write_atomically
from adem_bench.metrics.grouped import Scored
from adem_bench.prompts import FORMATS, INSTRUCTION
from adem_bench.records import Json, Metric, Prediction, Record, Request, Response, Result, Sample
from adem_bench.schemas import Strict, TaskCard
from adem_bench.tasks.shared import (
    Skips,
    TokenCount,
    build_result,
    check_choice,
    check_metrics,
    read_options,
    scored_records,
)
from adem_bench.tasks.vlm_evaluation.files import Question, QuestionFiles
from adem_bench.tasks.vlm_evaluation.result_files import read_answers

IMAGES = "images"
"""What is independent of the rest: questions about one image are one unit."""
UNREAD = "unread"


class QuestionOptions(Strict):
    """Settings that cards of all these kinds have."""

    index: str = ""
    """An index file of vlm-evaluation (`metadata-….json`), below the data root: its questions
    are asked instead of the official files'."""
    hint: str | None = None
    """What is put behind each question; the kind's own words if left out."""
    max_new_tokens: TokenCount = 16


Options = TypeVar("Options", bound=QuestionOptions)


class QuestionTask(ABC, Generic[Options]):
    """Questions about images, one image each."""

    options_kind: ClassVar[type[QuestionOptions]]

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        self.card = card
        self.options: Options = read_options(card, self.options_kind)  # type: ignore[assignment]
        self.files = self.open_files(data_root)
        check_choice(card, "split", card.split, self.files.splits)
        chosen = card.prompt_format or INSTRUCTION
        self._format = check_choice(card, "prompt format", chosen, FORMATS)
        check_metrics(card, self.metric_names())
        self._skips = Skips()
        self._fingerprint = ""

    @abstractmethod
    def open_files(self, root: Path) -> QuestionFiles:
        """Return the data set's reader; nothing is read yet."""

    @abstractmethod
    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name."""

    @abstractmethod
    def hint(self) -> str:
        """Return the kind's words behind a question."""

    @abstractmethod
    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the answer out of a response."""

    @abstractmethod
    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return the metrics of records that can be scored."""

    @abstractmethod
    def answer_text(self, record: Record) -> str:
        """Return what was read, as it stands in the data set's own result files."""

    @abstractmethod
    def suite_text(self, row: Mapping[str, Any]) -> str | None:
        """Return the response in a row of vlm-evaluation's results; None if it has none."""

    def asked(self, sample: Sample) -> str:
        """Return the question as it is asked, without hint and template."""
        return str(sample.fields["question"])

    def choices(self, sample: Sample) -> Sequence[str]:
        """Return continuations whose log-probabilities are wanted."""
        return ()

    @property
    def num_expected(self) -> int:
        """Number of questions of the whole split as published, or else in the data."""
        known = self.card.expected.get(self.card.split)
        return sum(1 for _ in self.files.rows()) if known is None else known

    @property
    def prompt_format(self) -> str:
        """Name of the format in which `request` renders prompts."""
        return self._format

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return the prompt format and the hint."""
        return {"prompt_format": self._format, "hint": self._hint()}

    def _hint(self) -> str:
        return self.hint() if self.options.hint is None else self.options.hint

    def samples(self) -> Iterator[Sample]:
        """Yield the questions in the file's order.

        Raises:
            DataError: a file is missing or malformed.
        """
        return map(_sample, self._skips.keep(self.files.rows()))

    def skipped_rows(self) -> Sequence[SkippedRow]:
        """Return the malformed rows that `samples` has met so far."""
        return self._skips.listed()

    def request(self, sample: Sample) -> Request:
        """Render a question with its hint."""
        parts = [part for part in (self.asked(sample), self._hint()) if part]
        return Request(
            # Not str.format on the question: it may hold braces.
            prompt=FORMATS[self._format].replace("{question}", "\n".join(parts)),
            images=sample.images,
            max_new_tokens=self.options.max_new_tokens,
            choices=tuple(self.choices(sample)),
        )

    def aggregate(self, records: Sequence[Record]) -> Result:
        """Return the metrics."""
        scored = scored_records(records)
        return build_result(
            self.card, records, len(scored), self.num_expected, self.metrics(scored), self.remarks()
        )

    def remarks(self) -> Sequence[str]:
        """Return what a reader of the result must know."""
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
        prediction = parse(sample, Response(text))
        return Record(
            sample_id=sample.id,
            request_digest="",
            response=text,
            prediction=prediction.value,
            reference=sample.reference,
            score=prediction.score,
            groups=sample.groups,
            cluster=sample.cluster,
        )

    def parse_official(self, sample: Sample, response: Response) -> Prediction:
        """Read an answer that stands in an official result file."""
        return self.parse_response(sample, response)

    def fingerprint(self) -> str:
        """Return a digest of the annotation files and the image listing."""
        if not self._fingerprint:
            self._fingerprint = self.files.digest()
        return self._fingerprint


def scored(records: Iterable[Record]) -> list[Scored]:
    """Return the scores of records, by image."""
    return [Scored(record.cluster or "", record.score or 0.0, record.groups) for record in records]


def unread(count: int, records: Sequence[Record], what: str) -> Metric:
    """Return the number of answers in which nothing was found."""
    return Metric(UNREAD, count, "count", len(records), f"no {what} read; scored as wrong")


def _sample(question: Question) -> Sample:
    return Sample(
        id=question.id,
        fields={
            "question": question.text,
            "choices": question.choices,
            "ocr_tokens": question.tokens,
            "suite_id": question.suite_id,
        },
        reference=question.reference,
        images=(question.image,),
        groups=question.groups,
        cluster=question.image.name,
    )
