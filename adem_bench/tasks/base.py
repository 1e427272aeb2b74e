"""What every task offers to the runner and to `adem-bench score`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from adem_bench.cards import load_task_card
from adem_bench.data.reading import SkippedRow
from adem_bench.errors import CardError
from adem_bench.records import (
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
from adem_bench.registry import DATA_SOURCES, METRICS, TASK_KINDS
from adem_bench.schemas import TaskCard
from adem_bench.tasks.few_shot import with_examples


class Task(Protocol):
    """One benchmark on one split. A task works with any model."""

    card: TaskCard

    @property
    def num_expected(self) -> int:
        """Number of samples of the whole split as published (of the data, if none is known)."""
        ...

    @property
    def prompt_format(self) -> str:
        """Name of the format in which `request` renders prompts."""
        ...

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return all that shapes prompts, `prompt_format` first: manifests compare and keep it."""
        ...

    def samples(self) -> Iterator[Sample]:
        """Yield the samples of the split in the data set's order; no image is opened.

        Malformed rows are left out and listed by `skipped_rows` once the iterator has ended.

        Raises:
            DataError: a file is missing or is not in the documented layout.
        """
        ...

    def skipped_rows(self) -> Sequence[SkippedRow]:
        """Return the malformed rows that `samples` has met so far."""
        ...

    def request(self, sample: Sample) -> Request:
        """Render a sample as what a model may see."""
        ...

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the answer out of a response."""
        ...

    def aggregate(self, records: Sequence[Record]) -> Result:
        """Score a run; records with an error are counted as failed and not scored."""
        ...

    def export(self, records: Iterable[Record], folder: Path) -> list[Path]:
        """Write the predictions in the benchmark's own published formats; return the files."""
        ...

    def import_predictions(self, path: Path) -> list[Record]:
        """Return records of predictions that other code made, in a published format.

        Raises:
            PredictionsError: the file cannot be read or belongs to other samples.
        """
        ...

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change when the data does."""
        ...


@dataclass(frozen=True, slots=True)
class SetScores:
    """What comes of scoring a whole set at once."""

    scores: Mapping[str, float]
    """The score of each sample by its id, from 0 to 1, where a sample has one of its own."""
    figures: Mapping[str, Mapping[str, float]]
    """For each sample, what it adds to figures that are means: `Record.scores`."""
    metrics: Sequence[Metric] = ()
    """Figures that are no means over samples, which `aggregate` cannot know."""
    headline: str = ""
    """The metric that leaderboards show first; the card's if empty."""
    warnings: Sequence[str] = ()
    unjudged: Mapping[str, str] = field(default_factory=dict)
    """By id, why a sample has no score though it was answered: the judge failed."""


@runtime_checkable
class ScoresSets(Protocol):
    """A task that can score only whole sets: a step between its answers and `aggregate`.

    It may also have `packages`, which returns the versions of the packages that score.
    """

    def score_set(self, records: Sequence[Record], folder: Path) -> SetScores:
        """Score the records of one answer to each sample.

        The same records and the same folder give the same scores, without scoring anew where what
        is kept in the folder tells. A task whose `judging` is not `no` takes a judge as a third
        argument, and is given none where no judge was named.

        Args:
            records: Those with an error are not to be scored.
            folder: The task's own, below the run's; it may be missing.

        Raises:
            AdemBenchError: the set cannot be scored; the records are kept.
        """
        ...


Judging = Literal["no", "optional", "needed"]
"""Whether answers are read by another model: never, where one is named, or always."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge is asked about an answer to a sample."""

    sample_id: str
    """Empty where it is about several samples, or it is not known about which."""
    request: Request


class Judge(Protocol):
    """A model that reads what another one answered (`adem-bench run --judge`)."""

    @property
    def name(self) -> str:
        """Its name, and its fingerprint after a blank: two judges of one name are told apart."""
        ...

    @property
    def at_once(self) -> int:
        """How many questions are best asked together."""
        ...

    def ask(self, questions: Sequence[Question]) -> list[Response]:
        """Return an answer to each question, in order; one that failed has an error.

        Raises:
            AdemBenchError: no question will be answered.
        """
        ...


@runtime_checkable
class Judged(Protocol):
    """A task whose answers a judge can read, one by one."""

    @property
    def unjudged(self) -> Sequence[str]:
        """The warnings of its results that are not so where a judge has read the answers."""
        ...

    def judged(self, records: Sequence[Record], judge: Judge) -> list[Record]:
        """Return records as the judge reads their answers; one that it fails on has its error.

        Args:
            records: With answers, whoever read them before; those with an error stay.
            judge: Whom to ask.

        Raises:
            AdemBenchError: the judge does not answer at all, or data is missing.
        """
        ...


def judging_of(task: Task) -> Judging:
    """Return whether a judge reads a task's answers."""
    found: Judging = getattr(task, "judging", "no")
    return found


