"""MME: two yes-or-no questions an image, in 14 subtasks (docs/method.md, sections 10.3, 11.3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from pydantic import Field

from adem_bench.data.reading import SkippedRow
from adem_bench.errors import DataError, PredictionsError
from adem_bench.files import write_atomically
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.yes_no import YesNo
from adem_bench.prompts import FORMATS, INSTRUCTION
from adem_bench.records import Json, Prediction, Record, Request, Response, Result, Sample
from adem_bench.schemas import Strict, TaskCard
from adem_bench.tasks.mme.files import MmeFiles, MmeQuestion
from adem_bench.tasks.mme.intervals import mme_statistics, with_mme_intervals
from adem_bench.tasks.mme.scores import (
    PERCEPTION,
    READERS,
    SUBTASKS,
    MmeAnswer,
    metric_names,
    mme_scores,
)
from adem_bench.tasks.shared import (
    Skips,
    TokenCount,
    build_result,
    check_choice,
    check_metrics,
    read_options,
    scored_records,
)

RESULTS_FOLDER = "eval_tool"
Known = dict[tuple[str, str, str], list[str]]
"""Subtask, image and question to sample ids."""
LINE = "image<TAB>question<TAB>Yes or No<TAB>answer"


class MmeOptions(Strict):
    """Settings of an MME card."""

    subtasks: tuple[str, ...] = Field(default=SUBTASKS, min_length=1)
    """Those that the data has; scores of fewer than all 14 are marked."""
    answer_rule: Literal["official", "lmms_eval", "vlmevalkit"] = "official"
    """Whose way of reading yes or no out of an answer; scores of other ways differ."""
    max_new_tokens: TokenCount = 10


class Mme:
    """MME in the layout of its release."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        self.card = card
        self.options = read_options(card, MmeOptions)
        for subtask in self.options.subtasks:
            check_choice(card, "subtask", subtask, SUBTASKS)
        check_choice(card, "split", card.split, ["test"])
        chosen = card.prompt_format or INSTRUCTION
        self._format = check_choice(card, "prompt format", chosen, FORMATS)
        # Columns may name subtasks that are left out; the headline is a figure that there will be.
        check_metrics(card, metric_names())
        check_choice(card, "metric", card.headline, metric_names(self.options.subtasks))
        self._files = MmeFiles(data_root, self.options.subtasks, card.data)
        self._skips = Skips()
        self._fingerprint = ""

    @property
    def num_expected(self) -> int:
        """Number of questions as published, or else in the data."""
        known = self.card.expected.get(self.card.split)
        return sum(1 for _ in self._files.rows()) if known is None else known

    @property
    def prompt_format(self) -> str:
        """Name of the format in which `request` renders prompts."""
        return self._format

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return the prompt format."""
        return {"prompt_format": self._format}

    def samples(self) -> Iterator[Sample]:
        """Yield the questions subtask by subtask, images by name.

        Raises:
            DataError: a subtask is missing.
        """
        return map(_sample, self._skips.keep(self._files.rows()))

    def skipped_rows(self) -> Sequence[SkippedRow]:
        """Return the malformed lines that `samples` has met so far."""
        return self._skips.listed()

    def request(self, sample: Sample) -> Request:
        """Render a question."""
        return Request(
            # Not str.format on the question: it may hold braces.
            prompt=FORMATS[self._format].replace("{question}", sample.fields["question"]),
            images=sample.images,
            max_new_tokens=self.options.max_new_tokens,
        )

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read `yes`, `no` or `other`."""
        answer = READERS[self.options.answer_rule](_one_field(response.text))
        return Prediction(answer, float(answer == str(sample.reference).lower()))

    def aggregate(self, records: Sequence[Record]) -> Result:
        """Return the official scores."""
        answers = _answers(records)
        metrics = with_mme_intervals(mme_scores(answers, self.options.subtasks), answers)
        return build_result(
            self.card, records, len(answers), self.num_expected, metrics, _unpaired(answers)
        )

    @staticmethod
    def statistics(records: Sequence[Record]) -> Statistics:
        """Return what the scores rest on, by image."""
        return mme_statistics(_answers(records))

    def export(self, records: Iterable[Record], folder: Path) -> list[Path]:
        """Write `eval_tool/SUBTASK.txt`, which the official calculation.py reads.

        Questions without an answer have an empty one, so that pairs stay together.
        """
        answers = {record.sample_id: record for record in records}
        lines: dict[str, list[str]] = defaultdict(list)
        for question in Skips().keep(self._files.rows()):
            record = answers.get(_sample_id(question))
            if record is not None:
                cells = (question.image.name, question.question, question.gold, record.response)
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
        for row in Skips().keep(self._files.rows()):
            known[row.subtask, row.image.stem, row.question].append(_sample_id(row))
        return known

    def _records(self, file: Path, known: Known | None) -> Iterator[Record]:
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError) as error:
            raise PredictionsError(f"{file} cannot be read: {error}") from error
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
        answer = READERS[self.options.answer_rule](_one_field(cells[3]))
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

    def fingerprint(self) -> str:
        """Return a digest of the question files and the image listing."""
        if not self._fingerprint:
            self._fingerprint = self._files.digest()
        return self._fingerprint


def _sample(question: MmeQuestion) -> Sample:
    return Sample(
        id=_sample_id(question),
        fields={"question": question.question},
        reference=question.gold,
        images=(question.image,),
        groups=_groups(question.subtask),
        cluster=f"{question.subtask}/{question.image.stem}",
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
        for record in scored_records(records)
        if record.cluster
    ]


def _unpaired(answers: Sequence[MmeAnswer]) -> list[str]:
    counts = Counter(answer.image for answer in answers)
    single = sum(count == 1 for count in counts.values())
    who = "1 image has" if single == 1 else f"{single} images have"
    return [f"{who} one answer only, and so no part in acc+"] if single else []
