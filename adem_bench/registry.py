"""Names to classes and functions; a packaged one is text, so that a name costs no import.

Third parties add entries through entry points (each registry names its group), or by `register` in
a module of a folder that the user includes (`--include`, `$ADEM_BENCH_INCLUDE`). Such a folder's
`*.py` files and packages are run when a name is looked up, and only because the user named the
folder; its cards are for `cards.py`. A name that is already taken is an error that names both
origins.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from adem_bench.entry_points import entry_points
from adem_bench.errors import CardError, lacks_memory, nearest_hint
from adem_bench.files import expand_home
from adem_bench.listing import forget_listings, listing

T = TypeVar("T")
INCLUDE_VARIABLE = "ADEM_BENCH_INCLUDE"
MODULE_PREFIX = "_adem_bench_included_"
_loaded: dict[Path, ModuleType] = {}
"""Files of included folders that have been run in this process, each once."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A class or function that code has registered itself."""

    value: Any
    module: str
    file: str

    def __str__(self) -> str:
        """Return where it stands: file and name."""
        return f"{self.file or self.module}:{self.value.__qualname__}"


class Registry:
    """A table of kinds: each name stands for `package.module:Class`."""

    def __init__(self, what: str, group: str, table: Mapping[str, str], listing: str = "") -> None:
        """Make a table.

        Args:
            what: What the names are of, for messages.
            group: Group of entry points by which other packages add names.
            table: The package's own names, each with its `module:Class`.
            listing: A command that lists them.
        """
        self._listing = listing
        self.what = what
        self.group = group
        self._builtin = dict(table)
        self._registered: dict[str, list[Registered]] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds a class or function under a name.

        It is for modules of included folders, and for programs that use the package.
        """

        def keep(value: Any) -> Any:
            module = value.__module__
            file = getattr(sys.modules.get(module), "__file__", None) or ""
            self._registered.setdefault(name, []).append(Registered(value, module, file))
            return value

        return keep

    def table(self) -> dict[str, str]:
        """Return every known name and where it stands, plug-ins included.

        Raises:
            CardError: a plug-in claims a name that is taken, or an included module cannot be run.
        """
        return {name: str(place) for name, place in self._known().items()}

    def foreign(self) -> set[str]:
        """Return the modules and files of all plug-ins, also of folders no longer included."""
        named = {entry.value.partition(":")[0] for entry in entry_points(self.group)}
        known = (one for several in self._registered.values() for one in several)
        return named | {one.file or one.module for one in known}

    def load(self, name: str) -> Any:
        """Import and return what `name` stands for.

        Raises:
            CardError: no such name (the message proposes the nearest ones), or a plug-in that
                cannot be imported.
        """
        known = self._known()
        if name not in known:
            forget_listings()
            known = self._known()
        if name not in known:
            hint = nearest_hint(name, known, self._listing)
            more = "" if "did you mean" in hint else "; --include DIR and plug-ins add others"
            raise CardError(f"unknown {self.what} {name!r}{hint}{more}")
        place = known[name]
        if isinstance(place, Registered):
            return place.value
        module, _, attribute = place.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            if name in self._builtin or lacks_memory(error):
                raise
            raise CardError(
                f"{self.what} {name!r} is the plug-in {place}, which cannot be imported "
                f"({error}); repair or uninstall it"
            ) from error

    def is_builtin(self, name: str) -> bool:
        """Return whether a name is the package's own."""
        return name in self._builtin

    def _known(self) -> dict[str, str | Registered]:
        known: dict[str, str | Registered] = dict(self._builtin)
        for entry in entry_points(self.group):
            self._add(known, entry.name, entry.value)
        run_included()
        for name, found in self._registered.items():
            for registered in found:
                if is_active(registered.module, registered.file):
                    self._add(known, name, registered)
        return known

    def _add(self, known: dict[str, str | Registered], name: str, place: str | Registered) -> None:
        if name in known and str(known[name]) != str(place):
            raise CardError(
                f"{self.what} {name!r} is claimed by both {known[name]} and {place}; "
                "uninstall one of them or rename it"
            )
        known[name] = place


def included_folders() -> list[Path]:
    """Return the folders, each once, in the order in which they are named.

    Raises:
        CardError: one of them does not exist.
    """
    named = [part for part in os.environ.get(INCLUDE_VARIABLE, "").split(os.pathsep) if part]
    folders = list(dict.fromkeys(expand_home(part).resolve() for part in named))
    for folder in folders:
        if not folder.is_dir():
            raise CardError(
                f"included folder {folder} does not exist; --include and ${INCLUDE_VARIABLE} name "
                "folders with cards or Python modules"
            )
    return folders


def run_included() -> None:
    """Run the modules of all included folders that have not been run yet.

    Raises:
        CardError: a module cannot be run.
    """
    for folder in included_folders():
        for file in _module_files(folder):
            if file not in _loaded:
                _loaded[file] = _run_module(file)


def is_active(module: str, file: str) -> bool:
    """Return whether a module counts: all do but those of folders that are included no longer."""
    if not module.startswith(MODULE_PREFIX):
        return True
    return any(Path(file).is_relative_to(folder) for folder in included_folders())


