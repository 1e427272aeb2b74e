"""The plain data types that travel from a task to a model and into a run folder; no torch.

Words as in ARCHITECTURE.md: a *sample* becomes a *request*, a model returns a *response*, the
task reads a *prediction* out of it, and one *record* per sample is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from adem_bench.digests import digest, stable_fields
from adem_bench.errors import UnknownNameError, nearest_hint

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
ImageNormalization = Literal["imagenet", "clip", "inception"]
FinishReason = Literal["", "stop", "length", "filter", "error"]
"""How an answer ended: by itself, at `max_new_tokens`, withheld, without one; empty: not known."""
Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One item of a benchmark."""

    id: str
    """Unique within the task and split; stable between runs."""
    fields: Mapping[str, Any]
    """What the task needs to render a prompt, in the data set's own field names."""
    reference: Json
    """The right answer: an option's index, `Yes`/`No`, or a list of captions."""
    images: tuple[Path, ...] = ()
    groups: tuple[str, ...] = ()
    """Report groups the sample belongs to, for example `NAT`, `IMG`, `G1-6`."""
    cluster: str | None = None
    """Samples that share a cluster (the two questions of an MME image) are not independent."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How new tokens are chosen; what is None is left to the model's card, and then greedy."""

    temperature: float | None = None
    """Logits are divided by it before a token is drawn; 0 takes the most probable token."""
    top_p: float | None = None
    """Only the most probable tokens are drawn, up to this share of the probability."""
    top_k: int | None = None
    """Only so many of the most probable tokens are drawn."""
    seed: int | None = None
    """Of the random numbers; each request has a stream of its own."""
    num_beams: int | None = None
    """Beams of a beam search."""

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn."""
        return bool(self.temperature)

    def over(self, default: Decoding) -> Decoding:
        """Return these settings, and those of `default` where they are silent."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(default, **known)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a conversation: text, or one of the request's images."""

    text: str = ""
    image: int | None = None
    """Index among the request's images, from 0; `text` is then empty."""
    role: Role = "user"


@dataclass(frozen=True, slots=True)
class Request:
    """All that a model may see of a sample."""

    FIRST_FIELDS: ClassVar = frozenset(
        {"prompt", "images", "max_new_tokens", "image_normalization", "choices"}
    )
    """Always in the digest; a later field only off its default (`digests.py`). Never add to it."""
    prompt: str
    images: tuple[Path, ...] = ()
    max_new_tokens: int = 16
    image_normalization: ImageNormalization = "imagenet"
    """Pixel statistics of the task's published pipeline (docs/method.md, section 9.1; Q14)."""
    choices: tuple[str, ...] = ()
    """Continuations of the prompt whose log-probabilities are wanted; usually none."""
    decoding: Decoding = Decoding()
    stop_pattern: str = ""
    """A regular expression: nothing after its first match in the answer is wanted."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer, and are not part of it."""
    text_stop: str = ""
    """A text that ends the answer of a model that goes on with the prompt's text; a model that is
    asked in turns may write it."""
    parts: tuple[Part, ...] = ()
    """The conversation in order, for models that take one; empty: the images, then the prompt.
    `prompt` then says the same in one text."""
    repeat: int = 0
    """Which time the same is asked, of samples that are asked several times; from 0."""

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with what is asked, whatever the machine.

        Of an image only the file's name enters, neither its folder nor its content: a run whose
        data is moved goes on. That images are the same is for the fingerprint of the data.
        """
        return digest(stable_fields(self) | {"images": [path.name for path in self.images]})

    def without_images(self) -> Request:
        """Return what is asked of a model that shall see no image."""
        return replace(self, images=(), parts=tuple(p for p in self.parts if p.image is None))


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A prompt with the answer that a model is to learn; they are joined without a space."""

    id: str
    """Unique within the data; for messages."""
    prompt: str
    answer: str
    images: tuple[Path, ...] = ()
    image_normalization: ImageNormalization = "imagenet"


