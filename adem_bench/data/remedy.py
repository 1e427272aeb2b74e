"""What to do about data that is not there: the commands that fetch it, or the steps by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adem_bench.cards import list_cards, load_task_card
from adem_bench.data.paths import default_data_root
from adem_bench.errors import CardError, in_shell
from adem_bench.schemas import TaskCard

MINI = "mini"
"""The data source of what the package makes itself."""
MOST_STEPS = 2
"""Files to be got by hand that are named; `adem-bench data status` names all."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """Says it when it is asked, because the files are looked for then."""

    card: TaskCard
    data_root: Path

    def __call__(self) -> str:
        """Return it, for the end of a message."""
        # Fetching needs modules that reading does without.
        from adem_bench.data.inventory import listed_files

        card, root = self.card, self.data_root
        if card.data.source == MINI:
            split = card.split.removeprefix("mini")  # of ScienceQA's, which are parts of others
            return f"; `adem-bench data mini --output {in_shell(root)} --splits {split}` makes it"
        if card.data.source:
            return f"; its source is {card.data.source}"
        try:
            files = listed_files(card, root)
        except CardError:  # which `data status` says
            files = []
        gone = [file for file in files if not file.is_there and not file.file.optional]
        arguments = self._arguments()
        by_hand = [file for file in gone if not file.can_be_fetched]
        parts = [f"by hand, {file.path}: {file.by_hand()}" for file in by_hand[:MOST_STEPS]]
        if len(gone) > len(by_hand):
            what = "what can be fetched" if by_hand else "it"
            parts.insert(0, f"`adem-bench data fetch {arguments}` fetches {what}")
        if not parts and card.data.url:
            parts.append(f"to be had from {card.data.url}")
        if files:
            parts.append(f"`adem-bench data status {arguments}` lists what is needed")
        return "".join(f"; {part}" for part in parts)

    def _arguments(self) -> str:
        """Return how a command names the task, its split and the data root."""
        name, split = self._name()
        arguments = [in_shell(name)]
        if split != self.card.split:
            arguments.append(f"--split {in_shell(self.card.split)}")
        if self.data_root != default_data_root():
            arguments.append(f"--data-root {in_shell(self.data_root)}")
        return " ".join(arguments)

    def _name(self) -> tuple[str, str]:
        """Return the card's name or path, and the split that it has of itself."""
        card = self.card
        try:
            known = list_cards("tasks").get(card.path.stem if card.path else card.name)
            if known and (card.path is None or known.resolve() == card.path):
                return known.stem, load_task_card(str(known)).split
            return str(card.path or card.name), load_task_card(str(card.path)).split
        except CardError:
            return card.name, card.split
