"""Which of these: AI2D's questions about diagrams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Literal

from adem_bench.metrics.grouped import (
    MAJORITY,
    UNREAD,
    grouped_metrics,
    majority,
    scores_of,
    unread,
)
from adem_bench.metrics.multiple_choice import (
    ACCURACY,
    CHAT,
    CHAT_OPTIONS,
    CHAT_SCORING,
    NO_OPTION,
    most_probable_choice,
    read_option_index,
)
from adem_bench.records import Metric, Prediction, Record, Response, Sample
from adem_bench.tasks.benchmark import TokenCount
from adem_bench.tasks.vlm_evaluation.ai2d_files import Ai2dFiles
from adem_bench.tasks.vlm_evaluation.base import QuestionOptions, QuestionTask
from adem_bench.tasks.vlm_evaluation.files import QuestionFiles
from adem_bench.tasks.vlm_evaluation.result_files import most_probable

SUITE_CHOICES = 4
"""Letters that vlm-evaluation asks for."""


class Ai2dOptions(QuestionOptions):
    """Settings of a multiple-choice card."""

    layout: Literal["ai2d"] = "ai2d"
    """Whose files they are."""
    answer_rule: Literal["strict", "vlmevalkit", "logits", "chat"] = "strict"
    """How an answer is read: a listed option's letter at the start, or an option's text; by
    VLMEvalKit's rules; the most probable letter, whatever would have been written; or by `chat`,
    the default for models that chat."""
    max_new_tokens: TokenCount = 8


class Ai2d(QuestionTask):
    """Questions with lettered options."""

    options_schema = Ai2dOptions
    options: Ai2dOptions
    chat_options = CHAT_OPTIONS

    def open_files(self) -> QuestionFiles:
        """Return AI2D's reader."""
        return Ai2dFiles(self.data_root, self.card.split, self.card.data, self.options.index)

    def metric_names(self) -> Sequence[str]:
        """Return accuracy, that of each group, unread answers and the majority's."""
        return (ACCURACY, *self.files.groups, UNREAD, MAJORITY)

    def hint(self) -> str:
        """Ask for a letter."""
        return "Answer with the letter of the right option."

    def asked(self, sample: Sample) -> str:
        """Return the question with its options, one per line."""
        lettered = zip(ascii_uppercase, sample.fields["choices"], strict=False)
        lines = [f"{letter}. {text}" for letter, text in lettered]
        return "\n".join([super().asked(sample), *lines])

    def choices(self, sample: Sample) -> Sequence[str]:
        """Return the letters, by the rule `logits`."""
        if self.options.answer_rule != "logits":
            return ()
        return [f" {letter}" for letter in ascii_uppercase[: len(sample.fields["choices"])]]

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read an option's index, -1 for none; nothing without log-probabilities needed."""
        if self.options.answer_rule == "logits":
            count = len(sample.fields["choices"])
            index = most_probable_choice(response.choice_logprobs or (), count)
        else:
            options, rule = sample.fields["choices"], self.options.answer_rule
            index = read_option_index(response.text, options, rule)
        return Prediction(index, None if index is None else float(index == sample.reference))

    def parse_official(self, sample: Sample, response: Response) -> Prediction:
        """Read a letter of a result file."""
        index = read_option_index(response.text, sample.fields["choices"])
        return Prediction(index, float(index == sample.reference))

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return accuracy, that of each group, unread answers and the majority's."""
        return (
            *grouped_metrics(scores_of(records), ACCURACY, self.unit, self.files.groups),
            unread(sum(r.prediction == NO_OPTION for r in records), len(records), "option"),
            majority([int(str(record.reference)) for record in records]),
        )

    def warnings(self, records: Sequence[Record], metrics: Sequence[Metric]) -> Sequence[str]:
        """Return also that the rule is `chat`."""
        is_chat = self.options.answer_rule == CHAT
        return [*super().warnings(records, metrics), *([CHAT_SCORING] if is_chat else [])]

    def answer_text(self, record: Record) -> str:
        """Return the letter."""
        index = int(str(record.prediction))
        return "" if index == NO_OPTION else ascii_uppercase[index]

    def suite_text(self, row: Mapping[str, Any]) -> str | None:
        """Return the letter that the probabilities favour."""
        return most_probable(row, "mc_probabilities", list(ascii_uppercase[:SUITE_CHOICES]))