@dataclass(frozen=True, slots=True)
class Response:
    """What a model made of a request."""

    text: str
    """The new text only, cut at the end-of-sequence token."""
    error: str | None = None
    """Why there is no answer (an unreadable image, say); `text` is then what there is instead."""
    notes: tuple[str, ...] = ()
    """Quirks met on the way, by the ids of docs/quirks.md, for example `Q9`."""
    choice_logprobs: tuple[float, ...] | None = None
    """One log-probability per choice of the request, if it asked for any."""
    tokens: tuple[int, int] | None = None
    """Tokens of prompt and answer, where a server counts (and charges for) them."""
    finish_reason: FinishReason = ""
    """How the answer ended, where the model can tell."""
    answer: str | None = None
    """What is to be read, where that is not all of `text`: reasoning is left out."""
    reasoning: str = ""
    """What a server sent apart from the answer."""

    @property
    def answer_text(self) -> str:
        """The text that a task reads."""
        return self.text if self.answer is None else self.answer


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a task read out of a response."""

    value: Json
    score: float | None
    """1 right, 0 wrong; None where only a whole set can be scored (captions)."""
    notes: tuple[str, ...] = ()
    """Quirks met in reading, by the ids of docs/quirks.md, for example `L4`."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of `samples.jsonl`."""

    FIRST_FIELDS: ClassVar = frozenset(
        {
            "sample_id", "request_digest", "response", "prediction", "reference", "score",
            "groups", "cluster", "error", "notes", "choice_logprobs",
        }
    )  # fmt: skip
    """On every line; a later field only off its default (`digests.py`)."""
    sample_id: str
    request_digest: str
    response: str
    prediction: Json
    reference: Json
    score: float | None
    groups: tuple[str, ...] = ()
    cluster: str | None = None
    error: str | None = None
    """Set when the sample has no answer; such records are counted, never scored."""
    notes: tuple[str, ...] = ()
    choice_logprobs: tuple[float, ...] | None = None
    tokens: tuple[int, int] | None = None
    finish_reason: FinishReason = ""
    answer: str | None = None
    """What was read of the response, where that is not all of it: reasoning is left out."""
    reasoning: str = ""
    """What a server sent apart from the response; no task reads it."""
    repeat: int = 0
    """Which of the sample's answers it is, where it was asked several times; from 0."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """What the sample adds to figures that are means over samples, by their names and in their
    unit, where its whole set was scored at once."""

    @property
    def is_unusable_row(self) -> bool:
        """Whether it stands for a row that could not be asked, which is no failure of a model's."""
        return self.error is not None and not self.request_digest

    @property
    def is_unjudged(self) -> bool:
        """Whether there is an answer, and only the judge failed: the model is not asked again."""
        return self.error is not None and self.error.startswith(UNJUDGED)

    def unjudged(self, reason: str) -> Record:
        """Return the record as it is where the judge failed: a failed sample, never a wrong one."""
        error = f"{UNJUDGED}{reason}"
        return replace(self, error=error, prediction=None, score=None, scores={})

    def to_judge(self) -> Record:
        """Return the record as it was before the judge failed."""
        if not self.is_unjudged:
            return self
        return replace(self, error=None, prediction=self.answer_text)

    @property
    def key(self) -> str:
        """What tells it from the run's other records."""
        return record_key(self.sample_id, self.repeat)

    @property
    def answer_text(self) -> str:
        """The text that the prediction was read out of."""
        return self.response if self.answer is None else self.answer

    def as_wrong(self, prediction: Json, has_score: bool) -> Record:
        """Return the record as if it had a wrong answer.

        Args:
            prediction: One that is never right.
            has_score: Whether the samples of its task have scores of their own.
        """
        score = 0.0 if has_score else None
        return replace(self, error=None, prediction=prediction, score=score)

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object, keys in declaration order; later fields if set."""
        line: dict[str, Any] = stable_fields(self)
        return line

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Record:
        """Build a record from a JSON object.

        Raises:
            TypeError: a field is missing or unknown, or its value is not of the field's type.
        """
        lists = {name: _tuple(line[name]) for name in LISTS if name in line}
        found = cls(**{**line, **lists})
        found._check()
        return found

    def _check(self) -> None:
        """Refuse what no record of ours holds: foreign and edited files reach every later step."""
        texts = (self.sample_id, self.request_digest, self.response, self.reasoning)
        maybe = (self.cluster, self.error, self.answer)
        numbers = self.choice_logprobs or ()
        good = (
            all(isinstance(text, str) for text in texts)
            and all(text is None or isinstance(text, str) for text in maybe)
            and all(isinstance(text, str) for text in (*self.groups, *self.notes))
            and (self.score is None or (_is_number(self.score) and isfinite(self.score)))
            and all(map(_is_number, numbers))
            and (
                self.tokens is None or (len(self.tokens) == 2 and all(map(_is_count, self.tokens)))
            )
            and self.finish_reason in FINISH_REASONS
            and _is_count(self.repeat)
            and self.repeat < MOST_REPEATS
        )
        if not good:
            raise TypeError("a field's value is not of its type")


UNJUDGED = "the judge failed: "
"""How the error of a sample begins that was answered, and whose answer could not be judged."""
MOST_REPEATS, MOST = 1000, 1 << 63
FINISH_REASONS = get_args(FinishReason)
LISTS = ("groups", "notes", "choice_logprobs", "tokens")
"""Fields of a record that are lists in a file."""


def _tuple(value: Any) -> tuple[Any, ...] | None:
    if value is not None and not isinstance(value, list | tuple):
        raise TypeError("expected a list")
    return None if value is None else tuple(value)


def _is_number(value: Any) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < MOST
    return is_whole or isinstance(value, float)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def record_key(sample_id: str, repeat: int) -> str:
    """Return the key of a record: the sample's id, and for its second answer on also the number."""
    # A separator that no data set has in its ids.
    return f"{sample_id}\x1f{repeat}" if repeat else sample_id


