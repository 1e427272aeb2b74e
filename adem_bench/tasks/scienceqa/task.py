"""ScienceQA: multiple-choice science questions with and without an image.

Prompts and scores are in docs/method.md, section 10.1, the layout in section 11.1.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from adem_bench.data.hub.layout import Layout
from adem_bench.data.reading import SkippedRow
from adem_bench.errors import PredictionsError
from adem_bench.files import write_atomically
from adem_bench.metrics.grouped import MAJORITY, UNREAD
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.multiple_choice import (
    CHAT,
    CHAT_OPTIONS,
    CHAT_SCORING,
    most_probable_choice,
    read_option_index,
)
from adem_bench.records import (
    Json,
    Metric,
    Prediction,
    Record,
    Request,
    Response,
    Sample,
    TrainingPair,
)
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import (
    Benchmark,
    TaskOptions,
    TokenCount,
    imported_record,
    read_predictions,
    scored_records,
)
from adem_bench.tasks.scienceqa.files import MAX_CHOICES, ScienceQAFiles, ScienceQAProblem
from adem_bench.tasks.scienceqa.prompt_formats import ANSWER_START, FORMATS, Texts, render
from adem_bench.tasks.scienceqa.scores import (
    AVERAGE,
    COLUMNS,
    LETTERS,
    NO_ANSWER,
    ScienceQAAnswer,
    groups_of,
    nine_columns,
    nine_statistics,
)

PREDICTIONS_HOLD = "an object of question id to option index (preds.json)"
LAVIN_PATTERN = "The answer is ([A-Z])."
"""How LaVIN's eval.py finds the letter; a character that is not a line break must follow it."""
STRICT = "strict"
"""The former name of the rule `chat` for this task."""
DRAWN = "L4"
"""Marks an answer in which no option was found and for which one was drawn."""


class ScienceQAOptions(TaskOptions):
    """Settings of a ScienceQA card."""

    captions: bool = True
    """Whether a machine-made caption of the image joins the context, as in eval_sqa.py (Q2)."""
    answer_start: bool = True
    """Whether the prompt ends in `The answer is`, as in eval_sqa.py; not so in LaVIN's eval.py."""
    answer_rule: Literal["published", "chat", "strict", "logits", "lavin"] = "published"
    """How an answer is read: the first capital letter anywhere (Q5); by `chat`, the default for
    models that chat, of which `strict` is the former name; the most probable option, whatever
    would have been written; or the letter of the first `The answer is X.`, at which the answer
    ends, as in LaVIN's eval.py."""
    unread: Literal["wrong", "draw"] | None = None
    """What counts where no option was read: -1, which is wrong (Q6), or an option drawn by the
    question's id (L4). If empty, as the rule's published code has it: drawn for `lavin`."""
    max_new_tokens: TokenCount = 1

    @property
    def draws(self) -> bool:
        """Whether an option is drawn where none was read."""
        return (self.unread or {"lavin": "draw"}.get(self.answer_rule)) == "draw"


