"""The base class of tasks: a benchmark says its data, prompt, reading and score, and has the rest.

It must say what sample a row is (`sample`) and what a response means (`parse_response`), and
either name its `annotation_files`, whose rows are then read one by one, or yield `rows` of a
layout of its own with their `digest`. Everything else has a default that it may replace.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from adem_bench.cards import card_of_kind, check_options
from adem_bench.data.reading import RowError, SkippedRow, data_digest
from adem_bench.data.remedy import Remedy
from adem_bench.data.table import Row, read_table
from adem_bench.errors import CardError, DataError, PredictionsError, lacks_memory, nearest_hint
from adem_bench.files import read_text, write_atomically
from adem_bench.metrics.grouped import (
    MAJORITY,
    grouped_metrics,
    grouped_statistics,
    majority,
    scores_of,
)
from adem_bench.metrics.intervals import Statistics
from adem_bench.prompts import FORMATS
from adem_bench.records import (
    ImageNormalization,
    Json,
    Metric,
    Prediction,
    Record,
    Request,
    Response,
    Result,
    Sample,
    TrainingPair,
)
from adem_bench.registry import METRICS
from adem_bench.schemas import DataSource, Strict, TaskCard

AnyRow = TypeVar("AnyRow")
TokenCount = Annotated[int, Field(ge=1, le=4096)]
"""How many tokens a model may answer with."""
CHAT_TOKENS = 256
"""As many let a model end a sentence or two."""
EXPORTED = "predictions.jsonl"
EXPORTED_HOLDS = "{id, response} in rows (.jsonl, .json or .csv)"


class TaskOptions(Strict):
    """Settings that cards of nearly every kind have."""

    max_new_tokens: TokenCount = 16
    num_fewshot: Annotated[int, Field(ge=0, le=64)] = 0
    """How many examples of the train split stand before each question (`tasks/few_shot.py`)."""
    fewshot_seed: int = 0
    """Of the draw of examples."""


class CardData(ABC):
    """What every kind does with its card, also one whose data is for training only."""

    options_schema: ClassVar[type[Strict]] = TaskOptions
    """What the card's `options` may hold."""
    prompt_formats: ClassVar[Mapping[str, str]] = FORMATS
    """Names of prompt formats to templates with `{question}` in them."""
    reads_vlmevalkit: ClassVar[bool] = False
    """Whether `import_predictions` reads VLMEvalKit's records."""
    rows_of: ClassVar[str] = ""
    """The harness (`vlmevalkit`, `lmms_eval`) whose row numbers are the ids of the samples."""
    default_format: ClassVar[str] = ""
    """The format of cards that name none; the first if empty."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        """Check a card; no file is read.

        Args:
            card: The benchmark's card.
            data_root: Folder that holds the data.

        Raises:
            CardError: an option or the prompt format is not one of the kind's.
        """
        data = card.data.with_remedy(Remedy(card, data_root))
        self.card = card.model_copy(update={"data": data})
        self.data_root = data_root
        self.options: Any = check_options("task", card, self.options_schema)
        chosen = card.prompt_format or self.default_format or next(iter(self.prompt_formats))
        self.prompt_format = check_choice(card, "prompt format", chosen, self.prompt_formats)
        self._skipped: dict[str, SkippedRow] = {}
        self._fingerprint = ""

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return all that shapes prompts, `prompt_format` first."""
        return {"prompt_format": self.prompt_format}

    def training_settings(self) -> Mapping[str, Json]:
        """Return all that shapes training prompts: by default what shapes the others."""
        return self.prompt_settings()

    def skip(self, row: SkippedRow) -> None:
        """Note a row that is left out; it is listed once, however often the data is read."""
        self._skipped[row.id] = row

    def usable(self, rows: Iterable[AnyRow | SkippedRow]) -> Iterator[AnyRow]:
        """Yield the rows that can be used and note the others."""
        for row in rows:
            if isinstance(row, SkippedRow):
                self.skip(row)
            else:
                yield row

    def skipped_rows(self) -> Sequence[SkippedRow]:
        """Return the malformed rows met so far."""
        return tuple(self._skipped.values())

    @abstractmethod
    def digest(self) -> str:
        """Return 16 hexadecimal digits that change when the data does."""

    def fingerprint(self) -> str:
        """Return the data's digest, computed once."""
        if not self._fingerprint:
            self._fingerprint = self.digest()
        return self._fingerprint