MIN_UNITS = 20
"""Fewer redrawn units say too little of others: docs/statistics.md has the measurement."""
REDRAWN = "bootstrap"
"""How the names of intervals of redrawn units begin."""
TOO_FEW = f"none: fewer than {MIN_UNITS} independent units"
"""What stands in the place of such an interval's name."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a result, with what it counts."""

    name: str
    value: float | None
    """None when it cannot be computed; `note` then says why and how to get it."""
    unit: Literal["fraction", "points", "count"]
    """A fraction lies in [0, 1] (CIDEr may pass 1) and is shown times 100; points as they are."""
    count: int
    """How many samples the figure rests on."""
    note: str = ""
    low: float | None = None
    """Bounds of the 95% interval, in the unit of `value`; None where there is no interval."""
    high: float | None = None
    interval: str = ""
    """How the interval was made: a method of `metrics/intervals.py`."""
    if_wrong: float | None = None
    """The value if every failed sample had a wrong answer; None where none failed."""
    units: int | None = field(default=None, compare=False)
    """Independent units that were redrawn for the interval; None where none were, or in runs of
    earlier versions."""

    @property
    def has_too_few_units(self) -> bool:
        """Return whether the interval is of so few redrawn units that it would be false."""
        units = self.count if self.units is None else self.units
        return self.low is not None and self.interval.startswith(REDRAWN) and units < MIN_UNITS

    def without_false_interval(self) -> Metric:
        """Return the metric as it may be shown: without an interval of too few units."""
        if not self.has_too_few_units:
            return self
        return replace(self, low=None, high=None, interval=TOO_FEW)

    def format(self) -> str:
        """Return the figure as tables print it: `93.85`, `963.61`, `12`, or `n/a`."""
        if self.value is None:
            return "n/a"
        return self._in_print(self.value)

    def format_interval(self) -> str:
        """Return the interval as tables print it: `[93.08, 94.54]`, or nothing."""
        if self.low is None or self.high is None or self.has_too_few_units:
            return ""
        if not (isfinite(self.low) and isfinite(self.high)):
            return ""
        return f"[{self._in_print(self.low)}, {self._in_print(self.high)}]"

    def format_if_wrong(self) -> str:
        """Return `if_wrong` as tables print it, or nothing."""
        return "" if self.if_wrong is None else self._in_print(self.if_wrong)

    def _in_print(self, value: float) -> str:
        if self.unit == "count":
            return f"{value:.0f}"
        return f"{value * 100 if self.unit == 'fraction' else value:.2f}"


@dataclass(frozen=True, slots=True)
class Result:
    """The metrics of one run and how much of the benchmark they cover."""

    task: str
    task_version: int
    split: str
    headline: str
    """Name of the metric that leaderboards show first."""
    metrics: tuple[Metric, ...]
    scored: int
    failed: int
    expected: int
    """Samples of the whole split as published; a smaller `scored` makes the result a subset."""
    warnings: tuple[str, ...] = field(default=())
    unusable: int = 0
    """Of those that failed, rows of the data that could not be asked."""

    @property
    def complete(self) -> bool:
        """Whether every expected sample was scored."""
        return self.scored == self.expected and self.failed == 0

    def coverage(self) -> str:
        """Return `4241` for a whole run, `SUBSET 100/4241` for anything less or else."""
        return str(self.scored) if self.complete else f"SUBSET {self.scored}/{self.expected}"

    def shortfall(self) -> str:
        """Return `3 failed`, or `1 failed, 2 rows not usable`."""
        rows = "row" if self.unusable == 1 else "rows"
        unusable = f", {self.unusable:,} {rows} not usable" if self.unusable else ""
        return f"{self.failed - self.unusable:,} failed{unusable}"

    def metric(self, name: str) -> Metric:
        """Return the metric called `name`.

        Raises:
            UnknownNameError: the result has no such metric; the nearest are named. It is a
                KeyError too.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = [metric.name for metric in self.metrics]
        raise UnknownNameError(f"{self.task} has no metric {name!r}{nearest_hint(name, known)}")

    def summary(self) -> str:
        """Return `mini_mme/test: accuracy 50.00% [44.6, 55.4], 320 samples`."""
        headline = next((m for m in self.metrics if m.name == self.headline), None)
        count = f"{self.scored:,} samples"
        if not self.complete:
            count = f"{self.scored:,} of {self.expected:,} samples, {self.shortfall()}"
        if headline is None:
            return f"{self.task}/{self.split}: not scored, {count}"
        unit = "%" if headline.unit == "fraction" and headline.value is not None else ""
        shown = f"{headline.name} {headline.format()}{unit} {headline.format_interval()}".rstrip()
        return f"{self.task}/{self.split}: {shown}, {count}"

    def __repr__(self) -> str:
        return f"Result({self.summary()})"

    def to_json(self) -> dict[str, Any]:
        """Return the result as the object that `metrics.json` holds."""
        found = {"schema": 1, "complete": self.complete} | asdict(self)
        for metric in found["metrics"]:
            for later in ("if_wrong", "units"):
                if metric[later] is None:
                    del metric[later]
        if not self.unusable:
            del found["unusable"]
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """Build a result from the object in `metrics.json`."""
        names = ("task", "task_version", "split", "headline", "scored", "failed", "expected")
        return cls(
            **{name: data[name] for name in names},
            metrics=tuple(Metric(**metric) for metric in data["metrics"]),
            warnings=tuple(data.get("warnings", ())),
            unusable=data.get("unusable", 0),
        )
