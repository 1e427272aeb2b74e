"""LaVIN's instructions: data for training only, which the MME figures rest on.

Their texts are in docs/method.md, section 10.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from adem_bench.data.reading import SkippedRow
from adem_bench.prompts import INSTRUCTION
from adem_bench.records import Json, TrainingPair
from adem_bench.schemas import Strict, TaskCard
from adem_bench.tasks.lavin.files import SPLIT, LavinFiles
from adem_bench.tasks.shared import Skips, check_choice, read_options


class InstructionOptions(Strict):
    """Settings of an instruction card: there are none."""


class Instruction:
    """Instructions in the layout of LaVIN's `all_data.json`."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        self.card = card
        read_options(card, InstructionOptions)
        check_choice(card, "split", card.split, [SPLIT])
        chosen = card.prompt_format or INSTRUCTION
        self._format = check_choice(card, "prompt format", chosen, [INSTRUCTION])
        self._files = LavinFiles(data_root, card.data)
        self._skips = Skips()

    @property
    def prompt_format(self) -> str:
        """Name of the format of the prompts."""
        return self._format

    def training_settings(self) -> Mapping[str, Json]:
        """Return the prompt format."""
        return {"prompt_format": self._format}

    def training_pairs(self) -> Iterator[TrainingPair]:
        """Yield instructions with their answers, joined without a blank as published.

        Raises:
            DataError: the file is missing or malformed.
        """
        for row in self._skips.keep(self._files.rows()):
            images = (row.image,) if row.image else ()
            yield TrainingPair(row.id, row.instruction, row.answer, images)

    def skipped_rows(self) -> Sequence[SkippedRow]:
        """Return the malformed rows that `training_pairs` has met so far."""
        return self._skips.listed()

    def fingerprint(self) -> str:
        """Return a digest of the file."""
        return self._files.digest()
