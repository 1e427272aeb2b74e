"""Folders that the user names (`--include`, `$ADEM_BENCH_INCLUDE`): their cards and their code.

A folder's `*.py` files and packages are run when a kind is looked up, and only because the user
named the folder. Cards lie in its `models/`, `tasks/` and `trainers/`, or directly in it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from adem_bench.errors import CardError

VARIABLE = "ADEM_BENCH_INCLUDE"
PREFIX = "_adem_bench_included_"
_loaded: dict[Path, ModuleType] = {}
"""Files of included folders that have been run in this process, each once."""


def included_folders() -> list[Path]:
    """Return the folders, each once, in the order in which they are named.

    Raises:
        CardError: one of them does not exist.
    """
    named = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    folders = list(dict.fromkeys(Path(part).expanduser().resolve() for part in named))
    for folder in folders:
        if not folder.is_dir():
            raise CardError(
                f"included folder {folder} does not exist; --include and ${VARIABLE} name folders "
                "with cards or Python modules"
            )
    return folders


def run_included() -> None:
    """Run the modules of all included folders that have not been run yet.

    Raises:
        CardError: a module cannot be run.
    """
    for folder in included_folders():
        for file in _modules(folder):
            if file not in _loaded:
                _loaded[file] = _run(file)


def is_active(module: str, file: str) -> bool:
    """Return whether a module counts: all do but those of folders that are included no longer."""
    if not module.startswith(PREFIX):
        return True
    return any(Path(file).is_relative_to(folder) for folder in included_folders())


def _modules(folder: Path) -> list[Path]:
    packages = [path for path in sorted(folder.glob("*/__init__.py")) if path.is_file()]
    return [*sorted(folder.glob("*.py")), *packages]


def _run(file: Path) -> ModuleType:
    is_package = file.name == "__init__.py"
    # A name of its own: neither an installed package nor another folder's file can be meant.
    digest = hashlib.sha256(str(file).encode(errors="surrogateescape")).hexdigest()[:8]
    name = f"{PREFIX}{digest}_{file.parent.name if is_package else file.stem}"
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
        if not isinstance(error, Exception):
            raise
        raise CardError(
            f"{file}, of an included folder, cannot be run ({type(error).__name__}: {error}); "
            "repair it, or leave the folder out of --include"
        ) from error
    return module
