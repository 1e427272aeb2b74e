"""Questions with short answers: VQAv2, GQA, VizWiz and TextVQA."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from adem_bench.metrics.grouped import grouped_metrics, grouped_statistics, joined, scores_of
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.vqa import RULES, processed
from adem_bench.records import Json, Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import scored_records
from adem_bench.tasks.vlm_evaluation.answerability import (
    FORMULAS,
    UNANSWERABLE,
    Verdict,
    answerability_metrics,
    answerability_statistics,
)
from adem_bench.tasks.vlm_evaluation.base import IMAGES, QuestionOptions, QuestionTask
from adem_bench.tasks.vlm_evaluation.files import QuestionFiles
from adem_bench.tasks.vlm_evaluation.vqa_files import (
    GqaFiles,
    TextVqaFiles,
    VizWizFiles,
    VqaV2Files,
)

ACCURACY = "accuracy"
SHORT = "Answer with a single word or a short phrase."
OR_UNANSWERABLE = f"If the picture does not show it, answer: {UNANSWERABLE}."
TOKENS = "Text in the picture: "
READERS: dict[str, Callable[..., QuestionFiles]] = {
    "vqav2": VqaV2Files,
    "gqa": GqaFiles,
    "vizwiz": VizWizFiles,
    "textvqa": TextVqaFiles,
}
SCORING = {
    "official": {"vqav2": "official", "vizwiz": "vizwiz", "textvqa": "evalai"},
    "vlm_evaluation": {"vqav2": "vlm_evaluation", "vizwiz": "vizwiz", "textvqa": "evalai"},
}
"""Answer rule and layout to the rule of VQA accuracy; GQA has one answer, to be met exactly."""
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class VqaOptions(QuestionOptions):
    """Settings of a card of short answers."""

    layout: Literal["vqav2", "gqa", "vizwiz", "textvqa"]
    """Whose files they are, and so which official metric is used."""
    ocr_tokens: bool = False
    """TextVQA: whether the question comes with what an OCR program read in the image."""
    answer_rule: Literal["official", "vlm_evaluation"] = "official"
    """How an answer is compared: by the data set's own evaluation, of which VQAv2's and GQA's
    mind case, so that responses are put in lower case and lose a closing full stop; or as
    vlm-evaluation does."""


class Vqa(QuestionTask):
    """Open questions, answered in a word or two."""

    options_schema = VqaOptions
    options: VqaOptions

    def open_files(self) -> QuestionFiles:
        """Return the layout's reader."""
        options = self.options
        more = {"ocr_tokens": options.ocr_tokens} if options.layout == "textvqa" else {}
        reader = READERS[options.layout]
        return reader(self.data_root, self.card.split, self.card.data, options.index, **more)

    def metric_names(self) -> Sequence[str]:
        """Return accuracy, that of each group, and VizWiz's figures of unanswerable questions."""
        more = FORMULAS if self.options.layout == "vizwiz" else ()
        return (ACCURACY, *self.files.groups, *more)

    def hint(self) -> str:
        """Ask for few words."""
        return f"{SHORT} {OR_UNANSWERABLE}" if self.options.layout == "vizwiz" else SHORT

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return prompt format, hint and whether OCR tokens are shown."""
        return {**super().prompt_settings(), "ocr_tokens": self.options.ocr_tokens}

    def asked(self, sample: Sample) -> str:
        """Return the question, behind what was read in the image if that is to be shown."""
        tokens = ", ".join(sample.fields["ocr_tokens"])
        question = super().asked(sample)
        return f"{TOKENS}{tokens}\n{question}" if tokens else question

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the answer."""
        rule, layout = self.options.answer_rule, self.options.layout
        text = response.text.strip()
        if rule == "official" and layout in ("vqav2", "gqa"):
            text = text.lower().removesuffix(".").rstrip()
        elif layout == "gqa":
            text = response.text.translate(WITHOUT_PUNCTUATION).lower()
        return self.parse_official(sample, Response(text))

    def parse_official(self, sample: Sample, response: Response) -> Prediction:
        """Take an answer as it stands."""
        if isinstance(sample.reference, str):
            return Prediction(response.text, float(response.text == sample.reference))
        assert isinstance(sample.reference, list)
        rule = RULES[SCORING[self.options.answer_rule][self.options.layout]]
        answers = [str(answer) for answer in sample.reference]
        return Prediction(response.text, rule.accuracy(response.text, answers))

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return accuracy, that of each group, and VizWiz's figures of unanswerable questions."""
        metrics = grouped_metrics(scores_of(records), ACCURACY, IMAGES, self.files.groups)
        if self.options.layout != "vizwiz":
            return metrics
        return (*metrics, *answerability_metrics(_verdicts(records)))

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the figures rest on, by image."""
        found = scored_records(records)
        accuracy = grouped_statistics(scores_of(found), ACCURACY, IMAGES)
        if not any(UNANSWERABLE in record.groups for record in found):
            return accuracy
        return joined(accuracy, answerability_statistics(_verdicts(found)))

    def answer_text(self, record: Record) -> str:
        """Return the answer."""
        return str(record.prediction)

    def suite_text(self, row: Mapping[str, Any]) -> str | None:
        """Return the response; TextVQA's rows have one with and one without OCR tokens."""
        if self.options.layout == "textvqa":
            return row.get("model_output_ocr" if self.options.ocr_tokens else "model_output_no_ocr")
        return row.get("model_output")


def _verdicts(records: Sequence[Record]) -> list[Verdict]:
    return [
        Verdict(
            unit=record.cluster or "",
            said=processed(str(record.prediction)) == UNANSWERABLE,
            true=UNANSWERABLE in record.groups,
        )
        for record in records
    ]
