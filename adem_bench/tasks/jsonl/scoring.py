"""The metrics that a card of rows can name: how answers are read, compared and summed up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, ClassVar, cast

from adem_bench.data.reading import RowError
from adem_bench.data.table import Row
from adem_bench.metrics import multiple_choice, yes_no
from adem_bench.metrics.chat_answers import TRUE_FALSE, read_yes_no
from adem_bench.metrics.grouped import (
    MAJORITY,
    UNREAD,
    grouped_metrics,
    grouped_statistics,
    joined,
    majority,
    scores_of,
    unread,
)
from adem_bench.metrics.intervals import Statistics, with_intervals
from adem_bench.metrics.multiple_choice import (
    ACCURACY,
    NO_OPTION,
    most_probable_choice,
    read_option_index,
)
from adem_bench.metrics.vqa import RULES as VQA_RULES
from adem_bench.metrics.vqa import processed
from adem_bench.metrics.yes_no import (
    POPE_DETAILS,
    READERS,
    YesNo,
    YesNoAnswer,
    pope_metrics,
    pope_statistics,
    read_word,
)
from adem_bench.records import Json, Metric, Prediction, Record, Response, Sample
from adem_bench.tasks.benchmark import CHAT_TOKENS
from adem_bench.tasks.coco_caption.cache import CaptionParts
from adem_bench.tasks.coco_caption.scores import NAMES, CaptionScores, score_captions

IMAGES = "images"
"""What is independent of the rest: questions about one image are one unit."""
LOGITS = "logits"
SHORT = "{question}\nAnswer with a single word or a short phrase."
SAID = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class Scoring(ABC):
    """One metric."""

    question: ClassVar[str]
    """The template of questions of cards that have none."""
    rules: ClassVar[Sequence[str]]
    """Names of `answer_rule`, the default first."""
    names: ClassVar[Sequence[str]]
    """The metrics that a card may name."""
    chat_options: ClassVar[Mapping[str, Json]] = {"max_new_tokens": CHAT_TOKENS}
    """As `Benchmark.chat_options`."""
    wrong_prediction: ClassVar[str] = ""
    """As `Benchmark.wrong_prediction`."""

    def __init__(self, rule: str = "") -> None:
        """Choose one of `rules`; the first if empty."""
        self.rule = rule or self.rules[0]

    @abstractmethod
    def reference(self, row: Row, column: str, choices: Sequence[str]) -> Json:
        """Return the right answer of a row.

        Args:
            row: The row.
            column: Where its answer stands.
            choices: The options, of multiple choice.

        Raises:
            RowError: there is none, or none of this kind.
        """

    @abstractmethod
    def read(self, sample: Sample, response: Response) -> Prediction:
        """Read the answer out of a response, and score it."""

    def warnings(self, records: Sequence[Record]) -> Sequence[str]:
        """Return what a reader of the metrics must know."""
        return ()

    def continuations(self, sample: Sample) -> Sequence[str]:
        """Return the continuations whose log-probabilities are wanted."""
        return ()

    @abstractmethod
    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return the metrics of records that can be scored."""

    @abstractmethod
    def statistics(self, records: Sequence[Record]) -> Statistics:
        """Return what the metrics of records that can be scored rest on, by image."""

    @abstractmethod
    def answers(self, sample: Sample) -> Sequence[str]:
        """Return the answers to learn for a sample."""


def texts_of_answer(row: Row, column: str) -> list[str]:
    """Return the right answers of a row: texts or numbers, one or a list, also of {answer: …}.

    Raises:
        RowError: there is none, or something else.
    """
    found = []
    for item in row.items_of(column):
        value = item.get("answer") if isinstance(item, dict) else item
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise RowError(f"`{column}` must be a text, or a list of texts, found {value!r:.60}")
        found.append(str(value))
    if not any(text.strip() for text in found):
        raise RowError(f"`{column}` is empty: expected the right answer")
    return found


class ExactMatch(Scoring):
    """The share of answers that are the text of a right answer."""

    question = SHORT
    rules = ("text", "exact", "vqa")
    names = (ACCURACY, MAJORITY)
    COMPARABLE: ClassVar[Mapping[str, Callable[[str], str]]] = {
        "text": lambda text: " ".join(text.lower().split()).removesuffix(".").rstrip(),
        "exact": lambda text: text,
        "vqa": processed,
    }

    def reference(self, row: Row, column: str, choices: Sequence[str]) -> Json:
        """Return the right answers: any of them will do.

        Arguments are those of `Scoring.reference`.

        Raises:
            RowError: there is none, or something else.
        """
        return cast(Json, texts_of_answer(row, column))

    def read(self, sample: Sample, response: Response) -> Prediction:
        """Take the response for the answer."""
        comparable = self.COMPARABLE[self.rule]
        right = {comparable(text) for text in _texts(sample.reference)}
        return Prediction(response.text, float(comparable(response.text) in right))

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return accuracy, that of each group, and the majority's where answers are single."""
        found = [*grouped_metrics(scores_of(records), ACCURACY, IMAGES)]
        references = [_texts(record.reference) for record in records]
        if all(len(texts) == 1 for texts in references):
            comparable = self.COMPARABLE[self.rule]
            found.insert(1, majority([comparable(text) for (text,) in references]))
        return found

    def statistics(self, records: Sequence[Record]) -> Statistics:
        """Return what the accuracies rest on."""
        return grouped_statistics(scores_of(records), ACCURACY, IMAGES)

    def answers(self, sample: Sample) -> Sequence[str]:
        """Return the first answer."""
        return _texts(sample.reference)[:1]


