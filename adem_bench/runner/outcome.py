"""What evaluations return: a finished run, and several in a list that is handled like one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.records import Metric, Record, Result
from adem_bench.results.dataframe import records_frame
from adem_bench.results.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run."""

    folder: Path
    result: Result
    resumed: int
    """Records that were there before."""
    reused: int = 0
    """Answers to the same questions that other runs had been given."""

    @property
    def records(self) -> list[Record]:
        """Its records, in the samples' order; read from the folder."""
        return list(RunFolder(self.folder).records().values())

    def metric(self, name: str) -> Metric:
        """Return a figure by its name.

        Raises:
            UnknownNameError: the result has none of the name; the nearest are named. It is a
                KeyError too.
        """
        return self.result.metric(name)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each record, in the samples' order; the columns are `RECORD_COLUMNS`."""
        return records_frame([self])

    def __repr__(self) -> str:
        return f"Outcome({self.result.summary()})"


class Outcomes(list[Outcome]):
    """The outcome of each task, in order; of a single task it has what the outcome has."""

    @property
    def folder(self) -> Path:
        """The folder of the only run."""
        return self._only("folder").folder

    @property
    def result(self) -> Result:
        """The result of the only run."""
        return self._only("result").result

    @property
    def records(self) -> list[Record]:
        """The records of all tasks."""
        return [record for outcome in self for record in outcome.records]

    def metric(self, name: str) -> Metric:
        """Return a figure of the only task, by its name.

        Raises:
            UnknownNameError: the result has none of the name; the nearest are named.
            ValueError: there are several tasks, or none.
        """
        return self._only(f"metric({name!r})").metric(name)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each record of all tasks; the columns are `RECORD_COLUMNS`."""
        return records_frame(self)

    def _only(self, what: str) -> Outcome:
        if len(self) == 1:
            return self[0]
        if not self:
            raise ValueError("there is no outcome: of several processes, the first one has it")
        names = ", ".join(outcome.result.task for outcome in self)
        raise ValueError(f"these are outcomes of {names}; choose one, as in outcomes[0].{what}")

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self))}]"
