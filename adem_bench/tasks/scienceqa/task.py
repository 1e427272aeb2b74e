"""ScienceQA: multiple-choice science questions with and without an image.

Prompts and scores are in docs/method.md, section 10.1, the layout in section 11.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from adem_bench.data.reading import SkippedRow
from adem_bench.errors import PredictionsError
from adem_bench.files import write_atomically
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.majority import MAJORITY
from adem_bench.metrics.multiple_choice import most_probable_choice, read_strict
from adem_bench.records import (
    Json,
    Prediction,
    Record,
    Request,
    Response,
    Result,
    Sample,
    TrainingPair,
)
from adem_bench.schemas import Strict, TaskCard
from adem_bench.tasks.scienceqa.files import ScienceQAFiles, ScienceQAProblem
from adem_bench.tasks.scienceqa.prompts import ANSWER_START, FORMATS, Texts, render
from adem_bench.tasks.scienceqa.scores import (
    AVERAGE,
    COLUMNS,
    LETTERS,
    NO_ANSWER,
    UNREAD,
    ScienceQAAnswer,
    groups_of,
    nine_columns,
    nine_statistics,
)
from adem_bench.tasks.shared import (
    Skips,
    TokenCount,
    build_result,
    check_choice,
    check_metrics,
    read_options,
    read_predictions,
    scored_records,
)

PREDICTIONS_HOLD = "an object of question id to option index (preds.json)"


class ScienceQAOptions(Strict):
    """Settings of a ScienceQA card."""

    captions: bool = True
    """Whether a machine-made caption of the image joins the context, as in eval_sqa.py (Q2)."""
    answer_rule: Literal["published", "strict", "logits"] = "published"
    """How an answer is read: the first capital letter anywhere (Q5); a listed option's letter
    standing alone; or the most probable option, whatever would have been written."""
    max_new_tokens: TokenCount = 1


class ScienceQA:
    """ScienceQA in its official layout."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        self.card = card
        self.options = read_options(card, ScienceQAOptions)
        self._format = check_choice(card, "prompt format", card.prompt_format or "QCM-A", FORMATS)
        check_metrics(card, (*COLUMNS, AVERAGE, UNREAD, MAJORITY))
        self._files = ScienceQAFiles(data_root, card.data)
        self._skips = Skips()
        self._fingerprint = ""

    @property
    def num_expected(self) -> int:
        """Number of questions of the split, as published or else in pid_splits.json."""
        known = self.card.expected.get(self.card.split)
        return len(self._files.ids(self.card.split)) if known is None else known

    @property
    def prompt_format(self) -> str:
        """Name of the format in which `request` renders prompts."""
        return self._format

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return the prompt format and whether captions are used."""
        return {"prompt_format": self._format, "captions": self.options.captions}

    def samples(self) -> Iterator[Sample]:
        """Yield the questions of the split in the order of pid_splits.json.

        Raises:
            CardError: no such split.
            DataError: a file is missing or malformed.
        """
        rows = self._files.rows(self.card.split, self.options.captions)
        has_images = False
        for problem in self._skips.keep(rows):
            if problem.image and not has_images:
                self._files.check_image_folder()
                has_images = True
            yield _sample(problem)

    def skipped_rows(self) -> Sequence[SkippedRow]:
        """Return the malformed questions that `samples` has met so far."""
        return self._skips.listed()

    def request(self, sample: Sample) -> Request:
        """Render a question; the prompt ends where the letter must follow."""
        prompt, _ = render(self._format, _texts(sample, self.options.captions))
        letters = LETTERS[: len(sample.fields["choices"])]
        choices = [f" {letter}" for letter in letters]
        return Request(
            prompt=prompt + ANSWER_START,
            images=sample.images,
            max_new_tokens=self.options.max_new_tokens,
            choices=tuple(choices) if self.options.answer_rule == "logits" else (),
        )

    def training_settings(self) -> Mapping[str, Json]:
        """Return what `prompt_settings` does: both sides ask alike."""
        return self.prompt_settings()

    def training_pairs(self) -> Iterator[TrainingPair]:
        """Yield prompts and answers as the published trainer joins them (ScienceQADataSet)."""
        for sample in self.samples():
            prompt, answer = render(self._format, _texts(sample, self.options.captions))
            yield TrainingPair(sample.id, prompt, answer, sample.images)

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the index of the chosen option, -1 for none.

        By the rule `logits`, a response without usable log-probabilities has no prediction.
        """
        count = len(sample.fields["choices"])
        if self.options.answer_rule == "logits":
            index = most_probable_choice(response.choice_logprobs or (), count)
        elif self.options.answer_rule == "strict":
            index = _strict(response.text, count)
        else:
            index = _published(response.text, count)
        score = None if index is None else float(index == sample.reference)
        return Prediction(index, score)

    def aggregate(self, records: Sequence[Record]) -> Result:
        """Return the nine columns."""
        answers = _answers(records)
        metrics = nine_columns(list(answers.values()))
        return build_result(self.card, records, len(answers), self.num_expected, metrics)

    @staticmethod
    def statistics(records: Sequence[Record]) -> Statistics:
        """Return what the columns rest on, by question."""
        return nine_statistics(_answers(records))

    def export(self, records: Iterable[Record], folder: Path) -> list[Path]:
        """Write `preds.json`: question id to option index, without failed questions."""
        answers = {r.sample_id: r.prediction for r in scored_records(list(records))}
        path = folder / "preds.json"
        write_atomically(path, json.dumps(answers))
        return [path]

    def import_predictions(self, path: Path) -> list[Record]:
        """Return records from a `preds.json`, also one below a key `results`.

        Raises:
            PredictionsError: not such a file, or ids of another split.
        """
        data = read_predictions(path, PREDICTIONS_HOLD)
        if isinstance(data, dict) and isinstance(data.get("results"), dict):
            data = data["results"]  # as ScienceQA's own evaluation writes it
        if not isinstance(data, dict) or not data:
            raise PredictionsError(f"{path} holds no predictions; expected {PREDICTIONS_HOLD}")
        rows = self._files.rows(self.card.split, with_captions=False)
        samples = {problem.id: _sample(problem) for problem in self._skips.keep(rows)}
        unknown = [qid for qid in data if qid not in samples]
        if unknown:
            raise PredictionsError(
                f"{path}: {len(unknown)} of {len(data)} questions are not in split "
                f"{self.card.split}, the first is {unknown[0]!r}{self._where(unknown[0])}"
            )
        return [
            _record(sample, _index(path, qid, data[qid]))
            for qid, sample in samples.items()
            if qid in data
        ]

    def _where(self, qid: str) -> str:
        homes = [name for name, ids in self._files.splits.items() if qid in ids]
        return f"; it is in {homes[0]} (--split {homes[0]})" if homes else ""

    def fingerprint(self) -> str:
        """Return a digest of the annotation files and the image listing."""
        if not self._fingerprint:
            self._fingerprint = self._files.digest(self.card.split, self.options.captions)
        return self._fingerprint