class ScienceQA(Benchmark):
    """ScienceQA in its official layout."""

    options_schema = ScienceQAOptions
    options: ScienceQAOptions
    chat_options = CHAT_OPTIONS
    wrong_prediction = -1
    prompt_formats = dict.fromkeys(FORMATS, "")
    default_format = "QCM-A"
    vlmevalkit_columns = tuple(LETTERS[:MAX_CHOICES])

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        super().__init__(card, data_root)
        self._files = ScienceQAFiles(data_root, self.card.data)

    @classmethod
    def hub_layout(cls, card: TaskCard, data_root: Path) -> Layout:
        """Return what writes the official files from a data set of the hub."""
        from adem_bench.tasks.scienceqa.hub import ScienceQALayout

        return ScienceQALayout(card, data_root)

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return the prompt format, whether captions are used, and a start that is left out."""
        bare: dict[str, Json] = {} if self.options.answer_start else {"answer_start": False}
        return {"prompt_format": self.prompt_format, "captions": self.options.captions, **bare}

    def training_settings(self) -> Mapping[str, Json]:
        """Return the prompt format and whether captions are used."""
        return {"prompt_format": self.prompt_format, "captions": self.options.captions}

    def rows(self) -> Iterator[ScienceQAProblem | SkippedRow]:
        """Yield the questions of the split in the order of pid_splits.json.

        Raises:
            CardError: no such split.
            DataError: a file is missing or malformed.
        """
        return self._files.rows(self.card.split, self.options.captions)

    def count(self) -> int:
        """Return how many questions pid_splits.json lists."""
        return len(self._files.ids(self.card.split))

    def digest(self) -> str:
        """Return a digest of the annotation files and the image listing."""
        return self._files.digest(self.card.split, self.options.captions)

    def sample(self, row: ScienceQAProblem) -> Sample:
        """Return a question with all its texts."""
        return Sample(
            id=row.id,
            fields={
                "question": row.question,
                "choices": row.choices,
                "hint": row.hint,
                "caption": row.caption,
                "lecture": row.lecture,
                "solution": row.solution,
            },
            reference=row.answer,
            images=(row.image,) if row.image else (),
            groups=groups_of(row.subject, row.grade, bool(row.hint), row.image is not None),
        )

    def prompt(self, sample: Sample) -> str:
        """Return a question's prompt, which by default ends where the letter must follow."""
        prompt, _ = render(self.prompt_format, _texts(sample, self.options.captions))
        return prompt + ANSWER_START * self.options.answer_start

    def request(self, sample: Sample) -> Request:
        """Render a sample; by the rule `lavin`, nothing after the first match is wanted."""
        stop = LAVIN_PATTERN if self.options.answer_rule == "lavin" else ""
        return replace(super().request(sample), stop_pattern=stop)

    def choices(self, sample: Sample) -> Sequence[str]:
        """Return the letters, by the rule `logits`."""
        if self.options.answer_rule != "logits":
            return ()
        return [f" {letter}" for letter in LETTERS[: len(sample.fields["choices"])]]

    def metric_names(self) -> Sequence[str]:
        """Return the nine columns and the metrics next to them."""
        return (*COLUMNS, AVERAGE, UNREAD, MAJORITY)

    def training_pairs(self) -> Iterator[TrainingPair]:
        """Yield prompts and answers as the published trainer joins them (ScienceQADataSet)."""
        for sample in self.samples():
            prompt, answer = render(self.prompt_format, _texts(sample, self.options.captions))
            yield TrainingPair(sample.id, prompt, answer, sample.images)

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the index of the chosen option; for none, -1 or one that is drawn.

        By the rule `logits`, a response without usable log-probabilities has no prediction.
        """
        count = len(sample.fields["choices"])
        rule = self.options.answer_rule
        if rule == "logits":
            index = most_probable_choice(response.choice_logprobs or (), count)
            return Prediction(None, None) if index is None else _prediction(sample, index)
        if rule in (CHAT, STRICT):
            index = read_option_index(response.text, sample.fields["choices"], CHAT)
        else:
            index = READERS[rule](response.text, count)
        if index == NO_ANSWER and self.options.draws:
            return replace(_prediction(sample, _drawn(sample.id, count)), notes=(DRAWN,))
        return _prediction(sample, index)

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return the nine columns."""
        return nine_columns(list(_answers(records).values()))

    def warnings(self, records: Sequence[Record], metrics: Sequence[Metric]) -> Sequence[str]:
        """Return how much answers that were drawn spread the average by themselves."""
        answers = _answers(scored_records(records)).values()
        drawn = sum(answer.is_drawn for answer in answers)
        rule = [CHAT_SCORING] if self.options.answer_rule in (CHAT, STRICT) else []
        if not drawn:
            return rule
        # One standard deviation; an option of k is right with 1/k, whose variance is greatest for
        # two options.
        spread = 100 * math.sqrt(drawn / 4) / len(answers)
        return (
            *rule,
            f"no option was read in {drawn} of {len(answers)} answers, and one was drawn for each: "
            f"other draws alone would move the average by {spread:.2f} points or less (standard "
            "deviation; --set options.unread=wrong draws none)",
        )

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the columns rest on, by question."""
        return nine_statistics(_answers(scored_records(records)))

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
        samples = {problem.id: self.sample(problem) for problem in self.usable(rows)}
        unknown = [qid for qid in data if qid not in samples]
        if unknown:
            raise PredictionsError(
                f"{path}: {len(unknown)} of {len(data)} questions are not in split "
                f"{self.card.split}, the first is {unknown[0]!r}{self._where(unknown[0])}"
            )
        return [
            imported_record(sample, "", _prediction(sample, _index(path, qid, data[qid])))
            for qid, sample in samples.items()
            if qid in data
        ]

    def _where(self, qid: str) -> str:
        homes = [name for name, ids in self._files.splits.items() if qid in ids]
        return f"; it is in {homes[0]} (--split {homes[0]})" if homes else ""

    def vlmevalkit_cells(self, sample: Sample) -> Mapping[str, Any]:
        """Return the options by letter, and the answer's letter."""
        options = dict(zip(LETTERS, sample.fields["choices"], strict=False))
        return {**options, "answer": LETTERS[int(str(sample.reference))]}


def _answers(records: Sequence[Record]) -> dict[str, ScienceQAAnswer]:
    return {
        r.sample_id: ScienceQAAnswer(
            int(str(r.prediction)), int(str(r.reference)), r.groups, DRAWN in r.notes
        )
        for r in records
        if isinstance(r.prediction, int)
    }


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


def _prediction(sample: Sample, index: int) -> Prediction:
    return Prediction(index, float(index == sample.reference))


def _published(text: str, count: int) -> int:
    """The first of A to Z anywhere; none beyond the question's options (eval_sqa.py)."""
    return _first("([A-Z])", text, count)


def _lavin(text: str, count: int) -> int:
    """The first `The answer is X.`; none beyond the question's options (LaVIN's eval.py)."""
    return _first(LAVIN_PATTERN, text, count)


def _first(pattern: str, text: str, count: int) -> int:
    found = re.search(pattern, text)
    index = LETTERS.find(found.group(1)) if found else NO_ANSWER
    return index if index < count else NO_ANSWER


READERS: Mapping[str, Callable[[str, int], int]] = {
    "published": _published,
    "lavin": _lavin,
}
"""Rules by which the index of an option is read out of a text, with the number of options."""


def _drawn(sample_id: str, count: int) -> int:
    """Return the index of an option, drawn evenly by the question's id."""
    digits = hashlib.sha256(sample_id.encode(errors="surrogatepass")).digest()[:8]
    return int.from_bytes(digits, "big") % count


def _index(path: Path, qid: str, value: object) -> int:
    """Return a predicted index; the published scorer takes whatever `int` takes."""
    if isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            pass
    raise PredictionsError(
        f"{path}: question {qid}: {value!r} is not an option index; expected {PREDICTIONS_HOLD}"
    )
