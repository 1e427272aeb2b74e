"""What all kinds of TSV tasks share: rows to samples and back to predictions files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from adem_bench.data.reading import RowError, SkippedRow
from adem_bench.errors import CardError, DataError, PredictionsError
from adem_bench.metrics.grouped import grouped_metrics, scores_of
from adem_bench.prompts import INSTRUCTION, TEMPLATE
from adem_bench.records import Json, Metric, Record, Response, Sample
from adem_bench.schemas import DataFile, TaskCard
from adem_bench.tasks.benchmark import (
    Benchmark,
    TaskOptions,
    check_choice,
    check_metrics,
    good_rows,
    imported_record,
    scored_records,
)
from adem_bench.tasks.tsv.files import RowFilter, TsvFile, TsvRow, find_tsv, md5
from adem_bench.tasks.tsv.predictions import read_table, write_tables

VLMEVALKIT = "vlmevalkit"
VLMEVALKIT_SCORING = "scored as VLMEvalKit scores, by its rules and without a judge model"
UNSCORED = "the file holds no right answers; the benchmark's own server scores the exported file"
GROUPED_BY = ("split", "l2-category", "category")
"""Columns whose values are report groups, such as `category/OCR`."""
FORMATS = {VLMEVALKIT: "{question}", INSTRUCTION: TEMPLATE}
"""`vlmevalkit` is VLMEvalKit's own prompt, `instruction` the same in LaVIN's template."""


class TsvOptions(TaskOptions):
    """Settings that cards of all TSV kinds have."""

    file: str | dict[str, str] = ""
    """The TSV, or one for each split; the card's name if empty."""
    rows: dict[str, str] = Field(default={})
    """Split to the value of column `split` that its rows have; all rows for other splits."""
    image_folder: str = ""
    """Where images named by path lie, below the TSV's folder; `images/NAME` if empty."""
    text_only: bool = False
    """Whether rows without image are asked too; VLMEvalKit leaves them out."""
    check_md5: bool = True
    """Whether the file must be the published one, where its MD5 is known."""
    prompt_suffix: str = ""
    """Put behind the question."""


