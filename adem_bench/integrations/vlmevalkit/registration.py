"""Our models among VLMEvalKit's: entries of its table of models, put there as it is imported."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from adem_bench.cards import list_cards, load_model_card
from adem_bench.errors import CardError
from adem_bench.models.fused.card import FusedCard

TABLE = "vlmeval.config"
"""The module whose `supported_VLM` is the table."""


def register() -> list[str]:
    """Put every card of a fused model into VLMEvalKit's table, and `AdemVL` among its classes.

    Returns:
        The names, which `--model` of its scripts takes.

    Raises:
        CardError: a card cannot be read, or VLMEvalKit has a model of that name.
    """
    import vlmeval.vlm
    from vlmeval.config import supported_VLM

    from adem_bench.integrations.vlmevalkit.model import AdemVL

    # Where its `run.py --config FILE.json` looks for classes.
    vlmeval.vlm.AdemVL = AdemVL
    names = [name for name in list_cards("models") if isinstance(load_model_card(name), FusedCard)]
    for name in names:
        there: Any = supported_VLM.get(name)
        if there is not None and getattr(there, "func", None) is not AdemVL:
            raise CardError(
                f"VLMEvalKit has a model {name!r} of its own ({there}); rename the card {name}.yaml"
            )
        supported_VLM[name] = partial(AdemVL, model=name)
    return names


def register_when_imported() -> None:
    """Register as soon as VLMEvalKit's table is imported, and import nothing before.

    Its `run.py` chooses the GPU of each process before it imports torch; importing VLMEvalKit
    here, ahead of the script, would come too early for that.
    """
    sys.meta_path.insert(0, _Watch())


class _Watch(MetaPathFinder):
    """Finds one module as everybody else would, once, and registers after it was executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the table's spec with a loader that registers; None for other modules."""
        if fullname != TABLE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


class _Registering(Loader):
    """A module's own loader, and `register` behind it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return what the module's own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then register."""
        self._loader.exec_module(module)
        register()
