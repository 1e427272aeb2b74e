"""LaVIN's instructions: data for training only, which the MME figures rest on.

Their texts are in docs/method.md, section 10.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from adem_bench.prompts import FORMATS, INSTRUCTION
from adem_bench.records import TrainingPair
from adem_bench.schemas import Strict, TaskCard
from adem_bench.tasks.benchmark import CardData, check_choice
from adem_bench.tasks.lavin.files import SPLIT, LavinFiles


class InstructionOptions(Strict):
    """Settings of an instruction card: there are none."""


class Instruction(CardData):
    """Instructions in the layout of LaVIN's `all_data.json`."""

    options_schema = InstructionOptions
    prompt_formats: ClassVar = {INSTRUCTION: FORMATS[INSTRUCTION]}

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        super().__init__(card, data_root)
        check_choice(card, "split", card.split, [SPLIT])
        self._files = LavinFiles(data_root, self.card.data)

    def training_pairs(self) -> Iterator[TrainingPair]:
        """Yield instructions with their answers, joined without a blank as published.

        Raises:
            DataError: the file is missing or malformed.
        """
        for row in self.usable(self._files.rows()):
            images = (row.image,) if row.image else ()
            yield TrainingPair(row.id, row.instruction, row.answer, images)

    def digest(self) -> str:
        """Return a digest of the file."""
        return self._files.digest()