class TsvTask(Benchmark):
    """A benchmark in a TSV."""

    options: TsvOptions
    prompt_formats = FORMATS
    reads_vlmevalkit = True
    unit = "images"
    needs: ClassVar[tuple[str, ...]] = ("index", "image|image_path", "question")
    """Columns that the file must have."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        super().__init__(card, data_root)
        if isinstance(self.options.file, dict):
            check_choice(card, "split", card.split, self.options.file)
        elif card.expected:
            check_choice(card, "split", card.split, card.expected)
        self._without_image = 0

    def check_metrics(self) -> None:
        """Check headline and columns; groups are known from the data alone."""
        check_metrics(self.card, self.metric_names(), with_groups=True)

    def check(self, row: TsvRow, sample: Sample) -> None:
        """Refuse a row that cannot be asked, or not be scored although others can.

        Raises:
            RowError: what is wrong with it.
        """
        if not row.text("question"):
            raise RowError("it has no question")
        if "answer" in row.cells and not row.text("answer"):
            raise RowError("it has no answer")
        self.check_answer(row, sample)

    def check_answer(self, row: TsvRow, sample: Sample) -> None:
        """Refuse a right answer that is none of this kind: rows of another benchmark have such.

        Raises:
            RowError: what was found and what is expected.
        """

    @property
    def is_vlmevalkit(self) -> bool:
        """Whether scores are to equal VLMEvalKit's, down to how it reads a predictions file."""
        return True

    def scoring(self) -> str:
        """Return by whose rules answers are scored: results say so."""
        return VLMEVALKIT_SCORING

    @cached_property
    def tsv(self) -> TsvFile:
        """The file, checked.

        Raises:
            DataError: it is missing, lacks columns, or is another one than was published.
        """
        path = self._path()
        found = TsvFile(path, self.card.data, self.options.image_folder)
        found.require(self.needs)
        published = self._published(path)
        if published.md5 and self.options.check_md5 and md5(path) != published.md5:
            raise DataError(
                f"{path} is not the published file: its MD5 is not {published.md5}; fetch it again "
                f"from {published.url or self.card.data.url}, or take it as it is with "
                "--set options.check_md5=false"
            )
        return found

    def _path(self) -> Path:
        card, file = self.card, self.options.file
        name = (file[card.split] if isinstance(file, dict) else file) or card.name
        card_folder = card.path.parent if card.path else None
        return find_tsv(name, self.data_root, card_folder, card.data)

    def _is_there(self) -> bool:
        """Return whether there is a file: predictions can be scored without it."""
        try:
            return self._path().is_file()
        except DataError:
            return False

    def _published(self, path: Path) -> DataFile:
        files = self.card.data.files
        named = (file for file in files if Path(file.path).name == path.name)
        return next(named, DataFile(path=path.name))

    def prompt_settings(self) -> Mapping[str, Json]:
        """Return the prompt format and what is put behind the question."""
        return {"prompt_format": self.prompt_format, "prompt_suffix": self.options.prompt_suffix}

    def rows(self) -> Iterator[TsvRow | SkippedRow]:
        """Yield the rows of the split in order; their images are in the cache by then.

        Raises:
            DataError: the file is missing or malformed, or the cache cannot be written.
        """
        return self._rows(extract=True)

    def count(self) -> int:
        """Return how many rows the split has in the file."""
        return sum(1 for _ in self._rows(extract=False))

    def digest(self) -> str:
        """Return a digest of the file and of the images it names by path."""
        return self.tsv.digest()

    def sample(self, row: TsvRow) -> Sample:
        """Return what a row asks, if it can be asked."""
        sample = self.read_row(row)
        self.check(row, sample)
        return sample

    @abstractmethod
    def read_row(self, row: TsvRow) -> Sample:
        """Return what a row asks; `check` says whether it can be asked.

        Raises:
            RowError: not even that is known.
        """

    def skipped_row(self, row: TsvRow, number: int, error: RowError) -> SkippedRow:
        """Name the row as VLMEvalKit's users know it, by its index.

        Arguments are those of `Benchmark.skipped_row`.
        """
        place = f"{self.tsv.path.name}, row {row.number}: (index {row.index}) "
        return SkippedRow(f"row {row.number}", f"{place}{error}")

    def _rows(self, extract: bool) -> Iterator[TsvRow | SkippedRow]:
        self._without_image = 0
        for row in self.tsv.rows(extract, self._row_filter()):
            if isinstance(row, TsvRow) and not row.images and not self.options.text_only:
                self._without_image += 1
            else:
                yield row

    def _row_filter(self) -> RowFilter | None:
        value = self.options.rows.get(self.card.split)
        if value is None:
            return None
        if "split" not in self.tsv.columns:
            raise CardError(
                f"task {self.card.name}: {self.tsv.path} has no column `split`, so that "
                f"`rows` cannot choose by it; it has {', '.join(self.tsv.columns)}"
            )
        return lambda cells: cells["split"].strip() == value

    def prompt(self, sample: Sample) -> str:
        """Return the question with what is put behind it, in the format's template."""
        prompt = self.question(sample) + self.options.prompt_suffix
        # Not str.format: questions may hold braces.
        return self.prompt_formats[self.prompt_format].replace("{question}", prompt)

    def scores(self, records: Sequence[Record]) -> tuple[Metric, ...]:
        """Return the metrics of records with a right answer: by default the mean score."""
        return grouped_metrics(scores_of(records), self.metric_name, self.unit)

    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name, besides those of groups."""
        return (self.metric_name,)

    def metrics(self, records: Sequence[Record]) -> tuple[Metric, ...]:
        """Return the metrics; those of rows without right answers have no value."""
        compared = [record for record in records if record.reference is not None]
        if records and not compared:
            names = self.metric_names()
            return tuple(Metric(name, None, "fraction", 0, UNSCORED) for name in names)
        return self.scores(compared)

    def size(self, records: Sequence[Record]) -> int:
        """Return how many rows the split has; without the file, how many were answered."""
        is_known = self.card.split in self.card.expected or self._is_there()
        return self.num_expected if is_known else len(records)

    def warnings(self, records: Sequence[Record], metrics: Sequence[Metric]) -> Sequence[str]:
        """Return by whose rules answers were scored, and which rows were left out."""
        return [self.scoring(), *self._warnings(), *self.remarks(records, metrics)]

    def remarks(self, records: Sequence[Record], metrics: Sequence[Metric]) -> list[str]:
        """Return what else a reader of the figures must know, of this kind of task."""
        return []

    def _warnings(self) -> Iterator[str]:
        if self._without_image:
            yield (
                f"{self._without_image} rows without an image are left out, as VLMEvalKit leaves "
                "them out (options.text_only=true asks them)"
            )
        if not self.options.check_md5 and any(file.md5 for file in self.card.data.files):
            yield "the file was not compared with the published MD5"

    def export(self, records: Iterable[Record], folder: Path) -> list[Path]:
        """Write the predictions as VLMEvalKit does: `vlmevalkit/NAME.tsv`, and `.xlsx`.

        Rows without an answer are left out.
        """
        answers = {record.sample_id: record for record in scored_records(list(records))}
        columns = [name for name in self.tsv.columns if name not in ("image", "prediction")]
        rows = (
            {**row.cells, "prediction": answers[row.index].answer_text}
            for row in good_rows(self._rows(extract=False))
            if row.index in answers
        )
        name = self.tsv.path.stem.removesuffix("_local")
        return write_tables(folder / VLMEVALKIT, name, [*columns, "prediction"], rows)

    def import_predictions(self, path: Path) -> list[Record]:
        """Return records from a predictions file of VLMEvalKit's.

        Such a file carries questions and right answers itself, so no data is needed; where it is
        there, rows that are not in it are refused, and those that the data skips have an error.

        Raises:
            PredictionsError: it cannot be read, or belongs to other data.
        """
        table = read_table(path, self.is_vlmevalkit)
        known = self._known()
        if known is None:
            return [self._record(path, number, row) for number, row in enumerate(table, 1)]
        unknown = [row["index"] for row in table if row["index"] not in known]
        if unknown:
            raise PredictionsError(
                f"{path}: {len(unknown)} of {len(table)} rows are not in {self.tsv.path.name} "
                f"(split {self.card.split}), the first has index {unknown[0]!r}"
            )
        records = []
        for number, row in enumerate(table, 1):
            sample = known[row["index"]]
            if isinstance(sample, SkippedRow):
                records.append(
                    Record(
                        row["index"], "", row["prediction"], None, None, None, error=sample.reason
                    )
                )
            else:
                records.append(self._record(path, number, row, sample))
        return records

    def _known(self) -> dict[str, Sample | SkippedRow] | None:
        """Return index to sample, or to why there is none; None without data."""
        if not self._is_there():
            return None
        found: dict[str, Sample | SkippedRow] = {}
        for row in self._rows(extract=False):
            if isinstance(row, TsvRow):
                try:
                    found[row.index] = self.sample(row)
                except RowError as error:
                    found[row.index] = SkippedRow(row.index, f"row {row.number}: {error}")
        return found

    def _record(
        self, path: Path, number: int, row: Mapping[str, str], known: Sample | None = None
    ) -> Record:
        index = row["index"]
        try:
            sample = self.predicted(TsvRow(number, index, row, ()), known)
            if known is None:
                self.check_answer(TsvRow(number, index, row, ()), sample)
        except RowError as error:
            raise PredictionsError(f"{path}, row {number} (index {index}): {error}") from error
        found = self.parse_response(sample, Response(row["prediction"]))
        record = imported_record(sample, row["prediction"], found)
        return replace(record, sample_id=index, cluster=(known or sample).cluster)

    def predicted(self, row: TsvRow, known: Sample | None) -> Sample:
        """Return the sample of a predictions file's row.

        VLMEvalKit scores by the file's own columns; so it is done where its scores are wanted.

        Args:
            row: The file's row.
            known: The data's sample, where there is data.

        Raises:
            RowError: it cannot be scored.
        """
        if known is not None and not (self.is_vlmevalkit and "answer" in row.cells):
            return known
        return self.read_row(row)


def groups_of(row: TsvRow) -> tuple[str, ...]:
    """Return a row's report groups: its split and categories, each with its column's name."""
    return tuple(f"{name}/{row.text(name)}" for name in GROUPED_BY if row.text(name))


def image_cluster(row: TsvRow) -> str | None:
    """Return what the questions on one image share, if it is known."""
    named = row.text("image_path").replace("\\", "/")
    return named or "+".join(path.stem for path in row.images) or None