class Benchmark(CardData):
    """A task: see the module's first lines for what a subclass must say."""

    metric_name: ClassVar[str] = "accuracy"
    """What the mean of the samples' scores is called."""
    unit: ClassVar[str] = "samples"
    """What is independent of the rest, in the plural: `images` where samples share one, which
    they say by their `cluster`."""
    image_normalization: ClassVar[ImageNormalization] = "imagenet"
    """Pixel statistics of requests."""
    sum_metrics: ClassVar[Collection[str]] = ()
    """Metrics that are sums of others, which plots of all groups leave out."""
    wrong_prediction: Json = ""
    """A prediction that is never right, and is read by `metrics` like others."""
    lower_is_better: ClassVar[Collection[str]] = ()
    """Metrics of which less is better."""
    mean_metrics: ClassVar[Sequence[str]] = ()
    """Metrics whose figure of a set is the mean of its units' figures, where samples have no
    score of their own: their distribution can be plotted."""
    chat_options: ClassVar[Mapping[str, Json]] = {"max_new_tokens": CHAT_TOKENS}
    """Options that differ for models that answer in sentences, unless the user says otherwise."""
    vlmevalkit_columns: ClassVar[Sequence[str] | None] = None
    """Columns besides question, hint, category and answer that samples have in VLMEvalKit's
    layout; None if they have no such layout."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        """Check a card; arguments and errors are those of `CardData`."""
        super().__init__(card, data_root)
        self._count: int | None = None
        self.check_metrics()

    @classmethod
    def options_for_chat(cls, card: TaskCard) -> Mapping[str, Json]:
        """Return `chat_options`, for a card of this kind."""
        known = cls.options_schema.model_fields
        return {name: value for name, value in cls.chat_options.items() if name in known}

    # Data

    def annotation_files(self) -> Sequence[Path]:
        """Return the files whose rows are the samples, in order: `.jsonl`, `.json` or `.csv`.

        Raises:
            DataError: they cannot be found.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define annotation_files, or else rows and digest"
        )

    def rows(self) -> Iterator[Any]:
        """Yield the rows in the data's order, malformed ones as `SkippedRow`.

        Raises:
            DataError: a file is missing or is not in its layout.
        """
        for path in self.annotation_files():
            yield from read_table(path, self.card.data)

    def counted_rows(self) -> Iterator[Any]:
        """Yield the rows; where reading them is how they are counted, they then are."""
        number = 0
        for row in self.rows():
            number += 1
            yield row
        if type(self).count is Benchmark.count:
            self._count = number

    @abstractmethod
    def sample(self, row: Any) -> Sample:
        """Return what a row asks.

        Raises:
            RowError: it cannot be asked; the row is left out and counted.
        """

    def skipped_row(self, row: Any, number: int, error: RowError) -> SkippedRow:
        """Return how a row that `sample` refuses is listed.

        Args:
            row: As `rows` has it.
            number: Its place among the rows, from 1.
            error: Why it is refused.
        """
        if isinstance(row, Row):
            return row.skipped(error)
        return SkippedRow(f"row {number}", f"row {number}: {error}")

    def samples(self) -> Iterator[Sample]:
        """Yield the samples of the split in the data's order; no image is opened.

        The data may be read several times in one run, and must be the same each time.

        Raises:
            DataError: a file is missing or is not in its layout.
        """
        return self.usable(self._samples())

    def _samples(self) -> Iterator[Sample | SkippedRow]:
        """Yield the samples, and in their place the rows that are left out."""
        seen: set[str] = set()
        refused: list[SkippedRow] = []
        for number, row in enumerate(self.counted_rows(), 1):
            if isinstance(row, SkippedRow):
                refused += [row] if not refused else []
                yield row
                continue
            try:
                sample = self.sample(row)
                if sample.id in seen:
                    raise RowError(f"id {sample.id!r} appears twice")
            except RowError as error:
                skipped = self.skipped_row(row, number, error)
                refused += [skipped] if not refused else []
                yield skipped
                continue
            seen.add(sample.id)
            yield sample
        if refused and not seen and type(self).rows is Benchmark.rows:
            # A card or a task that does not fit the file, rather than rows that are malformed.
            raise DataError(f"no row can be used, the first because: {refused[0].reason}")

    @property
    def num_expected(self) -> int:
        """Number of samples of the split: as published, or else in the data."""
        known = self.card.expected.get(self.card.split)
        if known is not None:
            return known
        if self._count is None:
            self._count = self.count()
        return self._count

    def count(self) -> int:
        """Return how many rows the split has in the data."""
        return sum(1 for _ in self.rows())

    def digest(self) -> str:
        """Return a digest of the annotation files and of the images' names and sizes."""
        samples = good_rows(self._samples())
        images = dict.fromkeys(path for sample in samples for path in sample.images)
        return data_digest(self.annotation_files(), images, self.data_folder())

    def data_folder(self) -> Path:
        """Return the folder that the digest takes names from: moving it changes nothing."""
        return self.data_root

    # Prompt

    def question(self, sample: Sample) -> str:
        """Return what takes the place of `{question}` in the prompt format's template."""
        return str(sample.fields["question"])

    def prompt(self, sample: Sample) -> str:
        """Return a sample's prompt."""
        # Not str.format: questions may hold braces.
        return self.prompt_formats[self.prompt_format].replace("{question}", self.question(sample))

    def choices(self, sample: Sample) -> Sequence[str]:
        """Return the continuations whose log-probabilities are wanted; by default none."""
        return ()

    def request(self, sample: Sample) -> Request:
        """Render a sample as what a model may see."""
        return Request(
            prompt=self.prompt(sample),
            images=sample.images,
            max_new_tokens=self.options.max_new_tokens,
            image_normalization=self.image_normalization,
            choices=tuple(self.choices(sample)),
        )

    # Reading and score

    @abstractmethod
    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the answer out of a response, and score it."""

    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name."""
        return (self.metric_name, MAJORITY)

    def check_metrics(self) -> None:
        """Check that the card's headline and columns are metrics of its kind.

        Raises:
            CardError: one is not, and the nearest names are proposed; or there is no headline.
        """
        check_metrics(self.card, self.metric_names())

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return the metrics of records that can be scored.

        By default the mean score and that of each group, with intervals, and, where every sample
        has one right answer, what the most frequent one would score.
        """
        found = list(grouped_metrics(scores_of(records), self.metric_name, self.unit))
        single = [r.reference for r in records if isinstance(r.reference, Hashable)]
        if len(single) == len(records):
            found.insert(1, majority(single))
        return found

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the metrics rest on, unit by unit: `adem-bench compare` tests with it.

        Args:
            card: The card of the run; its data may not be available.
            records: Of any samples.
        """
        return grouped_statistics(scores_of(scored_records(records)), cls.metric_name, cls.unit)

    def warnings(self, records: Sequence[Record], metrics: Sequence[Metric]) -> Sequence[str]:
        """Return what a reader of the metrics must know."""
        return ()

    def aggregate(self, records: Sequence[Record]) -> Result:
        """Score a run; records with an error are counted as failed and not scored.

        `adem-bench validate` does so again: equal records must make equal metrics.
        """
        scored = scored_records(records)
        metrics = self._with_failures(records, scored)
        warnings = self.warnings(records, metrics)
        size = self.size(records)
        return build_result(self.card, records, len(scored), size, metrics, warnings)

    def _with_failures(
        self, records: Sequence[Record], scored: Sequence[Record]
    ) -> Sequence[Metric]:
        """Return the metrics, with what they would be if all that failed were wrong."""
        metrics = self.metrics(scored)
        has_scores = any(record.score is not None for record in scored)
        failed = [
            record.as_wrong(self.wrong_prediction, has_scores)
            for record in records
            # A row that could not be asked is no failure of the model's.
            if record.error is not None and record.request_digest
        ]
        if not failed or not scored:
            return metrics
        at_worst = {metric.name: metric for metric in self.metrics([*scored, *failed])}
        return [
            replace(metric, if_wrong=at_worst[metric.name].value)
            if metric.unit != "count" and metric.name in at_worst and metric.name != MAJORITY
            else metric
            for metric in metrics
        ]

    def size(self, records: Sequence[Record]) -> int:
        """Return how many samples the whole split has, for the result of some records."""
        return self.num_expected

    # Predictions of and for other code

    def export(self, records: Iterable[Record], folder: Path) -> list[Path]:
        """Write the predictions; by default `predictions.jsonl`, one {id, response} a line."""
        path = folder / EXPORTED
        rows = (
            json.dumps({"id": record.sample_id, "response": record.answer_text}, ensure_ascii=False)
            for record in scored_records(list(records))
        )
        write_atomically(path, "".join(f"{row}\n" for row in rows).encode(errors="replace"))
        return [path]

    def import_predictions(self, path: Path) -> list[Record]:
        """Return records of predictions that other code made; by default as `export` writes them.

        Raises:
            PredictionsError: the file cannot be read, or belongs to other samples.
        """
        responses = read_responses(path)
        records = []
        for sample in self.samples():
            text = responses.pop(sample.id, None)
            if text is not None:
                found = self.parse_response(sample, Response(text))
                records.append(imported_record(sample, text, found))
        if responses:
            raise PredictionsError(
                f"{path}: {len(responses)} of {len(responses) + len(records)} ids are not in split "
                f"{self.card.split}, the first is {next(iter(responses))!r}"
            )
        return records

    # Other harnesses

    def answer_in(self, text: str) -> str:
        """Return what another harness is to score of a response: by default all of it."""
        return text

    def vlmevalkit_cells(self, sample: Sample) -> Mapping[str, Any]:
        """Return a sample's cells in `vlmevalkit_columns`, and others that replace the common."""
        return {}