def _module_files(folder: Path) -> list[Path]:
    found = listing(folder)
    packages = [folder / name / "__init__.py" for name in found.packages]
    return [*(folder / name for name in found.modules), *packages]


def _run_module(file: Path) -> ModuleType:
    is_package = file.name == "__init__.py"
    # A name of its own: neither an installed package nor another folder's file can be meant.
    digest = hashlib.sha256(str(file).encode(errors="surrogateescape")).hexdigest()[:8]
    name = f"{MODULE_PREFIX}{digest}_{file.parent.name if is_package else file.stem}"
    places = [str(file.parent)] if is_package else None
    spec = spec_from_file_location(name, file, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise CardError(f"{file}, of an included folder, is not a Python module")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if not isinstance(error, Exception) or lacks_memory(error):
            raise
        raise CardError(
            f"{file}, of an included folder, cannot be run ({type(error).__name__}: {error}); "
            "repair it, or leave the folder out of --include"
        ) from error
    return module


TASK_KINDS = Registry(
    "task kind",
    "adem_bench.tasks",
    {
        "scienceqa": "adem_bench.tasks.scienceqa.task:ScienceQA",
        "coco_caption": "adem_bench.tasks.coco_caption.task:CocoCaption",
        "mme": "adem_bench.tasks.mme.task:Mme",
        "instruction": "adem_bench.tasks.lavin.task:Instruction",
        "jsonl": "adem_bench.tasks.jsonl.task:Jsonl",
        "vqa": "adem_bench.tasks.vlm_evaluation.short_answers:Vqa",
        "boxes": "adem_bench.tasks.vlm_evaluation.referring:Boxes",
        "counting": "adem_bench.tasks.vlm_evaluation.tallyqa:Counting",
        "yes_no": "adem_bench.tasks.vlm_evaluation.pope_vsr:PopeVsr",
        "multiple_choice": "adem_bench.tasks.vlm_evaluation.ai2d:Ai2d",
        "tsv_multiple_choice": "adem_bench.tasks.tsv.choice:TsvMultipleChoice",
        "tsv_yes_no": "adem_bench.tasks.tsv.binary:TsvYesNo",
        "tsv_mme": "adem_bench.tasks.tsv.binary:TsvMme",
        "tsv_pope": "adem_bench.tasks.tsv.binary:TsvPope",
        "tsv_hallusionbench": "adem_bench.tasks.tsv.binary:TsvHallusionBench",
        "tsv_short_answer": "adem_bench.tasks.tsv.short_answer:TsvShortAnswer",
        "tsv_ocrbench": "adem_bench.tasks.tsv.short_answer:TsvOcrBench",
        "tsv_mathvista": "adem_bench.tasks.tsv.mathvista:TsvMathVista",
        "tsv_caption": "adem_bench.tasks.tsv.caption:TsvCaption",
        "vlmevalkit": "adem_bench.tasks.harnesses.task:VlmEvalKitTask",
        "lmms_eval": "adem_bench.tasks.harnesses.task:LmmsEvalTask",
    },
    "adem-bench tasks",
)

JUDGED = {"tsv_mathvista": "optional", "vlmevalkit": "?", "lmms_eval": "?"}
"""What `judging` is of the packaged kinds where it is not `no`, so that a list imports none; of a
harness's benchmarks its catalogue knows."""

MODEL_KINDS = Registry(
    "model kind",
    "adem_bench.models",
    {
        "fused": "adem_bench.models.fused.model:FusedModel",
        "echo": "adem_bench.models.baselines:Echo",
        "constant": "adem_bench.models.baselines:Constant",
        "majority": "adem_bench.models.baselines:Majority",
        "hf": "adem_bench.models.hf.model:HfModel",
        "openai": "adem_bench.models.openai_api.model:ServedModel",
        "vlmevalkit": "adem_bench.models.vlmevalkit:VlmEvalKitModel",
    },
)

MODEL_CARDS = Registry(
    "model card",
    "adem_bench.model_cards",
    {
        "fused": "adem_bench.models.fused.card:FusedCard",
        "adem": "adem_bench.models.fused.card:FusedCard",
        "hf": "adem_bench.models.hf.settings:HfCard",
    },
)
"""Model kinds whose cards have fields of their own, with the schema; none of them imports torch.
`adem` is the first name of `fused`, and still read."""

METHODS = Registry(
    "method",
    "adem_bench.methods",
    {
        "adem": "adem_bench.models.fused.methods.adem:AdemVl",
        "memvp": "adem_bench.models.fused.methods.memvp:MemVp",
        "lavin": "adem_bench.models.fused.methods.lavin:Lavin",
        "llava": "adem_bench.models.fused.methods.llava:Llava",
    },
)
"""Ways of joining a frozen language model and a frozen vision tower: a card's `fusion.kind`, a
recipe's `method.kind`."""

METRICS = Registry("metric", "adem_bench.metrics", {})
"""Functions of records that return one `Metric`; a task's card names those that it reports besides
the kind's own."""

DATA_SOURCES = Registry(
    "data source",
    "adem_bench.data",
    {
        "mini": "adem_bench.mini.source:mini_root",
        "hub": "adem_bench.data.hub:hub_root",
    },
)
"""Functions of a task's card and the user's data root (or None) that return the folder to read,
in the official layout of the card's kind."""
