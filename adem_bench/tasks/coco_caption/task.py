"""COCO captions on the Karpathy splits, or on any file in COCO's layout.

Prompts and scores are in docs/method.md, section 10.2, the layout in section 11.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from adem_bench.data.reading import SkippedRow
from adem_bench.errors import PredictionsError
from adem_bench.files import write_atomically
from adem_bench.metrics.intervals import Statistics
from adem_bench.records import (
    Json,
    Prediction,
    Record,
    Request,
    Response,
    Result,
    Sample,
    TrainingPair,
)
from adem_bench.schemas import Strict, TaskCard
from adem_bench.tasks.coco_caption.cache import CaptionParts
from adem_bench.tasks.coco_caption.files import CaptionedImage, CaptionFiles
from adem_bench.tasks.coco_caption.scores import NAMES, caption_scores, score_captions
from adem_bench.tasks.shared import (
    Skips,
    TokenCount,
    build_result,
    check_choice,
    check_metrics,
    read_options,
    read_predictions,
    scored_records,
)

FORMATS = {"picture": "a picture of"}
"""`picture` is the published prompt (eval_caption.py)."""
MAX_WORDS = 30
"""Words of a caption to learn (coco_karpathy_dataset.py, its `max_words`)."""
REMOVED = re.compile(r"""[.!"()*#:;~]""")
PUBLISHED_RULE = re.compile("picture of (.+)")
PREDICTIONS_HOLD = "a list of {image_id, caption} (COCO's result format)"
CIDER_NOTE = "CIDEr weighs words by the scored references: a subset's figure is not comparable"


class CocoCaptionOptions(Strict):
    """Settings of a caption card."""

    caption_rule: Literal["published", "whole"] = "published"
    """What is the caption: what follows the first `picture of`, if any (Q13), or all of it."""
    training_prompt: Literal["published", "single"] = "published"
    """`published` has the prompt twice, the first time with a blank that is a token of its own
    (Q10, Q11); `single` has it once, and the answer begins exactly where the caption does."""
    annotations: str = ""
    """Annotation file below the data root, in BLIP's or COCO's layout; empty: found by split."""
    max_new_tokens: TokenCount = 20


class CocoCaption:
    """Captions of images, scored against several references each."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        self.card = card
        self.options = read_options(card, CocoCaptionOptions)
        chosen = card.prompt_format or "picture"
        self._format = check_choice(card, "prompt format", chosen, FORMATS)
        check_metrics(card, NAMES)
        self._files = CaptionFiles(data_root, card.split, card.data, self.options.annotations)
        self._skips = Skips()
        self._fingerprint = ""

    @property
    def num_expected(self) -> int:
        """Number of images of the split, as published or else in the data."""
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
        """Yield the images of the split in the annotation file's order.

        Raises:
            DataError: a file is missing or malformed.
        """
        self._files.check_image_folder()
        return map(_sample, self._skips.keep(self._files.rows()))

    def skipped_rows(self) -> Sequence[SkippedRow]:
        """Return the malformed rows that `samples` has met so far."""
        return self._skips.listed()

    def request(self, sample: Sample) -> Request:
        """Ask for a caption; pixels are normalized with CLIP's figures, unlike other tasks'."""
        return Request(
            prompt=FORMATS[self._format],
            images=sample.images,
            max_new_tokens=self.options.max_new_tokens,
            image_normalization="clip",
        )

    def training_settings(self) -> Mapping[str, Json]:
        """Return the prompt format and how often it is put (Q10)."""
        return {"prompt_format": self._format, "training_prompt": self.options.training_prompt}

    def training_pairs(self) -> Iterator[TrainingPair]:
        """Yield one pair a caption, in the annotation file's order.

        Raises:
            DataError: the file is missing or malformed.
        """
        prompt = FORMATS[self._format]
        is_single = self.options.training_prompt == "single"
        for row in self._skips.keep(self._files.captions()):
            caption = clean_caption(row.text)
            if not caption.strip():
                self._skips.add(SkippedRow(row.id, f"caption {row.text!r} holds no word"))
                continue
            pair = (prompt, f" {caption}") if is_single else (f"{prompt} ", f"{prompt} {caption}")
            yield TrainingPair(row.id, *pair, (row.image,), "clip")

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the caption; it has no score of its own."""
        found = PUBLISHED_RULE.search(response.text)
        if found and self.options.caption_rule == "published":
            return Prediction(found.group(1), None)
        return Prediction(response.text, None)

    def aggregate(self, records: Sequence[Record]) -> Result:
        """Return the caption metrics."""
        captions, references = _texts(records)
        metrics = caption_scores(captions, references, CaptionParts(captions, references))
        expected = self.num_expected
        warnings = [CIDER_NOTE] if len(captions) != expected else []
        tokenizers = {metric.note for metric in metrics if metric.value is not None and metric.note}
        warnings += sorted(tokenizers)
        return build_result(self.card, records, len(captions), expected, metrics, warnings)

    @staticmethod
    def statistics(records: Sequence[Record]) -> Statistics:
        """Return what the scores rest on, by image."""
        captions, references = _texts(records)
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
        samples = {row.id: row for row in map(_sample, self._skips.keep(self._files.rows()))}
        unknown = [image for image in captions if image not in samples]
        if unknown:
            raise PredictionsError(
                f"{path}: {len(unknown)} of {len(captions)} images are not in split "
                f"{self.card.split}, the first is {unknown[0]}; --split names another split"
            )
        return [
            Record(image, "", captions[image], captions[image], sample.reference, None)
            for image, sample in samples.items()
            if image in captions
        ]

    def fingerprint(self) -> str:
        """Return a digest of the annotation files and the image listing."""
        if not self._fingerprint:
            self._fingerprint = self._files.digest()
        return self._fingerprint


def _texts(records: Sequence[Record]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return captions and references of the images that can be scored."""
    scored = [
        record
        for record in scored_records(records)
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


def _sample(row: CaptionedImage) -> Sample:
    return Sample(id=str(row.id), fields={}, reference=list(row.captions), images=(row.image,))


def _result(path: Path, number: int, row: Any) -> tuple[str, str]:
    if isinstance(row, dict):
        image, caption = row.get("image_id"), row.get("caption")
        if type(image) is int and isinstance(caption, str):
            return str(image), caption
    raise PredictionsError(f"{path}, row {number}: expected {PREDICTIONS_HOLD}")