class TrainableBenchmark(Benchmark):
    """A benchmark that can be learnt: its samples have answers in words."""

    @abstractmethod
    def training_answers(self, sample: Sample) -> Sequence[str]:
        """Return the answers to learn for a sample, each a training pair of its own."""

    def training_pairs(self) -> Iterator[TrainingPair]:
        """Yield prompts and answers in the data's order; they are joined without a blank.

        Raises:
            DataError: a file is missing or is not in its layout.
        """
        for sample in self.samples():
            answers = self.training_answers(sample)
            for number, answer in enumerate(answers):
                name = sample.id if len(answers) == 1 else f"{sample.id}/{number}"
                prompt = self.prompt(sample)
                yield TrainingPair(name, prompt, answer, sample.images, self.image_normalization)


def good_rows(rows: Iterable[AnyRow | SkippedRow]) -> Iterator[AnyRow]:
    """Yield the rows that can be used; the others are not noted."""
    return (row for row in rows if not isinstance(row, SkippedRow))


def check_choice(card: TaskCard, what: str, value: str, known: Iterable[str]) -> str:
    """Return `value` if it is among `known`.

    Args:
        card: Whose field it is.
        what: What the field is, in words.
        value: The field's value.
        known: What it may be.

    Raises:
        CardError: it is not; the nearest names are proposed.
    """
    names = list(known)
    if value not in names:
        hint = nearest_hint(value, names, f"adem-bench tasks show {card_of_kind(card)}")
        raise CardError(f"task {card.name}: unknown {what} {value!r}{hint}")
    return value


