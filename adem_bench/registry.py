"""Names to classes, as text, so that a name costs no import until it is used.

Third parties add entries through the entry-point groups `adem_bench.tasks` and
`adem_bench.models`; a clash with a name that is already taken is an error naming both origins.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from adem_bench.errors import CardError, nearest_hint


class Registry:
    """A table of kinds: each name stands for `package.module:Class`."""

    def __init__(self, what: str, group: str, table: Mapping[str, str]) -> None:
        self.what = what
        self.group = group
        self._builtin = dict(table)

    def table(self) -> dict[str, str]:
        """Return every known name with its `module:Class`, plug-ins included.

        Raises:
            CardError: a plug-in claims a name that is taken.
        """
        known = dict(self._builtin)
        for entry in entry_points(group=self.group):
            if entry.name in known and known[entry.name] != entry.value:
                raise CardError(
                    f"{self.what} {entry.name!r} is claimed by both {known[entry.name]} "
                    f"and {entry.value}; uninstall one of them or rename its entry point"
                )
            known[entry.name] = entry.value
        return known

    def load(self, name: str) -> Any:
        """Import and return the class that `name` stands for.

        Raises:
            CardError: no such name (the message proposes the nearest ones), or a plug-in whose
                class cannot be imported.
        """
        table = self.table()
        if name not in table:
            raise CardError(f"unknown {self.what} {name!r}{nearest_hint(name, table)}")
        module, _, attribute = table[name].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            if name in self._builtin:
                raise
            raise CardError(
                f"{self.what} {name!r} is the plug-in {table[name]}, which cannot be imported "
                f"({error}); repair or uninstall it"
            ) from error


TASK_KINDS = Registry(
    "task kind",
    "adem_bench.tasks",
    {
        "scienceqa": "adem_bench.tasks.scienceqa:ScienceQA",
        "coco_caption": "adem_bench.tasks.coco_caption:CocoCaption",
        "mme": "adem_bench.tasks.mme:Mme",
        "instruction": "adem_bench.tasks.instruction:Instruction",
    },
)

MODEL_KINDS = Registry(
    "model kind",
    "adem_bench.models",
    {
        "adem": "adem_bench.models.adem.model:AdemModel",
    },
)
