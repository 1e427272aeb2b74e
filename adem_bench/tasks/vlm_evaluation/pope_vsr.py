"""Is it so: POPE's yes-or-no questions, VSR's statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

from adem_bench.metrics.chat_answers import TRUE_FALSE, YES_NO, read_yes_no
from adem_bench.metrics.grouped import (
    MAJORITY,
    UNREAD,
    grouped_metrics,
    grouped_statistics,
    majority,
    scores_of,
    unread,
)
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.multiple_choice import most_probable_choice
from adem_bench.metrics.yes_no import (
    CATEGORY,
    CHAT,
    CHAT_OPTIONS,
    CHAT_SCORING,
    POPE_DETAILS,
    READERS,
    YesNo,
    YesNoAnswer,
    pope_metrics,
    pope_statistics,
    read_word,
)
from adem_bench.records import Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import TokenCount, scored_records
from adem_bench.tasks.vlm_evaluation.base import (
    IMAGES,
    QuestionOptions,
    QuestionTask,
)
from adem_bench.tasks.vlm_evaluation.files import QuestionFiles
from adem_bench.tasks.vlm_evaluation.pope_vsr_files import SAMPLINGS, PopeFiles, VsrFiles
from adem_bench.tasks.vlm_evaluation.result_files import most_probable

ACCURACY = "accuracy"
OFFICIAL = {"pope": READERS["pope"], "vsr": read_word}
SAID = {"pope": YES_NO, "vsr": TRUE_FALSE}
WORDS = {"pope": ("yes", "no"), "vsr": ("true", "false")}
SUITE_FIELDS = {"pope": "yes_no_probabilities", "vsr": "true_false_probabilities"}


class PopeVsrOptions(QuestionOptions):
    """Settings of a yes-or-no card."""

    layout: Literal["pope", "vsr"]
    """Whose files they are; VSR's statements are called true or false."""
    answer_rule: Literal["official", "word", "vlmevalkit", "lmms_eval", "mme", "logits", "chat"] = (
        "official"
    )
    """How an answer is read: as POPE's evaluate.py does (VSR has no such rule: `word` there); the
    first of yes, true, no, false; as another harness or MME's eval_tool; the more probable; or
    by `chat`, the default for models that chat."""
    max_new_tokens: TokenCount = 8


class PopeVsr(QuestionTask):
    """Questions or statements that are so or not."""

    options_schema = PopeVsrOptions
    options: PopeVsrOptions
    chat_options = CHAT_OPTIONS
    wrong_prediction = "other"

    def open_files(self) -> QuestionFiles:
        """Return the layout's reader."""
        reader = PopeFiles if self.options.layout == "pope" else VsrFiles
        return reader(self.data_root, self.card.split, self.card.data, self.options.index)

    def metric_names(self) -> Sequence[str]:
        """Return accuracy, for POPE also F1 and its parts by sampling, and what was not read."""
        if self.options.layout == "vsr":
            return (ACCURACY, UNREAD, MAJORITY)
        by_sampling = [f"{CATEGORY}{s}.{detail}" for s in SAMPLINGS for detail in POPE_DETAILS]
        return (*POPE_DETAILS, *by_sampling, UNREAD, MAJORITY)

    def hint(self) -> str:
        """Ask for one of the two words."""
        return f"Answer with {' or '.join(WORDS[self.options.layout])}."

    def asked(self, sample: Sample) -> str:
        """Return the question; a statement is put into one."""
        text = super().asked(sample)
        return text if self.options.layout == "pope" else f"Is this true of the picture? {text}"

    def choices(self, sample: Sample) -> Sequence[str]:
        """Return the two words, by the rule `logits`."""
        is_wanted = self.options.answer_rule == "logits"
        return [f" {word}" for word in WORDS[self.options.layout]] if is_wanted else ()

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read `yes`, `no` or `other`; nothing without log-probabilities that are needed."""
        if self.options.answer_rule == "logits":
            place = most_probable_choice(response.choice_logprobs or (), 2)
            answer = None if place is None else ("yes", "no")[place]
        else:
            answer = self._reader()(response.text)
        return Prediction(answer, None if answer is None else float(answer == sample.reference))

    def parse_official(self, sample: Sample, response: Response) -> Prediction:
        """Read an answer of a result file: by the rule, or by the words themselves."""
        if self.options.answer_rule == "logits":
            answer = read_word(response.text)
            return Prediction(answer, float(answer == sample.reference))
        return self.parse_response(sample, response)

    def warnings(self, records: Sequence[Record], metrics: Sequence[Metric]) -> Sequence[str]:
        """Return also that the rule is `chat`."""
        is_chat = self.options.answer_rule == CHAT
        return [*super().warnings(records, metrics), *([CHAT_SCORING] if is_chat else [])]

    def _reader(self) -> Callable[[str], YesNo]:
        rule, layout = self.options.answer_rule, self.options.layout
        if rule == CHAT:
            return lambda text: read_yes_no(text, SAID[layout])
        if rule == "official":
            return OFFICIAL[layout]
        return read_word if rule == "word" else READERS[rule]

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return accuracy, for POPE also F1 and its parts by sampling, and what was not read."""
        if self.options.layout == "pope":
            figures = pope_metrics(_answers(records))
        else:
            figures = grouped_metrics(scores_of(records), ACCURACY, IMAGES, ())
        return (
            *figures,
            unread(sum(r.prediction == "other" for r in records), len(records), "yes or no"),
            majority([str(record.reference) for record in records]),
        )

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the figures rest on, by image."""
        found = scored_records(records)
        if any(record.groups for record in found):
            return pope_statistics(_answers(found))
        return grouped_statistics(scores_of(found), ACCURACY, IMAGES)

    def answer_text(self, record: Record) -> str:
        """Return yes or no; an answer that was not read as it stands."""
        return record.answer_text if record.prediction == "other" else str(record.prediction)

    def suite_text(self, row: Mapping[str, Any]) -> str | None:
        """Return the word that the probabilities favour."""
        layout = self.options.layout
        return most_probable(row, SUITE_FIELDS[layout], list(WORDS[layout]))


def _answers(records: Sequence[Record]) -> list[YesNoAnswer]:
    return [
        YesNoAnswer(
            id=record.sample_id,
            unit=record.cluster or "",
            prediction=cast(YesNo, record.prediction),
            gold=cast(YesNo, record.reference),
            groups=tuple(f"{CATEGORY}{group}" for group in record.groups),
        )
        for record in records
    ]
