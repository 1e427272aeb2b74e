"""How many: TallyQA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from adem_bench.data.questions import QuestionFiles
from adem_bench.data.tallyqa import TallyQaFiles
from adem_bench.metrics.counting import READERS
from adem_bench.metrics.counting import UNREAD as NO_NUMBER
from adem_bench.metrics.grouped import grouped_metrics, grouped_statistics
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.majority import MAJORITY, majority
from adem_bench.records import Metric, Prediction, Record, Response, Sample
from adem_bench.tasks.questions.base import (
    IMAGES,
    UNREAD,
    QuestionOptions,
    QuestionTask,
    scored,
    unread,
)
from adem_bench.tasks.questions.predictions import most_probable
from adem_bench.tasks.scienceqa import most_probable_choice
from adem_bench.tasks.shared import TokenCount, scored_records

ACCURACY = "accuracy"
COUNTS = [str(number) for number in range(16)]
"""TallyQA's answers, 0 to 15."""


class CountingOptions(QuestionOptions):
    """Settings of a counting card."""

    answer_rule: Literal["number", "whole", "logits"] = "number"
    """How an answer is read: the first number in it, in digits or as a word; the number that all
    of it is; or the most probable of 0 to 15, whatever would have been written."""
    max_new_tokens: TokenCount = 8


class Counting(QuestionTask[CountingOptions]):
    """Questions that are answered with a number."""

    options_kind = CountingOptions

    def open_files(self, root: Path) -> QuestionFiles:
        """Return TallyQA's reader."""
        return TallyQaFiles(root, self.card.split, self.card.data, self.options.index)

    def metric_names(self) -> Sequence[str]:
        """Return accuracy, that of each group, unread answers and the majority's."""
        return (ACCURACY, *self.files.groups, UNREAD, MAJORITY)

    def hint(self) -> str:
        """Ask for a number."""
        return "Answer with a number."

    def choices(self, sample: Sample) -> Sequence[str]:
        """Return the numbers, by the rule `logits`."""
        return [f" {count}" for count in COUNTS] if self.options.answer_rule == "logits" else ()

    def read(self, sample: Sample, response: Response) -> Prediction:
        """Read the number, -1 for none; none at all without log-probabilities that are needed."""
        rule = self.options.answer_rule
        if rule == "logits":
            number = most_probable_choice(response.choice_logprobs or (), len(COUNTS))
        else:
            number = READERS[rule](response.text)
        return Prediction(number, None if number is None else _score(number, sample))

    def read_official(self, sample: Sample, response: Response) -> Prediction:
        """Read a number of a result file."""
        number = READERS["whole"](response.text)
        return Prediction(number, _score(number, sample))

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return accuracy, that of each group, unread answers and the majority's."""
        return (
            *grouped_metrics(scored(records), ACCURACY, IMAGES, self.files.groups),
            unread(sum(r.prediction == NO_NUMBER for r in records), records, "number"),
            majority([str(record.reference) for record in records]),
        )

    @staticmethod
    def statistics(records: Sequence[Record]) -> Statistics:
        """Return what the accuracies rest on, by image."""
        return grouped_statistics(scored(scored_records(records)), ACCURACY, IMAGES)

    def answer_text(self, record: Record) -> str:
        """Return the number."""
        return "" if record.prediction == NO_NUMBER else str(record.prediction)

    def suite_text(self, row: Mapping[str, Any]) -> str | None:
        """Return the number that the probabilities favour."""
        return most_probable(row, "mc_probabilities", COUNTS)


def _score(number: int, sample: Sample) -> float:
    return float(str(number) == sample.reference)
