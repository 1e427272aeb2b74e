"""Where is it: RefCOCO, RefCOCO+, RefCOCOg and OCID-Ref, answered with a box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from adem_bench.metrics.boxes import READERS, overlap
from adem_bench.metrics.grouped import (
    UNREAD,
    Scored,
    grouped_metrics,
    grouped_statistics,
    joined,
    scores_of,
    unread,
)
from adem_bench.metrics.intervals import Statistics
from adem_bench.records import Json, Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import CHAT_TOKENS, TokenCount, scored_records
from adem_bench.tasks.vlm_evaluation.base import (
    IMAGES,
    QuestionOptions,
    QuestionTask,
)
from adem_bench.tasks.vlm_evaluation.files import QuestionFiles
from adem_bench.tasks.vlm_evaluation.referring_files import OcidRefFiles, RefCocoFiles

THRESHOLDS = (0.5, 0.25)
NAMES = {threshold: f"accuracy@{threshold}" for threshold in THRESHOLDS}
EXTENTS = {1: "fractions", 100: "hundredths", 1000: "thousandths"}
Set = Literal["RefCOCO", "RefCOCO+", "RefCOCOg"]


class BoxesOptions(QuestionOptions):
    """Settings of a card of boxes."""

    layout: Literal["refcoco", "ocid_ref"]
    """Whose files they are."""
    sets: tuple[Set, ...] = Field(default=("RefCOCO", "RefCOCO+", "RefCOCOg"), min_length=1)
    """Which of RefCOCO's family."""
    iou: float = Field(default=0.5, gt=0, le=1)
    """Intersection over union from which a box is right: in the groups and sample by sample."""
    answer_rule: Literal["official", "first"] = "official"
    """How a box is read: the answer is a list of four numbers, as vlm-evaluation has it; or the
    first box in the form of any model of metrics/boxes.py, whatever stands around."""
    extent: Literal[1, 100, 1000] = 1
    """What stands for the whole width or height in answers."""
    max_new_tokens: TokenCount = 48


class Boxes(QuestionTask):
    """Expressions, each of which refers to one thing in the image."""

    options_schema = BoxesOptions
    options: BoxesOptions
    chat_options: ClassVar = {"answer_rule": "first", "max_new_tokens": CHAT_TOKENS}

    def open_files(self) -> QuestionFiles:
        """Return the layout's reader."""
        where = (self.data_root, self.card.split, self.card.data, self.options.index)
        if self.options.layout == "refcoco":
            return RefCocoFiles(*where, sets=self.options.sets)
        return OcidRefFiles(*where)

    def metric_names(self) -> Sequence[str]:
        """Return both accuracies, that of each group, and the answers without a box."""
        return (*NAMES.values(), *self.files.groups, UNREAD)

    def hint(self) -> str:
        """Ask for a list."""
        whole = EXTENTS[self.options.extent]
        return f"Answer with its box, [left, top, right, bottom], in {whole} of the picture."

    def asked(self, sample: Sample) -> str:
        """Return the expression in a question."""
        return f"Where is this: {super().asked(sample)}?"

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read the box; an empty list if there is none."""
        box = READERS[self.options.answer_rule](response.text, self.options.extent)
        return self._prediction(sample, box)

    def parse_official(self, sample: Sample, response: Response) -> Prediction:
        """Read a box in fractions, as `export` writes it."""
        return self._prediction(sample, READERS["official"](response.text, 1))

    def _prediction(self, sample: Sample, box: list[float]) -> Prediction:
        found = cast(Json, box)
        return Prediction(found, float(_overlap(found, sample.reference) >= self.options.iou))

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return both accuracies, that of each group, and the answers without a box."""
        note = f"IoU at least {self.options.iou}"
        _, *groups = grouped_metrics(scores_of(records), "", IMAGES, self.files.groups, note)
        accuracies = [
            grouped_metrics(_at(records, threshold), name, IMAGES, ())[0]
            for threshold, name in NAMES.items()
        ]
        missing = sum(not record.prediction for record in records)
        return (*accuracies, *groups, unread(missing, len(records), "box"))

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the figures rest on, by image."""
        found = scored_records(records)
        first, second = (
            grouped_statistics(_at(found, threshold), name, IMAGES, ())
            for threshold, name in NAMES.items()
        )
        groups = grouped_statistics(scores_of(found), "", IMAGES)
        named = {name: formula for name, formula in groups.formulas.items() if name}
        return joined(joined(first, second), groups, named)

    def answer_text(self, record: Record) -> str:
        """Return the box as a list in text."""
        return json.dumps(record.prediction)

    def suite_text(self, row: Mapping[str, Any]) -> str | None:
        """Return the response."""
        return row.get("model_output")


def _overlap(box: Json, reference: Json) -> float:
    if not isinstance(box, list) or not isinstance(reference, list) or not box:
        return 0.0
    return overlap(cast(list[float], box), cast(list[float], reference))


def _at(records: Sequence[Record], threshold: float) -> list[Scored]:
    return [
        Scored(
            record.cluster or "", float(_overlap(record.prediction, record.reference) >= threshold)
        )
        for record in records
    ]
