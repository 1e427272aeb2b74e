"""The card of a finished run's task, and where its file is: data may lie next to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from adem_bench.cards import expand_tasks, find_card, load_task_card
from adem_bench.errors import AdemBenchError
from adem_bench.schemas import TaskCard

OPTIONS = ("--tasks", "--task")


def recorded_card(manifest: Mapping[str, Any]) -> TaskCard:
    """Return the task's card as a manifest has it, with the path of the file that it was read from.

    The path is not in the manifest. It is looked for under what the command named, from the same
    working directory, and under the card's name; only a card of that name and kind is taken.

    Raises:
        ValidationError: the card is of another version.
    """
    card = TaskCard.model_validate(manifest["task"]["card"])
    for path in _named(manifest.get("command"), card.name):
        try:
            found = load_task_card(str(path))
        except AdemBenchError:
            continue
        if (found.name, found.kind) == (card.name, card.kind):
            return card.model_copy(update={"path": found.path})
    return card


def _named(command: Any, name: str) -> Iterator[Path]:
    """Yield the cards that the command named, and the one of the task's name."""
    words = [str(word) for word in command] if isinstance(command, Sequence) else []
    lists = [after for word, after in pairwise(words) if word in OPTIONS]
    lists += [word.partition("=")[2] for word in words if word.startswith("--tasks=")]
    for names in (*(part.split(",") for part in lists), [name]):
        for one in names:
            try:
                yield from map(Path, (find_card("tasks", member) for member in expand_tasks([one])))
            except AdemBenchError:
                continue
