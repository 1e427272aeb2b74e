"""How many: TallyQA."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from adem_bench.data.reading import RowError
from adem_bench.data.streaming import array_items
from adem_bench.metrics.grouped import (
    MAJORITY,
    UNREAD,
    grouped_metrics,
    majority,
    scores_of,
    unread,
)
from adem_bench.metrics.multiple_choice import most_probable_choice
from adem_bench.records import Metric, Prediction, Record, Response, Sample
from adem_bench.tasks.benchmark import TokenCount
from adem_bench.tasks.vlm_evaluation.base import (
    QuestionOptions,
    QuestionTask,
)
from adem_bench.tasks.vlm_evaluation.files import (
    Question,
    QuestionFiles,
    numbered,
    one_of,
    text,
    whole_number,
)
from adem_bench.tasks.vlm_evaluation.result_files import most_probable

NO_NUMBER = -1
WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty"""
NUMBERS = {word: number for number, word in enumerate(WORDS.split())} | {"no": 0, "none": 0}
TOKEN = re.compile(r"\d+|[a-z]+")
MAX_DIGITS = 9
"""Digits: anything longer counts nothing in an image."""


def read_number(text: str) -> int:
    """Return the first number of an answer, in digits or as a word; -1 without one."""
    for token in TOKEN.findall(text.lower()):
        if token.isascii() and token.isdigit():
            return int(token) if len(token) <= MAX_DIGITS else NO_NUMBER
        if token in NUMBERS:
            return NUMBERS[token]
    return NO_NUMBER


def read_whole(text: str) -> int:
    """Return the number that an answer is, closing full stop aside; -1 if it is more than one."""
    words = text.lower().strip().removesuffix(".").split()
    return read_number(words[0]) if len(words) == 1 else NO_NUMBER


READERS: dict[str, Callable[[str], int]] = {"number": read_number, "whole": read_whole}


class TallyQaFiles(QuestionFiles):
    """One list of questions; image names start with a folder, such as `VG_100K/`."""

    holds = "TallyQA's questions, a list of {image, question, answer, issimple, question_id}"
    splits = ("test", "train")
    groups = ("simple", "complex")
    image_folders = ("tallyqa", "download/tally-qa")
    has_whole_ids = True

    def _files(self) -> list[Path]:
        name = f"{self.split}.json"
        return [self.find(f"tallyqa/{name}", f"download/tally-qa/{name}")]

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        return numbered(array_items(self.main_file, "", self.holds, self.source))

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        # The train file has no `issimple`: it was put together of other sets.
        simple = raw.get("issimple", False if self.split == "train" else None)
        if not isinstance(simple, bool):
            raise RowError(f"`issimple` must be true or false, found {simple!r:.60}")
        return _question(raw, self.image(raw.get("image")), "simple" if simple else "complex")

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question:
        return _question(raw, self.indexed_image(raw), one_of(raw, "split", self.groups))


def _question(raw: Mapping[str, Any], image: Path, group: str) -> Question:
    # A text: a whole number would be the index of an option.
    number, answer = str(whole_number(raw, "question_id")), str(whole_number(raw, "answer"))
    return Question(number, text(raw, "question"), answer, image, (group,), suite_id=number)


ACCURACY = "accuracy"
COUNTS = [str(number) for number in range(16)]
"""TallyQA's answers, 0 to 15."""


class CountingOptions(QuestionOptions):
    """Settings of a counting card."""

    answer_rule: Literal["number", "whole", "logits"] = "number"
    """How an answer is read: the first number in it, in digits or as a word; the number that all
    of it is; or the most probable of 0 to 15, whatever would have been written."""
    max_new_tokens: TokenCount = 8


class Counting(QuestionTask):
    """Questions that are answered with a number."""

    options_schema = CountingOptions
    options: CountingOptions

    def open_files(self) -> QuestionFiles:
        """Return TallyQA's reader."""
        return TallyQaFiles(self.data_root, self.card.split, self.card.data, self.options.index)

    def metric_names(self) -> Sequence[str]:
        """Return accuracy, that of each group, unread answers and the majority's."""
        return (ACCURACY, *self.files.groups, UNREAD, MAJORITY)

    def hint(self) -> str:
        """Ask for a number."""
        return "Answer with a number."

    def choices(self, sample: Sample) -> Sequence[str]:
        """Return the numbers, by the rule `logits`."""
        return [f" {count}" for count in COUNTS] if self.options.answer_rule == "logits" else ()

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the number, -1 for none; none at all without log-probabilities that are needed."""
        rule = self.options.answer_rule
        if rule == "logits":
            number = most_probable_choice(response.choice_logprobs or (), len(COUNTS))
        else:
            number = READERS[rule](response.text)
        return Prediction(number, None if number is None else _score(number, sample))

    def parse_official(self, sample: Sample, response: Response) -> Prediction:
        """Read a number of a result file."""
        number = READERS["whole"](response.text)
        return Prediction(number, _score(number, sample))

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return accuracy, that of each group, unread answers and the majority's."""
        return (
            *grouped_metrics(scores_of(records), ACCURACY, self.unit, self.files.groups),
            unread(sum(r.prediction == NO_NUMBER for r in records), len(records), "number"),
            majority([str(record.reference) for record in records]),
        )

    def answer_text(self, record: Record) -> str:
        """Return the number."""
        return "" if record.prediction == NO_NUMBER else str(record.prediction)

    def suite_text(self, row: Mapping[str, Any]) -> str | None:
        """Return the number that the probabilities favour."""
        return most_probable(row, "mc_probabilities", COUNTS)


def _score(number: int, sample: Sample) -> float:
    return float(str(number) == sample.reference)
