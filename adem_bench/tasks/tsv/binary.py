"""Yes-or-no questions in a TSV: MME, POPE, HallusionBench and their like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from adem_bench.data.reading import RowError
from adem_bench.errors import CardError
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.yes_no import (
    CATEGORY,
    CHAT,
    CHAT_OPTIONS,
    CHAT_SCORING,
    HALLUSION_DETAILS,
    POPE_DETAILS,
    READERS,
    YesNo,
    YesNoAnswer,
    hallusion_metrics,
    hallusion_statistics,
    pope_metrics,
    pope_statistics,
    unread_warning,
)
from adem_bench.records import Metric, Prediction, Record, Response, Sample
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import scored_records
from adem_bench.tasks.mme.scores import (
    HALVES,
    SUBTASKS,
    MmeAnswer,
    metric_names,
    mme_scores,
    mme_statistics,
    with_mme_intervals,
)
from adem_bench.tasks.tsv.base import (
    VLMEVALKIT_SCORING,
    TsvOptions,
    TsvTask,
    groups_of,
    image_cluster,
)
from adem_bench.tasks.tsv.files import TsvRow


class TsvYesNoOptions(TsvOptions):
    """Settings of a yes-or-no card."""

    answer_rule: Literal["vlmevalkit", "official", "lmms_eval", "chat"] = "vlmevalkit"
    """Whose way of reading yes or no; `official` is that of MME's eval_tool, or of POPE's
    evaluate.py; `chat` is the default for models that chat."""


class TsvYesNo(TsvTask):
    """Questions to be answered by yes or no; the figure is the share of right answers."""

    options_schema = TsvYesNoOptions
    options: TsvYesNoOptions
    chat_options = CHAT_OPTIONS
    wrong_prediction = "other"
    official: tuple[str, str] | None = None
    """The benchmark's own rule, and what it does in words; None if it asks a judge model."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        """Check a card; no file is read.

        Raises:
            CardError: an option is wrong, or the benchmark has no official rule.
        """
        super().__init__(card, data_root)
        self._rule: str = self.options.answer_rule
        if self._rule == "official":
            if self.official is None:
                raise CardError(
                    f"task {card.name}: kind {card.kind} has no official answer_rule; "
                    "name vlmevalkit or lmms_eval"
                )
            self._rule = self.official[0]

    @property
    def is_vlmevalkit(self) -> bool:
        """Whether answers are read as VLMEvalKit reads them."""
        return self._rule == "vlmevalkit"

    def scoring(self) -> str:
        """Return by whose rule answers are read."""
        if self.is_vlmevalkit:
            return VLMEVALKIT_SCORING
        if self._rule == CHAT:
            return f"{CHAT_SCORING}; options.answer_rule=vlmevalkit reads them as VLMEvalKit does"
        rule = "lmms-eval's rule"
        if self.official and self._rule == self.official[0]:
            rule = f"the official rule ({self.official[1]})"
        return f"answers are read by {rule}; options.answer_rule=vlmevalkit is VLMEvalKit's"

    def remarks(self, records: Sequence[Record], metrics: Sequence[Metric]) -> list[str]:
        """Return how many answers say neither yes nor no, by the rule `chat`."""
        answers = (record.prediction for record in scored_records(records))
        return unread_warning(answers) if self._rule == CHAT else []

    def read_row(self, row: TsvRow) -> Sample:
        """Return a question."""
        return Sample(
            id=row.index,
            fields={"question": row.cells.get("question", "")},
            reference=row.text("answer") or None,
            images=row.images,
            groups=self.groups(row),
            cluster=self.cluster(row),
        )

    def groups(self, row: TsvRow) -> tuple[str, ...]:
        """Return a row's report groups."""
        return groups_of(row)

    def cluster(self, row: TsvRow) -> str | None:
        """Return what related questions share."""
        return image_cluster(row)

    def check_answer(self, row: TsvRow, sample: Sample) -> None:
        """Refuse an answer that is neither yes nor no.

        Raises:
            RowError: it is.
        """
        if sample.reference is not None and str(sample.reference).lower() not in ("yes", "no"):
            raise RowError(f"its answer {str(sample.reference)[:40]!r} is neither Yes nor No")

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Read `yes`, `no` or `other`."""
        answer = READERS[self._rule](response.text)
        if sample.reference is None:
            return Prediction(answer, None)
        return Prediction(answer, float(answer == str(sample.reference).lower()))


class TsvMme(TsvYesNo):
    """MME: a sum of subtasks' scores for perception and one for cognition."""

    official = ("mme", "yes or no in the first four characters")
    needs = ("index", "image|image_path", "question", "category", "image_path")
    sum_metrics = tuple(HALVES)

    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name."""
        return metric_names()

    def cluster(self, row: TsvRow) -> str | None:
        """Return subtask and image: the two questions of a pair."""
        return f"{row.text('category')}/{row.text('image_path')}"

    def check_answer(self, row: TsvRow, sample: Sample) -> None:
        """Refuse also a category that MME does not have.

        Raises:
            RowError: it has one, or an answer that is neither yes nor no.
        """
        super().check_answer(row, sample)
        if row.text("category") not in SUBTASKS:
            raise RowError(f"its category {row.text('category')[:40]!r} is none of MME's")

    def scores(self, records: Sequence[Record]) -> tuple[Metric, ...]:
        """Return MME's scores."""
        answers = _mme(records)
        return with_mme_intervals(mme_scores(answers), answers)

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what MME's scores rest on, by image."""
        return mme_statistics(_mme(scored_records(records)))


