"""Short answers in a TSV: TextVQA, DocVQA, ChartQA, OCRBench and their like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from adem_bench.data.table import texts_of
from adem_bench.errors import CardError
from adem_bench.metrics.grouped import scores_of
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.vqa import RULES
from adem_bench.records import Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import scored_records
from adem_bench.tasks.tsv.base import (
    VLMEVALKIT_SCORING,
    TsvOptions,
    TsvTask,
    groups_of,
    image_cluster,
)
from adem_bench.tasks.tsv.files import TsvRow
from adem_bench.tasks.tsv.ocrbench_scores import FORMULAS, ocrbench_metrics, ocrbench_statistics
from adem_bench.tasks.tsv.ocrbench_scores import NAMES as OCRBENCH_NAMES
from adem_bench.tasks.tsv.short_answer_scores import (
    SCORES,
    VLMEVALKIT_SCORES,
    Score,
    contained,
    contained_formula,
)

OFFICIAL = {
    "official": "the VQA evaluation (vqaEval.py)",
    "evalai": "TextVQA's evaluation (m4c_evaluators.py)",
}


class AnswerOptions(TsvOptions):
    """Settings of a short-answer card."""

    metric: Literal["vqa", "anls", "relaxed", "exact", "contained"] = "exact"
    """How an answer is scored: VQA accuracy, average normalized Levenshtein similarity (DocVQA),
    relaxed accuracy (ChartQA), the same text, or a text that the answer holds."""
    answer_rule: Literal["vlmevalkit", "official", "evalai"] = "vlmevalkit"
    """Whose processing of answers VQA accuracy uses; the other metrics have one way only."""


class TsvShortAnswer(TsvTask):
    """Questions with a text, or several, for an answer."""

    options_schema = AnswerOptions
    options: AnswerOptions
    metric_name = "score"

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        """Check a card; no file is read.

        Raises:
            CardError: an option is wrong, or `answer_rule` is not one of the metric.
        """
        super().__init__(card, data_root)
        if not self.is_vlmevalkit and self.options.metric != "vqa":
            raise CardError(
                f"task {card.name}: option 'answer_rule' {self.options.answer_rule!r} is for "
                f"metric vqa; {self.options.metric} is the same for all, leave it out"
            )

    @property
    def is_vlmevalkit(self) -> bool:
        """Whether answers are processed as VLMEvalKit does."""
        return self.options.answer_rule == "vlmevalkit"

    def scoring(self) -> str:
        """Return by whose rules answers are processed."""
        if self.is_vlmevalkit:
            return VLMEVALKIT_SCORING
        whose = OFFICIAL[self.options.answer_rule]
        return f"answers are scored as by {whose}; options.answer_rule=vlmevalkit is VLMEvalKit's"

    def read_row(self, row: TsvRow) -> Sample:
        """Return a question with all its right answers."""
        return Sample(
            id=row.index,
            fields={"question": row.cells.get("question", "")},
            reference=list(texts_of(row.cells["answer"])) if row.text("answer") else None,
            images=row.images,
            groups=groups_of(row),
            cluster=image_cluster(row),
        )

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Take the whole response for the answer."""
        if not isinstance(sample.reference, list) or not sample.reference:
            return Prediction(response.text, None)
        answers = [str(answer) for answer in sample.reference]
        return Prediction(response.text, self.score(sample)(response.text, answers))

    def score(self, sample: Sample) -> Score:
        """Return what scores a sample's answer."""
        if self.options.answer_rule in RULES:
            return RULES[self.options.answer_rule].accuracy
        return (VLMEVALKIT_SCORES if self.is_vlmevalkit else SCORES)[self.options.metric]


class TsvOcrBench(TsvShortAnswer):
    """OCRBench: how many of its 1,000 answers hold what was asked for."""

    needs = ("index", "image|image_path", "question", "category")

    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name."""
        return OCRBENCH_NAMES

    def score(self, sample: Sample) -> Score:
        """Return what scores a sample: blanks do not count in formulas, case not elsewhere."""
        return contained_formula if f"category/{FORMULAS}" in sample.groups else contained

    def scores(self, records: Sequence[Record]) -> tuple[Metric, ...]:
        """Return the points, in all and of the five parts, and the share of each category."""
        return ocrbench_metrics(scores_of(records))

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the points rest on, by image."""
        return ocrbench_statistics(scores_of(scored_records(records)))
