"""Multiple choice in a TSV: MMBench, SEED-Bench, AI2D, MMMU, ScienceQA, MMStar and their like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import ClassVar, Literal

from adem_bench.data.reading import RowError
from adem_bench.metrics.grouped import MAJORITY, UNREAD
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.multiple_choice import (
    ACCURACY,
    CHAT,
    CHAT_OPTIONS,
    CHAT_SCORING,
    EVERY,
    FIRST,
    READERS,
    Choice,
    choice_metrics,
    choice_statistics,
    question_of,
)
from adem_bench.metrics.vlmevalkit_rules import MISSING, NONE
from adem_bench.records import Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import scored_records
from adem_bench.tasks.scienceqa.prompt_formats import ANSWER_START, Texts, render
from adem_bench.tasks.tsv.base import (
    FORMATS,
    VLMEVALKIT_SCORING,
    TsvOptions,
    TsvTask,
    groups_of,
    image_cluster,
)
from adem_bench.tasks.tsv.files import TsvRow

QCM = "QCM-A"
LETTERS = frozenset(ascii_uppercase)
STRICT_SCORING = (
    "answers are read strictly: an option's letter at the start, standing alone; "
    "options.answer_rule=vlmevalkit reads them as VLMEvalKit does"
)
SCORINGS = {
    "vlmevalkit": VLMEVALKIT_SCORING,
    "strict": STRICT_SCORING,
    CHAT: f"{CHAT_SCORING}; options.answer_rule=vlmevalkit reads them as VLMEvalKit does",
}
DROPPED = "V1"
"""Marks an answer to a question with an option that VLMEvalKit takes for an empty cell."""
OTHER = "Other Answers"
"""Second option that VLMEvalKit gives to a question without options (MMMU_preproc)."""


class ChoiceOptions(TsvOptions):
    """Settings of a multiple-choice card."""

    answer_rule: Literal["vlmevalkit", "strict", "chat"] = "vlmevalkit"
    """How an option is read out of an answer; `chat` is the default for models that chat."""
    circular: bool = False
    """Whether rows whose indices differ by millions are rotations of one question, which counts
    if all of them are right."""
    open_questions: Literal["skip", "vlmevalkit"] = "skip"
    """What becomes of questions without options: VLMEvalKit takes the answer for option A."""


class TsvMultipleChoice(TsvTask):
    """Questions with lettered options."""

    options_schema = ChoiceOptions
    options: ChoiceOptions
    prompt_formats: ClassVar = {**FORMATS, QCM: "{question}"}
    needs = ("index", "image|image_path", "question", "A", "B")
    chat_options = CHAT_OPTIONS

    @property
    def is_vlmevalkit(self) -> bool:
        """Whether answers are read as VLMEvalKit reads them."""
        return self.options.answer_rule == "vlmevalkit"

    def scoring(self) -> str:
        """Return by whose rule options are read."""
        return SCORINGS[self.options.answer_rule]

    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name."""
        extra = (FIRST, EVERY) if self.options.circular else (MAJORITY,)
        return (ACCURACY, UNREAD, *extra)

    def read_row(self, row: TsvRow) -> Sample:
        """Return a question with its options by letter."""
        shown = {letter: row.cells[letter] for letter in ascii_uppercase if row.text(letter)}
        answer = row.text("answer")
        options = dict(shown)
        if self.is_vlmevalkit:
            options = {letter: text for letter, text in shown.items() if text not in MISSING}
        if self.options.open_questions == "vlmevalkit" and "A" not in options and answer:
            options = {**options, "A": answer, "B": OTHER}
            answer = answer if answer in LETTERS else "A"
        return Sample(
            id=row.index,
            fields={
                "question": row.cells.get("question", ""),
                "hint": row.cells.get("hint", "") if row.text("hint") else "",
                "options": options,
                "shown": shown,
                "answer": row.text("answer"),
            },
            reference=answer or None,
            images=row.images,
            groups=groups_of(row),
            cluster=question_of(row.index) if self.options.circular else image_cluster(row),
        )

    def check(self, row: TsvRow, sample: Sample) -> None:
        """Refuse a question with fewer than two options, or whose answer is none of them.

        Raises:
            RowError: what is wrong with it.
        """
        shown = sample.fields["shown"]
        options = {**sample.fields["options"], **shown}
        if len(options) < 2:
            raise RowError(f"it has {len(options)} options that are not empty; expected two")
        super().check(row, sample)
        if sample.reference is not None and sample.reference not in options:
            raise RowError(
                f"its answer {str(sample.reference)[:40]!r} is none of its options "
                f"{', '.join(options)}"
            )
        if self.prompt_format == QCM and list(shown) != list(ascii_uppercase[: len(shown)]):
            raise RowError(f"format {QCM} cannot show its options {', '.join(shown)}")
        if self.options.circular and not (row.index.isascii() and row.index.isdigit()):
            raise RowError("rotations are known by numbers, and its index is none")

    def check_answer(self, row: TsvRow, sample: Sample) -> None:
        """Refuse an answer that is not a letter.

        Raises:
            RowError: it is not one.
        """
        if sample.reference is not None and str(sample.reference) not in LETTERS:
            raise RowError(f"its answer {str(sample.reference)[:40]!r} is no option's letter")

    def question(self, sample: Sample) -> str:
        """Return hint, question and options, as VLMEvalKit has them or as the QCM-A format."""
        fields, shown = sample.fields, sample.fields["shown"]
        if self.prompt_format == QCM:
            texts = Texts(fields["question"], fields["hint"], "", list(shown.values()), "", "", "")
            return render(QCM, texts)[0] + ANSWER_START
        lines = [f"Hint: {fields['hint']}"] if fields["hint"] else []
        lines.append(f"Question: {fields['question']}")
        if shown:
            lines += ["Options:", *(f"{letter}. {text}" for letter, text in shown.items())]
            # With the blank at the end: so in image_mcq.py of VLMEvalKit.
            lines.append("Please select the correct answer from the options above. ")
        return "\n".join([*lines, ""])

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the letter of the chosen option, nothing for none."""
        options: Mapping[str, str] = sample.fields["options"]
        letter = READERS[self.options.answer_rule](response.text, options)
        score = None if sample.reference is None else float(letter == sample.reference)
        has_all = sample.fields["shown"].keys() <= options.keys()
        return Prediction(letter, score, () if has_all else (DROPPED,))

    def predicted(self, row: TsvRow, known: Sample | None) -> Sample:
        """Return a predictions file's question: its own options, the data's answer if known."""
        if known is None:
            return self.read_row(row)
        if not self.is_vlmevalkit or "question" not in row.cells:
            return known
        cells = {**row.cells, "answer": known.fields["answer"]}
        return self.read_row(replace(row, cells=cells))

    def scores(self, records: Sequence[Record]) -> tuple[Metric, ...]:
        """Return the accuracy, overall and by group."""
        return choice_metrics(_choices(records), self.options.circular)

    def remarks(self, records: Sequence[Record], metrics: Sequence[Metric]) -> list[str]:
        """Return how many questions lack rotations that the file has."""
        if not self.options.circular:
            return []
        answered = Counter(question_of(record.sample_id) for record in scored_records(records))
        most = max(answered.values(), default=0)
        single = sum(count == 1 for count in answered.values())
        if not single:
            return []
        what = "no question has more than one rotation" if most == 1 else f"{single} have one only"
        return [f"{len(answered)} questions were asked in rotations, but {what}"]

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the accuracies rest on, by question or image."""
        choices = _choices(scored_records(records))
        return choice_statistics(choices, bool(card.options.get("circular")))


def _choices(records: Sequence[Record]) -> list[Choice]:
    return [
        Choice(
            question=record.cluster or record.sample_id,
            prediction=str(record.prediction or NONE),
            reference=str(record.reference),
            groups=record.groups,
            is_unrotated=question_of(record.sample_id) == record.sample_id,
        )
        for record in records
        if record.reference is not None
    ]