class TsvPope(TsvYesNo):
    """POPE: precision, recall and F1 of yes, overall and by how objects were chosen."""

    official = ("pope", "no if the first sentence has the word no or not, else yes")

    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name."""
        return POPE_DETAILS

    def groups(self, row: TsvRow) -> tuple[str, ...]:
        """Return a row's groups: it may stand in several categories, comma-separated."""
        others = [group for group in groups_of(row) if not group.startswith(CATEGORY)]
        categories = row.text("category").split(",")
        return (*others, *(f"{CATEGORY}{name}" for name in categories if name))

    def scores(self, records: Sequence[Record]) -> tuple[Metric, ...]:
        """Return POPE's figures."""
        return pope_metrics(_answers(records))

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what POPE's figures rest on, by image."""
        return pope_statistics(_answers(scored_records(records)))


class TsvHallusionBench(TsvYesNo):
    """HallusionBench: accuracies of answers, figures and questions."""

    def metric_names(self) -> Sequence[str]:
        """Return the metrics that a card may name."""
        return HALLUSION_DETAILS

    def cluster(self, row: TsvRow) -> str | None:
        """Return subcategory and set of an index such as `VD_figure_0_1_2_3`.

        Raises:
            RowError: the index is not such a one.
        """
        parts = row.index.split("_")
        if len(parts) < 6:
            raise RowError("its index does not end in set, figure and question: …_1_0_2")
        return f"{row.text('l2-category')}/{parts[3]}"

    def scores(self, records: Sequence[Record]) -> tuple[Metric, ...]:
        """Return the three accuracies, overall and by group."""
        return hallusion_metrics(_answers(records))

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the accuracies rest on, by set of figures."""
        return hallusion_statistics(_answers(scored_records(records)))


def _gold(record: Record) -> Literal["yes", "no"]:
    return "yes" if str(record.reference).lower() == "yes" else "no"


def _answers(records: Sequence[Record]) -> list[YesNoAnswer]:
    return [
        YesNoAnswer(
            r.sample_id, r.cluster or r.sample_id, cast(YesNo, r.prediction), _gold(r), r.groups
        )
        for r in records
    ]


def _mme(records: Sequence[Record]) -> list[MmeAnswer]:
    return [
        MmeAnswer(
            str(r.cluster).partition("/")[0], str(r.cluster), cast(YesNo, r.prediction), _gold(r)
        )
        for r in records
    ]
