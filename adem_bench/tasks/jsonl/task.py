"""Rows of a `.jsonl`, `.json` or `.csv` file as a benchmark: the card says which column is what.

docs/own-data.md has an example of a card for each metric.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from pydantic import model_validator

from adem_bench.cards import check_options
from adem_bench.data.base64_images import ImageCache, suffix_of
from adem_bench.data.reading import RowError, broken, is_safe_name, missing, name_below
from adem_bench.data.table import HOLDS, Row
from adem_bench.errors import CardError
from adem_bench.metrics.intervals import Statistics
from adem_bench.records import Json, Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import (
    TaskOptions,
    TrainableBenchmark,
    check_choice,
    check_metrics,
    scored_records,
)
from adem_bench.tasks.coco_caption.scores import MEANS
from adem_bench.tasks.jsonl.scoring import IMAGES, SCORINGS, MultipleChoice, Scoring

PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
"""A placeholder, or a brace that stands for itself."""
CHOICES = "choices"
"""The placeholder of the options, one per line, each with its letter."""
DATA_URL = re.compile(r"data:image/[\w.+-]*;base64,")
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")
CAPTION_TOKENS = 40


class JsonlOptions(TaskOptions):
    """Settings of a card of rows."""

    file: str = ""
    """The rows: a `.jsonl`, `.json` (a list), `.csv` or `.tsv` file below the data root or next to
    the card, `{split}` for the split's name; the card's own name and `.jsonl` if empty."""
    id: str = ""
    """Column of the samples' ids; their numbers in the file if empty."""
    image: str | tuple[str, ...] | None = "image"
    """Column, or columns, of images: a path or a list of them, or base64; null for no images."""
    image_folder: str | None = None
    """Folder below the data root that image paths start from; the file's own if left out."""
    question: str | None = None
    """What is asked, `{column}` for a row's value and `{choices}` for its options; the metric's own
    wording around `{question}` if left out."""
    answer: str = "answer"
    """Column of the right answer, or of a list of them."""
    choices: str | tuple[str, ...] = "choices"
    """Of multiple choice: the column of a list of options, or a column for each option."""
    answer_form: Literal["auto", "letter", "index", "text"] = "auto"
    """Of multiple choice: how rows name the right option; `auto` takes what fits one option."""
    metric: Literal["exact_match", "multiple_choice", "yes_no", "vqa_accuracy", "caption"] = (
        "exact_match"
    )
    answer_rule: str = ""
    """How answers are read and compared; the metric's first if empty."""
    groups: tuple[str, ...] = ()
    """Columns whose values are report groups, such as `category/OCR`."""

    @model_validator(mode="before")
    @classmethod
    def _room_for_captions(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and fields.get("metric") == "caption":
            return {"max_new_tokens": CAPTION_TOKENS, **fields}
        return fields


class Jsonl(TrainableBenchmark):
    """A data set that a card alone describes."""

    options_schema = JsonlOptions
    options: JsonlOptions
    unit = IMAGES
    mean_metrics = MEANS

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        """Check a card; no file is read.

        Raises:
            CardError: an option is wrong.
        """
        super().__init__(card, data_root)
        self.wrong_prediction = self._scoring.wrong_prediction
        self._images = ImageCache()
        self._has_image_column = False
        self._template = self.options.question or SCORINGS[self.options.metric].question
        self._image_columns = _columns(self.options.image)
        folder = self.options.image_folder
        if folder is not None and not is_safe_name(folder):
            raise CardError(
                f"task {card.name}: option 'image_folder' {folder!r} is not a folder below the "
                "data root"
            )

    @classmethod
    def options_for_chat(cls, card: TaskCard) -> Mapping[str, Json]:
        """Return those of the card's metric."""
        return SCORINGS[check_options("task", card, JsonlOptions).metric].chat_options

    @cached_property
    def _scoring(self) -> Scoring:
        return scoring_of(self.card, self.options)

    def check_metrics(self) -> None:
        """Check headline and columns; groups are known from the data alone."""
        check_metrics(self.card, self.metric_names(), with_groups=True)

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return the prompt format and the template of questions."""
        return {"prompt_format": self.prompt_format, "question": self._template}

    def annotation_files(self) -> Sequence[Path]:
        """Return the file of the split.

        Raises:
            DataError: it is neither below the data root nor next to the card.
        """
        return [self.data_folder() / self._file_name]

    @property
    def _file_name(self) -> str:
        return self.options.file.replace("{split}", self.card.split) or f"{self.card.name}.jsonl"

    def data_folder(self) -> Path:
        """Return the data root, or the card's folder if the file is there.

        Raises:
            DataError: the file is in neither.
        """
        folders = [self.data_root, *([self.card.path.parent] if self.card.path else [])]
        for folder in folders:
            if (folder / self._file_name).is_file():
                return folder
        also = f" (also looked for in {folders[1]})" if len(folders) > 1 else ""
        raise missing(self.data_root / self._file_name, HOLDS + also, self.card.data)

    def digest(self) -> str:
        """Return a digest of the file and its images.

        Raises:
            DataError: it cannot be read, or no row has the column of images.
        """
        found = super().digest()
        if self._image_columns and not self._has_image_column:
            (path,) = self.annotation_files()
            columns = " or ".join(f"`{name}`" for name in self._image_columns)
            raise broken(
                path,
                "images (options.image names their column; `image: null` asks without images)",
                f"no row has a column {columns}",
                self.card.data,
            )
        return found

    def sample(self, row: Row) -> Sample:
        """Return what a row asks.

        Raises:
            RowError: it lacks a column, or a column does not hold what the card says.
        """
        choices = self._choices(row)
        reference = self._scoring.reference(row, self.options.answer, choices)
        names, images = self._images_of(row)
        question = self._filled(row, choices)
        return Sample(
            id=_identifier(row, self.options.id) if self.options.id else str(row.number),
            fields={"question": question, "choices": tuple(choices)},
            reference=reference,
            images=images,
            groups=tuple(
                _group(name, one) for name in self.options.groups for one in row.items_of(name)
            ),
            cluster="+".join(names) or None,
        )

    def _choices(self, row: Row) -> list[str]:
        if self.options.metric != "multiple_choice":
            return []
        columns = self.options.choices
        if isinstance(columns, str):
            found = row.items_of(columns)
        else:
            found = [row[name] for name in columns]
            while found and found[-1] in (None, ""):
                found.pop()  # a question may have fewer options than others
        if not 2 <= len(found) <= len(ascii_uppercase):
            raise RowError(f"it has {len(found)} options, expected 2 to {len(ascii_uppercase)}")
        if not all(isinstance(one, str | int | float) and str(one).strip() for one in found):
            raise RowError("an option is empty or not a text")
        return [str(one) for one in found]

    def _filled(self, row: Row, choices: Sequence[str]) -> str:
        """Return the template with a row's values in it."""
        values: dict[str, str] = {}

        def fill(found: re.Match[str]) -> str:
            if found.group() in ("{{", "}}"):
                return found.group()[0]
            name = found.group(1)
            if choices and name == CHOICES:
                lettered = zip(ascii_uppercase, choices, strict=False)
                return "\n".join(f"{letter}. {text}" for letter, text in lettered)
            items = [value for value in row.items_of(name) if value is not None]
            if any(isinstance(value, dict | list) for value in items):
                raise RowError(f"`{name}` must be a text, found {row[name]!r:.60}")
            return values.setdefault(name, ", ".join(map(str, items)))

        question = PLACE.sub(fill, self._template)
        if values and not any(text.strip() for text in values.values()):
            raise RowError(f"its question is empty: {', '.join(f'`{name}`' for name in values)}")
        return question

    def _images_of(self, row: Row) -> tuple[list[str], tuple[Path, ...]]:
        """Return what a row's images are called, and their files."""
        cells = [name for name in self._image_columns if name in row]
        self._has_image_column |= bool(cells)
        names, paths = [], []
        for value in (value for column in cells for value in row.items_of(column)):
            if not isinstance(value, str):
                raise RowError(f"an image must be a path or base64, found {value!r:.60}")
            if not value.strip():
                continue
            embedded = self._embedded(value)
            names.append(embedded.stem if embedded else value)
            paths.append(embedded or self._file(row, value))
        return names, tuple(paths)

    def _embedded(self, value: str) -> Path | None:
        """Return the file of an image in base64, taken out into the cache; None for a path."""
        url = DATA_URL.match(value)
        if not url and not BASE64.fullmatch(value):
            return None
        text = "".join(value[url.end() if url else 0 :].split())
        if not url and not suffix_of(text):
            return None  # not the first bytes of an image: a long name
        path = self._images.path_of(text)
        self._images.fill([(path, text)])
        return path

    def _file(self, row: Row, name: str) -> Path:
        folder = self.options.image_folder
        base = row.path.parent if folder is None else self.data_root / folder
        path = Path(name)
        if name.startswith(("http://", "https://")):
            raise RowError(f"image {name[:200]} is a URL; download it and name the file")
        if path.is_absolute() and ".." not in path.parts and path.is_relative_to(base.absolute()):
            return path
        below = name_below(name)
        if below is None:
            raise RowError(f"image {name[:200]!r} leads out of {base}")
        return base / below

    def choices(self, sample: Sample) -> Sequence[str]:
        """Return the continuations whose log-probabilities are wanted, by the rule `logits`."""
        return self._scoring.continuations(sample)

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the answer by the metric's rule."""
        return self._scoring.read(sample, response)

    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name, besides those of groups."""
        return self._scoring.names

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return the metrics of the card's choice."""
        return self._scoring.metrics(records)

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what they rest on, by image."""
        options = JsonlOptions.model_validate(card.options)
        return scoring_of(card, options).statistics(scored_records(records))

    def warnings(self, records: Sequence[Record], metrics: Sequence[Metric]) -> Sequence[str]:
        """Return what is to be known of the captions' tokenizer."""
        if self.options.metric != "caption":
            return self._scoring.warnings(records)
        return sorted({m.note for m in metrics if m.value is not None and m.note})

    def training_answers(self, sample: Sample) -> Sequence[str]:
        """Return the right answer, or every reference caption."""
        return self._scoring.answers(sample)


def scoring_of(card: TaskCard, options: JsonlOptions) -> Scoring:
    """Return the metric of a card.

    Raises:
        CardError: it has no such rule.
    """
    kind = SCORINGS[options.metric]
    if options.answer_rule:
        check_choice(card, f"answer_rule of {options.metric}", options.answer_rule, kind.rules)
    if issubclass(kind, MultipleChoice):
        return kind(options.answer_rule, options.answer_form)
    return kind(options.answer_rule)


def _columns(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else names


def _group(column: str, value: Any) -> str:
    if isinstance(value, str | int | float):
        return f"{column}/{value}"
    raise RowError(f"`{column}` must be a text or a number, found {value!r:.60}")


def _identifier(row: Row, column: str) -> str:
    value = row[column]
    if type(value) is int or (isinstance(value, str) and value.strip()):
        return str(value)
    raise RowError(f"`{column}` must be a text or a whole number, found {value!r:.60}")
