"""COCO captions on the Karpathy splits, or on any file in COCO's layout.

Prompts and scores are in docs/method.md, section 10.2, the layout in section 11.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from adem_bench.data.hub.layout import Layout
from adem_bench.data.reading import SkippedRow, whole_id
from adem_bench.errors import PredictionsError
from adem_bench.files import write_atomically
from adem_bench.metrics.intervals import Statistics
from adem_bench.records import (
    Json,
    Metric,
    Prediction,
    Record,
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
from adem_bench.tasks.coco_caption.cache import CaptionParts
from adem_bench.tasks.coco_caption.files import CaptionedImage, CaptionFiles
from adem_bench.tasks.coco_caption.scores import MEANS, NAMES, caption_scores, score_captions

FORMATS = {"picture": "a picture of"}
"""`picture` is the published prompt (eval_caption.py)."""
MAX_WORDS = 30
"""Words of a caption to learn (coco_karpathy_dataset.py, its `max_words`)."""
REMOVED = re.compile(r"""[.!"()*#:;~]""")
PUBLISHED_RULE = re.compile("picture of (.+)")
PREDICTIONS_HOLD = "a list of {image_id, caption} (COCO's result format)"
CIDER_NOTE = "CIDEr weighs words by the scored references: a subset's figure is not comparable"


class CocoCaptionOptions(TaskOptions):
    """Settings of a caption card."""

    caption_rule: Literal["published", "whole"] = "published"
    """What is the caption: what follows the first `picture of`, if any (Q13), or all of it."""
    training_prompt: Literal["published", "single"] = "published"
    """`published` has the prompt twice, the first time with a blank that is a token of its own
    (Q10, Q11); `single` has it once, and the answer begins exactly where the caption does."""
    annotations: str = ""
    """Annotation file below the data root, in BLIP's or COCO's layout; empty: found by split."""
    max_new_tokens: TokenCount = 20


