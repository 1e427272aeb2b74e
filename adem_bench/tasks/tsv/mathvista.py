"""MathVista in a TSV: options, numbers, lists and texts, found in responses by rule."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Literal

from adem_bench.data.reading import RowError
from adem_bench.data.table import texts_of
from adem_bench.metrics.multiple_choice import CHAT_OPTIONS
from adem_bench.records import Prediction, Request, Response, Sample
from adem_bench.tasks.judged import JudgedBenchmark
from adem_bench.tasks.tsv.base import TsvOptions, TsvTask, image_cluster
from adem_bench.tasks.tsv.files import TsvRow
from adem_bench.tasks.tsv.mathvista_judge import (
    MAX_TOKENS,
    judge_prompt,
    matches_published,
    matches_vlmevalkit,
    needs_no_judge,
)
from adem_bench.tasks.tsv.mathvista_scores import READERS, MathQuestion

SCORING = {
    "chat": (
        "options are read by the rule `chat` (docs/answers.md), other answers found by rule; the "
        "official scorer has GPT-4 find them, so that published figures are not comparable"
    ),
    "extracted": (
        "answers are found by rule; the official scorer has GPT-4 find them, so that published "
        "figures are not comparable"
    ),
    "vlmevalkit": (
        "only answers that VLMEvalKit scores without its judge model count; the others, which it "
        "has the judge read, are wrong here"
    ),
}


class MathVistaOptions(TsvOptions):
    """Settings of a MathVista card."""

    answer_rule: Literal["extracted", "vlmevalkit", "chat"] = "extracted"
    """How an answer is found: our rule; what VLMEvalKit takes before it asks its judge; or our
    rule with options read by `chat`, the default for models that chat."""


class TsvMathVista(TsvTask, JudgedBenchmark):
    """Questions of mathematics on figures; a judge may find the answers in the responses."""

    options_schema = MathVistaOptions
    options: MathVistaOptions
    chat_options = CHAT_OPTIONS
    needs = (
        *("index", "image|image_path", "question"),
        *("question_type", "answer_type", "choices", "answer_option"),
    )

    @property
    def is_vlmevalkit(self) -> bool:
        """Whether only VLMEvalKit's own reading counts."""
        return self.options.answer_rule == "vlmevalkit"

    def scoring(self) -> str:
        """Return how answers are found."""
        return SCORING[self.options.answer_rule]

    def read_row(self, row: TsvRow) -> Sample:
        """Return a question with what its answer must be."""
        is_choice = row.text("question_type") == "multi_choice"
        choices = texts_of(row.text("choices")) if is_choice else []
        answer = row.text("answer_option" if is_choice else "answer")
        precision = row.text("precision")
        skills = texts_of(row.text("skills")) if row.text("skills") else []
        task = [f"task/{row.text('task')}"] if row.text("task") else []
        return Sample(
            id=row.index,
            fields={
                "question": row.cells.get("question", ""),
                "answer_type": row.text("answer_type"),
                "precision": int(float(precision)) if _is_number(precision) else None,
                "options": dict(zip(ascii_uppercase, choices, strict=False)),
            },
            reference=answer or None,
            images=row.images,
            groups=(*task, *(f"skill/{skill}" for skill in skills)),
            cluster=image_cluster(row),
        )

    def check(self, row: TsvRow, sample: Sample) -> None:
        """Refuse a question of multiple choice whose answer is none of its choices.

        Raises:
            RowError: it is none, or the row cannot be asked at all.
        """
        super().check(row, sample)
        options = sample.fields["options"]
        if row.text("question_type") == "multi_choice" and sample.reference not in options:
            raise RowError(
                f"its answer_option {str(sample.reference)[:40]!r} is none of {', '.join(options)}"
            )

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Find the answer in a response."""
        if sample.reference is None:
            return Prediction(response.text, None)
        found, is_right = READERS[self.options.answer_rule](response.text, _question(sample))
        return Prediction(found, float(is_right))

    @property
    def unjudged(self) -> Sequence[str]:
        """That answers are found by rule."""
        return [self.scoring()]

    def judge_request(self, sample: Sample, text: str) -> Request | None:
        """Return the published extraction prompt; None where the response is an answer by itself.

        Args:
            sample: What was asked.
            text: What was answered.
        """
        if sample.reference is None or needs_no_judge(text, _question(sample)) is not None:
            return None
        prompt = judge_prompt(sample.fields["question"], text)
        return Request(prompt, max_new_tokens=MAX_TOKENS)

    def judgement(self, sample: Sample, text: str, said: str | None) -> Prediction:
        """Match what the judge found with the answer.

        Args:
            sample: What was asked.
            text: What was answered.
            said: By the judge; None where the response is an answer by itself.
        """
        if sample.reference is None:
            return Prediction(text, None)
        question = _question(sample)
        found = said.strip() if said is not None else needs_no_judge(text, question) or ""
        if self.is_vlmevalkit or said is None:
            return Prediction(found, float(matches_vlmevalkit(found, question)))
        return Prediction(found, float(matches_published(found, question)))


def _question(sample: Sample) -> MathQuestion:
    fields = sample.fields
    return MathQuestion(
        answer=str(sample.reference),
        answer_type=fields["answer_type"],
        precision=fields["precision"],
        options=fields["options"],
    )


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal() and len(text) < 6