def check_metrics(card: TaskCard, known: Sequence[str], with_groups: bool = False) -> None:
    """Check that a card's headline and columns are metrics of its kind.

    Args:
        card: Whose headline and columns.
        known: The metrics.
        with_groups: Whether names with a slash, such as `category/OCR`, pass unchecked: they are
            groups, which the data alone knows.

    Raises:
        CardError: one is not, and the nearest names are proposed; or there is no headline.
    """
    if not card.headline:
        raise CardError(f"task {card.name} has no headline; name one of: {', '.join(known)}")
    for name in (card.headline, *card.columns):
        if not (with_groups and "/" in name):
            check_choice(card, "metric", name, (*known, *card.metrics))


def scored_records(records: Sequence[Record]) -> list[Record]:
    """Return the records that can be scored: those with an answer that something was read of."""
    return [record for record in records if record.error is None and record.prediction is not None]


def imported_record(sample: Sample, text: str, prediction: Prediction) -> Record:
    """Return the record of an answer that other code had.

    Args:
        sample: What was asked.
        text: The response; empty where only the prediction is known.
        prediction: What was read of it.
    """
    return Record(
        sample_id=sample.id,
        request_digest="",
        response=text,
        prediction=prediction.value,
        reference=sample.reference,
        score=prediction.score,
        groups=sample.groups,
        cluster=sample.cluster,
        notes=prediction.notes,
    )