NUM_FEWSHOT = "num_fewshot"
MEMBERS = tuple(name for name in vars(Task) if callable(vars(Task)[name]) and name[0] != "_")
"""Methods without which a class is not a task."""


class TrainingData(Protocol):
    """Data to train on, in the prompts of the task that it belongs to."""

    card: TaskCard

    @property
    def prompt_format(self) -> str:
        """Name of the format of the prompts."""
        ...

    def training_settings(self) -> Mapping[str, Json]:
        """Return all that shapes training prompts, `prompt_format` first."""
        ...

    def training_pairs(self) -> Iterator[TrainingPair]:
        """Yield the pairs of the split in the data's order; no image is opened.

        Malformed rows are left out and listed by `skipped_rows` once the iterator has ended.

        Raises:
            DataError: a file is missing or is not in the documented layout.
        """
        ...

    def skipped_rows(self) -> Sequence[SkippedRow]:
        """Return the malformed rows that `training_pairs` has met so far."""
        ...

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change when the data does."""
        ...


def build_task(
    name: str,
    data_root: Path | None,
    overrides: Sequence[str] = (),
    split: str | None = None,
    prompt_format: str | None = None,
) -> Task:
    """Return the task that a card's name (or path) stands for.

    Args:
        name: Name or path of a task card, not of a group.
        data_root: Folder that holds the data; None means `$ADEM_BENCH_DATA` or `./data`, and
            for generated data its own cache folder.
        overrides: `key=value` settings for fields of the card.
        split: Replaces the card's split.
        prompt_format: Replaces the card's prompt format.

    Raises:
        CardError: unknown name, a wrong field, data that is for training only, or a plug-in's
            class that is not a task.
        DataError: the data is missing.
    """
    return task_of(_card(name, overrides, split, prompt_format), data_root)


def task_of(card: TaskCard, data_root: Path | None) -> Task:
    """Return the task that a card describes; data root and errors are those of `build_task`."""
    kind = TASK_KINDS.load(card.kind)
    if not hasattr(kind, "samples"):
        raise CardError(
            f"task {card.name} is data for training and has no score; name it as a `task` of a "
            "recipe's data (`adem-bench train --recipe FILE`)"
        )
    lacking = [name for name in MEMBERS if not hasattr(kind, name)]
    if lacking:
        raise CardError(
            f"task kind {card.kind} lacks {', '.join(lacking)}; derive its class from "
            "adem_bench.Benchmark, which has the methods of adem_bench.tasks.base.Task"
        )
    for name in card.metrics:
        METRICS.load(name)  # what is not there shows before anything is answered
    task: Task = kind(card, resolve_data_root(card, data_root))
    options = getattr(task, "options", None)
    number = getattr(options, NUM_FEWSHOT, 0)
    if not number:
        return task
    shown: Task = with_examples(
        task,
        number,
        getattr(options, "fewshot_seed", 0),
        lambda train: kind(train, resolve_data_root(train, data_root)),
    )
    return shown


def build_training_data(
    name: str,
    data_root: Path | None,
    overrides: Sequence[str] = (),
    split: str | None = None,
    prompt_format: str | None = None,
) -> TrainingData:
    """Return the training data that a task card's name (or path) stands for.

    Arguments are those of `build_task`.

    Raises:
        CardError: unknown name, a wrong field, or a kind of task that has no training data.
        DataError: the data is missing.
    """
    return training_data_of(_card(name, overrides, split, prompt_format), data_root)


def training_data_of(card: TaskCard, data_root: Path | None) -> TrainingData:
    """Return the training data that a card describes; errors are those of `build_training_data`."""
    kind = TASK_KINDS.load(card.kind)
    if card.options.get(NUM_FEWSHOT):
        raise CardError(
            f"task {card.name}: {NUM_FEWSHOT} puts examples before questions that are asked, not "
            "before those to learn; leave the option out"
        )
    if not hasattr(kind, "training_pairs"):
        kinds = [k for k in TASK_KINDS.table() if hasattr(TASK_KINDS.load(k), "training_pairs")]
        raise CardError(
            f"task {card.name} is of kind {card.kind}, which has no training data; "
            f"these kinds have: {', '.join(kinds)}"
        )
    data: TrainingData = kind(card, resolve_data_root(card, data_root))
    return data


def _card(
    name: str, overrides: Sequence[str], split: str | None, prompt_format: str | None
) -> TaskCard:
    extra = [f"split={split}"] if split else []
    extra += [f"prompt_format={prompt_format}"] if prompt_format else []
    return load_task_card(name, [*overrides, *extra])


def resolve_data_root(card: TaskCard, data_root: Path | None) -> Path:
    """Return the folder to read a task's data from, asking the card's data source if it has one.

    Raises:
        CardError: there is no such data source.
        DataError: the source cannot give the data.
    """
    from adem_bench.data.paths import default_data_root

    if not card.data.source:
        return data_root or default_data_root()
    source = DATA_SOURCES.load(card.data.source.partition(":")[0])
    return Path(source(card, data_root))
