"""Benchmarks of which a judge reads the answers one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from adem_bench.errors import DataError
from adem_bench.records import Prediction, Record, Request, Sample
from adem_bench.tasks.base import Judge, Judging, Question
from adem_bench.tasks.benchmark import Benchmark


class JudgedBenchmark(Benchmark):
    """A benchmark that says what a judge is asked of an answer, and what its words mean."""

    judging: ClassVar[Judging] = "optional"

    @property
    def unjudged(self) -> Sequence[str]:
        """The warnings of results that are not so where a judge has read the answers."""
        return ()

    @abstractmethod
    def judge_request(self, sample: Sample, text: str) -> Request | None:
        """Return what a judge is asked of an answer; None where it is plain without one.

        Args:
            sample: What was asked.
            text: What was answered.
        """

    @abstractmethod
    def judgement(self, sample: Sample, text: str, said: str | None) -> Prediction:
        """Read an answer by what a judge said of it.

        Args:
            sample: What was asked.
            text: What was answered.
            said: By the judge, who may say anything; None where it was not asked.
        """

    def judged(self, records: Sequence[Record], judge: Judge) -> list[Record]:
        """Return records as the judge reads their answers; one that it fails on has its error.

        Args:
            records: With answers; those with an error stay.
            judge: Whom to ask.

        Raises:
            DataError: a sample is not in the data here.
            AdemBenchError: the judge does not answer at all, or data is missing.
        """
        samples = {sample.id: sample for sample in self.samples()}
        asked: dict[int, Question] = {}
        to_read = [place for place, record in enumerate(records) if record.error is None]
        for place in to_read:
            record = records[place]
            if record.sample_id not in samples:
                raise DataError(
                    f"task {self.card.name}: sample {record.sample_id!r:.80} is not in the data "
                    "here, and a judge is asked with its question"
                )
            request = self.judge_request(samples[record.sample_id], record.answer_text)
            if request is not None:
                asked[place] = Question(record.sample_id, replace(request, repeat=record.repeat))
        said = dict(zip(asked, judge.ask(list(asked.values())), strict=True))
        found = list(records)
        for place in to_read:
            record, response = records[place], said.get(place)
            if response is not None and response.error is not None:
                found[place] = record.unjudged(response.error)
                continue
            text = None if response is None else response.answer_text
            read = self.judgement(samples[record.sample_id], record.answer_text, text)
            found[place] = replace(record, prediction=read.value, score=read.score)
        return found