class VqaAccuracy(Scoring):
    """How far annotators agree with an answer: three of them make it right."""

    question = SHORT
    rules = tuple(VQA_RULES)
    names = (ACCURACY,)

    def reference(self, row: Row, column: str, choices: Sequence[str]) -> Json:
        """Return the annotators' answers.

        Arguments are those of `Scoring.reference`.

        Raises:
            RowError: it is none, or of one annotator only.
        """
        found = texts_of_answer(row, column)
        if len(found) == 1:
            raise RowError(
                f"`{column}` has one answer; VQA accuracy needs those of several annotators "
                "(metric exact_match compares with one)"
            )
        return cast(Json, found)

    def read(self, sample: Sample, response: Response) -> Prediction:
        """Take the response for the answer."""
        text = response.text.strip()
        return Prediction(text, VQA_RULES[self.rule].accuracy(text, _texts(sample.reference)))

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return accuracy and that of each group."""
        return grouped_metrics(scores_of(records), ACCURACY, IMAGES)

    def statistics(self, records: Sequence[Record]) -> Statistics:
        """Return what the accuracies rest on."""
        return grouped_statistics(scores_of(records), ACCURACY, IMAGES)

    def answers(self, sample: Sample) -> Sequence[str]:
        """Return the answer that most annotators gave; of several, the first."""
        return [Counter(_texts(sample.reference)).most_common(1)[0][0]]


class MultipleChoice(Scoring):
    """The share of questions whose right option is named."""

    question = "{question}\n{choices}\nAnswer with the letter of the right option."
    rules = ("strict", "vlmevalkit", multiple_choice.CHAT, LOGITS)
    names = (ACCURACY, UNREAD, MAJORITY)
    chat_options = multiple_choice.CHAT_OPTIONS

    def __init__(self, rule: str = "", form: str = "auto") -> None:
        """Choose a rule, and how rows name the right option."""
        super().__init__(rule)
        self.form = form

    def reference(self, row: Row, column: str, choices: Sequence[str]) -> Json:
        """Return the right option's index.

        Arguments are those of `Scoring.reference`.

        Raises:
            RowError: it names no option, or several.
        """
        value = row[column]
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise RowError(f"`{column}` must name an option, found {value!r:.60}")
        places = {form: found for form, found in _places(value, choices).items() if found}
        if self.form != "auto":
            places = {form: found for form, found in places.items() if form == self.form}
        named = {place for found in places.values() for place in found}
        if len(named) == 1:
            return named.pop()
        if not named:
            known = f"of the {len(choices)} options"
            form = "" if self.form == "auto" else f", as a {self.form}"
            raise RowError(f"`{column}` is {value!r:.60}, which names none {known}{form}")
        raise RowError(
            f"`{column}` is {value!r:.60}, which names several options ({' and '.join(places)}); "
            "set options.answer_form"
        )

    def read(self, sample: Sample, response: Response) -> Prediction:
        """Read an option's index, -1 for none; nothing without log-probabilities needed."""
        choices = sample.fields["choices"]
        if self.rule == LOGITS:
            index = most_probable_choice(response.choice_logprobs or (), len(choices))
        else:
            index = read_option_index(response.text, choices, self.rule)
        return Prediction(index, None if index is None else float(index == sample.reference))

    def warnings(self, records: Sequence[Record]) -> Sequence[str]:
        """Return that the rule is `chat`."""
        return (multiple_choice.CHAT_SCORING,) if self.rule == multiple_choice.CHAT else ()

    def continuations(self, sample: Sample) -> Sequence[str]:
        """Return the letters, by the rule `logits`."""
        if self.rule != LOGITS:
            return ()
        return [f" {letter}" for letter in ascii_uppercase[: len(sample.fields["choices"])]]

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return accuracy, unread answers, the majority's accuracy, and that of each group."""
        accuracy, *groups = grouped_metrics(scores_of(records), ACCURACY, IMAGES)
        missing = sum(record.prediction == NO_OPTION for record in records)
        return (
            accuracy,
            unread(missing, len(records), "option"),
            majority([str(record.reference) for record in records]),
            *groups,
        )

    def statistics(self, records: Sequence[Record]) -> Statistics:
        """Return what the accuracies rest on."""
        return grouped_statistics(scores_of(records), ACCURACY, IMAGES)

    def answers(self, sample: Sample) -> Sequence[str]:
        """Return the right option's letter."""
        return [ascii_uppercase[int(str(sample.reference))]]


