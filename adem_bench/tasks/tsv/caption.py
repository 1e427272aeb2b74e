"""Captions in a TSV: COCO, with all references of an image in one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from adem_bench.data.reading import RowError
from adem_bench.data.table import texts_of
from adem_bench.metrics.intervals import Statistics, with_intervals
from adem_bench.records import Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import TokenCount, scored_records
from adem_bench.tasks.coco_caption.cache import CaptionParts
from adem_bench.tasks.coco_caption.scores import (
    MEANS,
    NAMES,
    CaptionScores,
    score_captions,
    score_untokenized,
)
from adem_bench.tasks.tsv.base import FORMATS, VLMEVALKIT_SCORING, TsvOptions, TsvTask, groups_of
from adem_bench.tasks.tsv.files import TsvRow

PICTURE = "picture"
QUESTION = (
    "Please describe this image in general. Directly provide the description, do not include "
    'prefix like "This image depicts". '
)
"""What VLMEvalKit asks where the file has no question (image_caption.py)."""
OFFICIAL_SCORING = (
    "captions are tokenized as the official scorer does; options.scorer=vlmevalkit scores them as "
    "they stand"
)


class CaptionOptions(TsvOptions):
    """Settings of a caption card."""

    scorer: Literal["official", "vlmevalkit"] = "official"
    """Whether captions are tokenized, as COCO's own scorer does, or split at blanks only."""
    max_new_tokens: TokenCount = 40


class TsvCaption(TsvTask):
    """Captions of images, scored against several references each."""

    options_schema = CaptionOptions
    options: CaptionOptions
    prompt_formats: ClassVar = {**FORMATS, PICTURE: "{question}"}
    mean_metrics = MEANS
    needs = ("index", "image|image_path")

    @property
    def is_vlmevalkit(self) -> bool:
        """Whether captions are scored as they stand."""
        return self.options.scorer == "vlmevalkit"

    def scoring(self) -> str:
        """Return by whose rules captions are scored."""
        return VLMEVALKIT_SCORING if self.is_vlmevalkit else OFFICIAL_SCORING

    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name."""
        return NAMES

    def read_row(self, row: TsvRow) -> Sample:
        """Return an image with its references."""
        references = texts_of(row.cells["answer"]) if row.text("answer") else []
        return Sample(
            id=row.index,
            fields={"question": row.cells.get("question") or QUESTION},
            reference=[text for text in references if text.strip()] or None,
            images=row.images,
            groups=groups_of(row),
        )

    def check(self, row: TsvRow, sample: Sample) -> None:
        """Refuse an image without a reference where others have some.

        Raises:
            RowError: it has none.
        """
        if "answer" in row.cells and not sample.reference:
            raise RowError("it has no reference caption")

    def question(self, sample: Sample) -> str:
        """Return the question, or the prompt of the published caption training."""
        return "a picture of" if self.prompt_format == PICTURE else str(sample.fields["question"])

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Take the whole response for the caption; it has no score of its own."""
        return Prediction(response.text, None)

    def scores(self, records: Sequence[Record]) -> tuple[Metric, ...]:
        """Return the caption metrics."""
        scores = _scores(records, self.is_vlmevalkit)
        return with_intervals(scores.metrics, scores.statistics)

    def remarks(self, records: Sequence[Record], metrics: Sequence[Metric]) -> list[str]:
        """Return what is to be known of the tokenizer."""
        notes = {metric.note for metric in metrics if metric.value is not None}
        return sorted(note for note in notes if note)

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the official scores rest on, by image."""
        return _scores(scored_records(records), untokenized=False).statistics


def _scores(records: Sequence[Record], untokenized: bool) -> CaptionScores:
    captions = {record.sample_id: str(record.prediction) for record in records}
    references: Mapping[str, list[str]] = {
        record.sample_id: [str(text) for text in record.reference]
        for record in records
        if isinstance(record.reference, list | tuple)
    }
    captions = {image: text for image, text in captions.items() if image in references}
    if untokenized:
        return score_untokenized(captions, references)
    return score_captions(captions, references, CaptionParts(captions, references))