def build_result(
    card: TaskCard,
    records: Sequence[Record],
    scored: int,
    expected: int,
    metrics: Sequence[Metric],
    warnings: Sequence[str] = (),
) -> Result:
    """Return a result whose counts say how much of the split it covers.

    Args:
        card: The task's; metrics of plug-ins that it names are added.
        records: All records of the run.
        scored: How many of them were scored.
        expected: How many samples the split has.
        metrics: Of the scored records.
        warnings: What a reader must know.
    """
    return Result(
        task=card.name,
        task_version=card.version,
        split=card.split,
        headline=card.headline,
        metrics=(*metrics, *added_metrics(card, records)),
        scored=scored,
        failed=len(records) - scored,
        expected=expected,
        warnings=tuple(warnings),
    )


def added_metrics(card: TaskCard, records: Sequence[Record]) -> list[Metric]:
    """Return the metrics of plug-ins that a card names, each a function of the scored records.

    One that fails is there without a value: the run's own figures shall not be lost with it.

    Raises:
        CardError: there is no such metric.
    """
    functions = {name: METRICS.load(name) for name in card.metrics}
    scored = scored_records(records)
    return [_added(name, function, scored) for name, function in functions.items()]


def _added(name: str, function: Any, scored: Sequence[Record]) -> Metric:
    try:
        metric = function(scored)
        if isinstance(metric, Metric):
            return replace(metric, name=name)
        reason = f"the plug-in returned {type(metric).__name__}; expected a Metric"
    except Exception as error:  # code of others may raise anything
        if lacks_memory(error):
            raise
        reason = f"the plug-in failed ({type(error).__name__}: {error})"
    return Metric(name, None, "fraction", len(scored), note=reason)


def read_predictions(path: Path, what: str) -> Any:
    """Return the content of a predictions file in JSON.

    Raises:
        PredictionsError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except OSError as error:
        raise PredictionsError(
            f"{path} cannot be read ({error.strerror or error}); expected {what}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PredictionsError(f"{path} is not JSON ({error}); expected {what}") from error


def read_responses(path: Path) -> dict[str, str]:
    """Return the responses in a file as `Benchmark.export` writes it, by sample id.

    Raises:
        PredictionsError: it cannot be read, a row lacks its fields, or an id appears twice.
    """
    found: dict[str, str] = {}
    try:
        for row in read_table(path, DataSource()):
            if isinstance(row, SkippedRow):
                raise PredictionsError(f"{row.reason}; expected {EXPORTED_HOLDS}")
            name, response = row.get("id"), row.get("response")
            if type(name) not in (int, str) or not isinstance(response, str | None):
                reason = row.skipped(f"expected {EXPORTED_HOLDS}, the response a text").reason
                raise PredictionsError(reason)
            if str(name) in found:
                raise PredictionsError(row.skipped(f"id {name!r} was answered further up").reason)
            found[str(name)] = response or ""
    except DataError as error:
        raise PredictionsError(
            f"{path} cannot be read as predictions; expected {EXPORTED_HOLDS}"
        ) from error
    if not found:
        raise PredictionsError(f"{path} holds no predictions; expected {EXPORTED_HOLDS}")
    return found