def _places(value: str | int, choices: Sequence[str]) -> Mapping[str, set[int]]:
    """Return the options that a value names as a letter, as an index and as a text."""
    text = str(value).strip()
    letters = ascii_uppercase[: len(choices)]
    index = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else len(choices)
    return {
        "letter": {letters.index(text.upper())} if len(text) == 1 and text.upper() in letters
        else set(),
        "index": {index} if index < len(choices) else set(),
        "text": {place for place, choice in enumerate(choices) if choice.strip() == text},
    }  # fmt: skip


class YesOrNo(Scoring):
    """Accuracy, and precision, recall and F1 of yes."""

    question = "{question}\nAnswer with yes or no."
    rules = ("word", *READERS, LOGITS)
    names = (*POPE_DETAILS, UNREAD, MAJORITY)
    chat_options = yes_no.CHAT_OPTIONS
    wrong_prediction = "other"

    def reference(self, row: Row, column: str, choices: Sequence[str]) -> Json:
        """Return `yes` or `no`, which rows may also have as true or false, 1 or 0.

        Arguments are those of `Scoring.reference`.

        Raises:
            RowError: it is neither.
        """
        value = row[column]
        said = SAID.get(str(value).strip().lower())
        if said is None:
            raise RowError(f"`{column}` must be yes or no, found {value!r:.60}")
        return "yes" if said else "no"

    def read(self, sample: Sample, response: Response) -> Prediction:
        """Read `yes`, `no` or `other`; nothing without log-probabilities that are needed."""
        if self.rule == LOGITS:
            place = most_probable_choice(response.choice_logprobs or (), 2)
            answer = None if place is None else ("yes", "no")[place]
        else:
            answer = self._said(response.text)
        return Prediction(answer, None if answer is None else float(answer == sample.reference))

    def _said(self, text: str) -> YesNo:
        if self.rule == yes_no.CHAT:
            return read_yes_no(text, TRUE_FALSE)
        return (read_word if self.rule == "word" else READERS[self.rule])(text)

    def warnings(self, records: Sequence[Record]) -> Sequence[str]:
        """Return that the rule is `chat`."""
        return (yes_no.CHAT_SCORING,) if self.rule == yes_no.CHAT else ()

    def continuations(self, sample: Sample) -> Sequence[str]:
        """Return the two words, by the rule `logits`."""
        return (" yes", " no") if self.rule == LOGITS else ()

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return F1, accuracy and the rest, unread answers, and the accuracy of each group."""
        _, *groups = grouped_metrics(scores_of(records), ACCURACY, IMAGES)
        return (
            *pope_metrics(_answers(records)),
            unread(sum(r.prediction == "other" for r in records), len(records), "yes or no"),
            majority([str(record.reference) for record in records]),
            *groups,
        )

    def statistics(self, records: Sequence[Record]) -> Statistics:
        """Return what the figures rest on."""
        groups = grouped_statistics(scores_of(records), ACCURACY, IMAGES)
        names = [name for name in groups.formulas if name != ACCURACY]
        return joined(pope_statistics(_answers(records)), groups, names)

    def answers(self, sample: Sample) -> Sequence[str]:
        """Return yes or no."""
        return [str(sample.reference)]


def _answers(records: Sequence[Record]) -> list[YesNoAnswer]:
    return [
        YesNoAnswer(
            id=record.sample_id,
            unit=record.cluster or record.sample_id,
            prediction=cast(YesNo, record.prediction),
            gold=cast(YesNo, record.reference),
            groups=(),
        )
        for record in records
    ]


class Captions(Scoring):
    """BLEU, METEOR, ROUGE-L, CIDEr and SPICE, as COCO's own scorer has them."""

    question = "Describe the picture in one sentence."
    rules = ("official",)
    names = NAMES

    def reference(self, row: Row, column: str, choices: Sequence[str]) -> Json:
        """Return the reference captions.

        Arguments are those of `Scoring.reference`.

        Raises:
            RowError: there is none, or something else.
        """
        return cast(Json, [text for text in texts_of_answer(row, column) if text.strip()])

    def read(self, sample: Sample, response: Response) -> Prediction:
        """Take the response for the caption; it has no score of its own."""
        return Prediction(response.text, None)

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return the caption metrics."""
        scores = _caption_scores(records)
        return with_intervals(scores.metrics, scores.statistics)

    def statistics(self, records: Sequence[Record]) -> Statistics:
        """Return what the caption metrics rest on."""
        return _caption_scores(records).statistics

    def answers(self, sample: Sample) -> Sequence[str]:
        """Return every reference caption."""
        return _texts(sample.reference)


def _caption_scores(records: Iterable[Record]) -> CaptionScores:
    found = [record for record in records if isinstance(record.reference, list)]
    captions = {record.sample_id: str(record.prediction) for record in found}
    references = {record.sample_id: _texts(record.reference) for record in found}
    return score_captions(captions, references, CaptionParts(captions, references))


def _texts(reference: Any) -> list[str]:
    return [str(text) for text in reference] if isinstance(reference, list | tuple) else []


SCORINGS: Mapping[str, type[Scoring]] = {
    "exact_match": ExactMatch,
    "multiple_choice": MultipleChoice,
    "yes_no": YesOrNo,
    "vqa_accuracy": VqaAccuracy,
    "caption": Captions,
}
"""What a card's `metric` stands for."""