def _answers(records: Sequence[Record]) -> dict[str, ScienceQAAnswer]:
    return {
        r.sample_id: ScienceQAAnswer(int(str(r.prediction)), int(str(r.reference)), r.groups)
        for r in scored_records(records)
        if isinstance(r.prediction, int)
    }


def _sample(problem: ScienceQAProblem) -> Sample:
    return Sample(
        id=problem.id,
        fields={
            "question": problem.question,
            "choices": problem.choices,
            "hint": problem.hint,
            "caption": problem.caption,
            "lecture": problem.lecture,
            "solution": problem.solution,
        },
        reference=problem.answer,
        images=(problem.image,) if problem.image else (),
        groups=groups_of(
            problem.subject, problem.grade, bool(problem.hint), problem.image is not None
        ),
    )


def _texts(sample: Sample, captions: bool) -> Texts:
    fields = sample.fields
    return Texts(
        question=fields["question"],
        hint=fields["hint"],
        caption=fields["caption"] if captions else "",
        choices=fields["choices"],
        answer=LETTERS[int(str(sample.reference))],
        lecture=fields["lecture"],
        solution=fields["solution"],
    )


def _published(text: str, count: int) -> int:
    """The first of A to Z anywhere; wrong (-1) beyond the question's options (eval_sqa.py)."""
    letter = re.search("[A-Z]", text)
    index = LETTERS.find(letter.group()) if letter else NO_ANSWER
    return index if index < count else NO_ANSWER


def _strict(text: str, count: int) -> int:
    letter = read_strict(text, LETTERS[:count])
    return LETTERS.index(letter) if letter else NO_ANSWER


def _index(path: Path, qid: str, value: object) -> int:
    """Return a predicted index; the published scorer takes whatever `int` takes."""
    if isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            pass
    raise PredictionsError(
        f"{path}: question {qid}: {value!r} is no option index; expected {PREDICTIONS_HOLD}"
    )


def _record(sample: Sample, index: int) -> Record:
    return Record(
        sample_id=sample.id,
        request_digest="",
        response="",
        prediction=index,
        reference=sample.reference,
        score=float(index == sample.reference),
        groups=sample.groups,
    )