class CocoCaption(Benchmark):
    """Captions of images, scored against several references each."""

    options_schema = CocoCaptionOptions
    options: CocoCaptionOptions
    prompt_formats = FORMATS
    image_normalization = "clip"  # unlike other tasks: docs/method.md, section 9.1
    mean_metrics = MEANS
    vlmevalkit_columns = ()

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        super().__init__(card, data_root)
        self._files = CaptionFiles(data_root, card.split, self.card.data, self.options.annotations)

    @classmethod
    def hub_layout(cls, card: TaskCard, data_root: Path) -> Layout:
        """Return what writes the official files from a data set of the hub."""
        from adem_bench.tasks.coco_caption.hub import CaptionLayout

        return CaptionLayout(card, data_root)

    def rows(self) -> Iterator[CaptionedImage | SkippedRow]:
        """Yield the images of the split in the annotation file's order.

        Raises:
            DataError: a file is missing or malformed.
        """
        return self._files.rows()

    def count(self) -> int:
        """Return how many images the annotation file lists."""
        return sum(1 for _ in self._files.rows())

    def digest(self) -> str:
        """Return a digest of the annotation files and the image listing."""
        return self._files.digest()

    def sample(self, row: CaptionedImage) -> Sample:
        """Return an image with its references."""
        return Sample(str(row.id), {}, reference=list(row.captions), images=(row.image,))

    def question(self, sample: Sample) -> str:
        """Return nothing: the prompt is the same for every image."""
        return ""

    def metric_names(self) -> Sequence[str]:
        """Return the caption metrics."""
        return NAMES

    def training_settings(self) -> Mapping[str, Json]:
        """Return the prompt format and how often it is put (Q10)."""
        return {
            "prompt_format": self.prompt_format,
            "training_prompt": self.options.training_prompt,
        }

    def training_pairs(self) -> Iterator[TrainingPair]:
        """Yield one pair per caption, in the annotation file's order.

        Raises:
            DataError: the file is missing or malformed.
        """
        prompt = FORMATS[self.prompt_format]
        is_single = self.options.training_prompt == "single"
        for row in self.usable(self._files.captions()):
            caption = clean_caption(row.text)
            if not caption.strip():
                self.skip(SkippedRow(row.id, f"caption {row.text!r} holds no word"))
                continue
            pair = (prompt, f" {caption}") if is_single else (f"{prompt} ", f"{prompt} {caption}")
            yield TrainingPair(row.id, *pair, (row.image,), "clip")

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the caption; it has no score of its own."""
        found = PUBLISHED_RULE.search(response.text)
        if found and self.options.caption_rule == "published":
            return Prediction(found.group(1), None)
        return Prediction(response.text, None)

    def answer_in(self, text: str) -> str:
        """Return the caption: a tuned model begins with the prompt once more (Q10)."""
        return str(self.parse_response(Sample("", {}, None), Response(text)).value)

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return the caption metrics."""
        captions, references = _texts(records)
        return caption_scores(captions, references, CaptionParts(captions, references))

    def warnings(self, records: Sequence[Record], metrics: Sequence[Metric]) -> Sequence[str]:
        """Return what CIDEr of a subset is, and what is to be known of the tokenizer."""
        is_subset = len(scored_records(records)) != self.num_expected
        notes = {metric.note for metric in metrics if metric.value is not None and metric.note}
        return [*([CIDER_NOTE] if is_subset else []), *sorted(notes)]

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the scores rest on, by image."""
        captions, references = _texts(scored_records(records))
        parts = CaptionParts(captions, references)
        return score_captions(captions, references, parts).statistics

    def export(self, records: Iterable[Record], folder: Path) -> list[Path]:
        """Write `coco_results.json`, a COCO result list."""
        rows = [
            {"image_id": int(record.sample_id), "caption": record.prediction}
            for record in scored_records(list(records))
        ]
        path = folder / "coco_results.json"
        write_atomically(path, json.dumps(rows))
        return [path]

    def import_predictions(self, path: Path) -> list[Record]:
        """Return records from a COCO result list.

        Raises:
            PredictionsError: not such a list, images of another split, or an image twice.
        """
        rows = read_predictions(path, PREDICTIONS_HOLD)
        if not isinstance(rows, list) or not rows:
            raise PredictionsError(f"{path} holds no captions; expected {PREDICTIONS_HOLD}")
        captions: dict[str, str] = {}
        for number, row in enumerate(rows):
            image, caption = _result(path, number, row)
            if image in captions:
                raise PredictionsError(f"{path}, row {number}: image {image} stands twice")
            captions[image] = caption
        samples = {row.id: row for row in map(self.sample, self.usable(self._files.rows()))}
        unknown = [image for image in captions if image not in samples]
        if unknown:
            raise PredictionsError(
                f"{path}: {len(unknown)} of {len(captions)} images are not in split "
                f"{self.card.split}, the first is {unknown[0]}; --split names another split"
            )
        return [
            imported_record(sample, captions[image], Prediction(captions[image], None))
            for image, sample in samples.items()
            if image in captions
        ]


def _texts(records: Sequence[Record]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return captions and references of the images that can be scored."""
    scored = [
        record
        for record in records
        if isinstance(record.reference, list | tuple) and record.reference
    ]
    captions = {record.sample_id: str(record.prediction) for record in scored}
    references = {
        record.sample_id: [str(text) for text in record.reference]  # type: ignore[union-attr]
        for record in scored
    }
    return captions, references


def clean_caption(text: str) -> str:
    """Return a caption as the published trainer learns it: lower case, no punctuation, 30 words.

    Source: ADEM-VL cec09b8 `util/coco_karpathy_dataset.py` (`pre_caption`).
    """
    squeezed = re.sub(r"\s{2,}", " ", REMOVED.sub(" ", text.lower()))
    return " ".join(squeezed.rstrip("\n").strip(" ").split(" ")[:MAX_WORDS])


def _result(path: Path, number: int, row: Any) -> tuple[str, str]:
    """Return image id and caption of a row.

    Raises:
        PredictionsError: what is wrong with it.
    """
    if not isinstance(row, dict):
        found = f"found {row!r:.60}"
    elif (image := whole_id(row.get("image_id"))) is None:
        found = f"its image_id is {row.get('image_id')!r:.60}, which is not a whole number"
    elif isinstance(caption := row.get("caption"), str):
        return str(image), caption
    else:
        found = f"its caption is a {type(caption).__name__}, not one text"
    raise PredictionsError(f"{path}, row {number}: {found}; expected {PREDICTIONS_HOLD}")
