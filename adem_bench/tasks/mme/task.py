"""MME: two yes-or-no questions per image, in 14 subtasks (docs/method.md, sections 10.3, 11.3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, cast

from pydantic import Field

from adem_bench.data.hub.layout import Layout
from adem_bench.data.reading import SkippedRow
from adem_bench.errors import DataError, PredictionsError, why_unread
from adem_bench.files import read_text, write_atomically
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.yes_no import (
    CHAT,
    CHAT_OPTIONS,
    CHAT_SCORING,
    YesNo,
    unread_warning,
)
from adem_bench.prompts import FORMATS, TEMPLATE, halve_blanks
from adem_bench.records import Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import (
    Benchmark,
    TaskOptions,
    TokenCount,
    check_choice,
    good_rows,
    scored_records,
)
from adem_bench.tasks.mme.files import MmeFiles, MmeQuestion
from adem_bench.tasks.mme.scores import (
    HALVES,
    LAVIN,
    PERCEPTION,
    READERS,
    SUBTASKS,
    MmeAnswer,
    metric_names,
    mme_scores,
    mme_statistics,
    with_mme_intervals,
)

RESULTS_FOLDER = "eval_tool"
Known = dict[tuple[str, str, str], list[str]]
"""Subtask, image and question to sample ids."""
LINE = "image<TAB>question<TAB>Yes or No<TAB>answer"


class MmeOptions(TaskOptions):
    """Settings of an MME card."""

    subtasks: tuple[str, ...] = Field(default=SUBTASKS, min_length=1)
    """Those that the data has; scores of fewer than all 14 are marked."""
    answer_rule: Literal["official", "lmms_eval", "vlmevalkit", "lavin", "chat"] = "official"
    """Whose way of reading yes or no out of an answer; scores of other ways differ. LaVIN's and
    `chat`, the default for models that chat, read an answer with its line breaks, all others one
    without."""
    max_new_tokens: TokenCount = 10


class Mme(Benchmark):
    """MME in the layout of its release."""

    options_schema = MmeOptions
    options: MmeOptions
    prompt_formats: ClassVar = {**FORMATS, LAVIN: TEMPLATE}
    chat_options = CHAT_OPTIONS
    wrong_prediction = "other"
    sum_metrics = tuple(HALVES)
    vlmevalkit_columns = ()

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        super().__init__(card, data_root)
        for subtask in self.options.subtasks:
            check_choice(card, "subtask", subtask, SUBTASKS)
        check_choice(card, "split", card.split, ["test"])
        check_choice(card, "metric", card.headline, metric_names(self.options.subtasks))
        self._files = MmeFiles(data_root, self.options.subtasks, self.card.data)

    @classmethod
    def hub_layout(cls, card: TaskCard, data_root: Path) -> Layout:
        """Return what writes the release's tree from a data set of the hub."""
        from adem_bench.tasks.mme.hub import MmeLayout

        return MmeLayout(card, data_root)

    def rows(self) -> Iterator[MmeQuestion | SkippedRow]:
        """Yield the questions subtask by subtask, images by name.

        Raises:
            DataError: a subtask is missing.
        """
        return self._files.rows()

    def digest(self) -> str:
        """Return a digest of the question files and the image listing."""
        return self._files.digest()

    def sample(self, row: MmeQuestion) -> Sample:
        """Return a question."""
        return Sample(
            id=_sample_id(row),
            fields={"question": row.question},
            reference=row.gold,
            images=(row.image,),
            groups=_groups(row.subtask),
            cluster=f"{row.subtask}/{row.image.stem}",
        )

    def prompt(self, sample: Sample) -> str:
        """Return a sample's prompt; in the format `lavin`, its pairs of blanks are halved."""
        prompt = super().prompt(sample)
        return halve_blanks(prompt) if self.prompt_format == LAVIN else prompt

    def metric_names(self) -> Sequence[str]:
        """Return all of MME's metrics: columns may name subtasks that are left out."""
        return metric_names()

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read `yes`, `no` or `other`."""
        answer = self._read(response.text)
        return Prediction(answer, float(answer == str(sample.reference).lower()))

    def _read(self, text: str) -> YesNo:
        rule = self.options.answer_rule
        return READERS[rule](text if rule in (LAVIN, CHAT) else _one_field(text))

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return the official scores."""
        answers = _answers(records)
        return with_mme_intervals(mme_scores(answers, self.options.subtasks), answers)

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the scores rest on, by image."""
        return mme_statistics(_answers(scored_records(records)))

    def warnings(self, records: Sequence[Record], metrics: Sequence[Metric]) -> Sequence[str]:
        """Return how many images lack an answer, and so have no part in acc+."""
        answers = _answers(scored_records(records))
        if self.options.answer_rule != CHAT:
            return _unpaired(answers)
        return [CHAT_SCORING, *unread_warning(a.prediction for a in answers), *_unpaired(answers)]

    def export(self, records: Iterable[Record], folder: Path) -> list[Path]:
        """Write `eval_tool/SUBTASK.txt`, which the official calculation.py reads.

        Questions without an answer have an empty one, so that pairs stay together.
        """
        answers = {record.sample_id: record for record in records}
        lines: dict[str, list[str]] = defaultdict(list)
        for question in good_rows(self._files.rows()):
            record = answers.get(_sample_id(question))
            if record is not None:
                cells = (question.image.name, question.question, question.gold, record.answer_text)
                lines[question.subtask].append("\t".join(_one_field(cell) for cell in cells))
        paths = []
        for subtask, found in lines.items():
            path = folder / RESULTS_FOLDER / f"{subtask}.txt"
            text = "".join(f"{line}\n" for line in found)
            write_atomically(path, text.encode("utf-8", errors="replace"))
            paths.append(path)
        return paths

    def import_predictions(self, path: Path) -> list[Record]:
        """Return records from a folder of the eval_tool's result files.

        The files carry questions and right answers themselves, so no data is needed; where it
        is there, questions that are not in it are refused.

        Raises:
            PredictionsError: no such files, a malformed line, or questions of other data.
        """
        files = [path / f"{subtask}.txt" for subtask in self.options.subtasks]
        files = [file for file in files if file.is_file()]
        if not files:
            raise PredictionsError(
                f"{path} holds none of the eval_tool's files: expected {self.options.subtasks[0]}"
                f".txt and so on, a folder of one file per subtask with lines {LINE}"
            )
        known = self._known_questions()
        return [record for file in files for record in self._records(file, known)]

    def _known_questions(self) -> Known | None:
        """Return the ids of the data's questions, None without data."""
        try:
            self._files.check()
        except DataError:
            return None
        known: Known = defaultdict(list)
        for row in good_rows(self._files.rows()):
            known[row.subtask, row.image.stem, row.question].append(_sample_id(row))
        return known

    def _records(self, file: Path, known: Known | None) -> Iterator[Record]:
        try:
            lines = read_text(file).split("\n")
        except (OSError, ValueError) as error:
            raise PredictionsError(f"{file} cannot be read: {why_unread(error)}") from error
        seen: Counter[str] = Counter()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            cells = line.split("\t", 3)
            if len(cells) < 4 or cells[2].strip().lower() not in ("yes", "no"):
                raise PredictionsError(f"{file}, line {number}: expected {LINE}")
            stem, question = Path(cells[0]).stem, cells[1]
            sample_id = f"{file.stem}/{stem}/{seen[stem]}"
            seen[stem] += 1
            if known is not None:
                # Taken out as they are met, so that a line given twice has no question left.
                ids = known.get((file.stem, stem, question))
                if not ids:
                    raise PredictionsError(
                        f"{file}, line {number}: the data has no such question about {cells[0]}, "
                        "or it was answered further up"
                    )
                sample_id = ids.pop(0)
            yield self._record(sample_id, cells)

    def _record(self, sample_id: str, cells: Sequence[str]) -> Record:
        gold = cells[2].strip()
        answer = self._read(cells[3])
        subtask, stem, _ = sample_id.split("/")
        return Record(
            sample_id=sample_id,
            request_digest="",
            response=cells[3],
            prediction=answer,
            reference=gold,
            score=float(answer == gold.lower()),
            groups=_groups(subtask),
            cluster=f"{subtask}/{stem}",
        )


def _sample_id(question: MmeQuestion) -> str:
    return f"{question.subtask}/{question.image.stem}/{question.index}"


def _groups(subtask: str) -> tuple[str, ...]:
    return (subtask, "perception" if subtask in PERCEPTION else "cognition")


def _one_field(text: str) -> str:
    """Return text without line breaks, as published (eval_mme.py), and with no tab (Q16)."""
    return text.replace("\n", "").replace("\r", "").replace("\t", " ")


def _answers(records: Sequence[Record]) -> list[MmeAnswer]:
    return [
        MmeAnswer(
            subtask=str(record.cluster).partition("/")[0],
            image=str(record.cluster),
            prediction=cast(YesNo, record.prediction),
            gold="yes" if str(record.reference).lower() == "yes" else "no",
        )
        for record in records
        if record.cluster
    ]


def _unpaired(answers: Sequence[MmeAnswer]) -> list[str]:
    counts = Counter(answer.image for answer in answers)
    single = sum(count == 1 for count in counts.values())
    who = "1 image has" if single == 1 else f"{single} images have"
    return [f"{who} one answer only, and so no part in acc+"] if single else []
