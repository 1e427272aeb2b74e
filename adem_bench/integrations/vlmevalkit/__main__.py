"""Run a script or module of VLMEvalKit with our models among its own; also under torchrun.

python -m adem_bench.integrations.vlmevalkit -m vlmeval --data MME --model adem-7b
python -m adem_bench.integrations.vlmevalkit run.py --data MME --model adem-7b
python -m adem_bench.integrations.vlmevalkit vlmutil mlist all
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from adem_bench.errors import AdemBenchError, printable
from adem_bench.integrations.vlmevalkit import (
    TESTED_COMMIT,
    TESTED_RELEASE,
    register_when_imported,
)

TOOL, MODULE = "vlmutil", "-m"
EXAMPLE = "`python -m adem_bench.integrations.vlmevalkit -m vlmeval --data MME --model adem-7b`"


def main(arguments: Sequence[str]) -> None:
    """Run what `arguments` begin with, and leave it the rest as its own arguments.

    Args:
        arguments: A script's path, `-m` and a module's name, or `vlmutil`; then its arguments.

    Raises:
        AdemBenchError: no such script or module, or no VLMEvalKit.
    """
    if not arguments or list(arguments) == [MODULE]:
        raise AdemBenchError(f"name a script or module of VLMEvalKit, for example {EXAMPLE}")
    is_module = arguments[0] == MODULE
    name, *rest = arguments[1:] if is_module else arguments
    if name != TOOL and not is_module:
        if not Path(name).is_file():
            raise AdemBenchError(
                f"there is no script {name} in {os.curdir}; give the path of VLMEvalKit's "
                f"run.py, `{MODULE} vlmeval` for that of its package, or `{TOOL}`"
            )
        folder = Path(name).resolve().parent
        if not (folder / "__init__.py").exists():
            # Where Python itself looks first when it is given a script. In a package that would
            # put its modules, which are called `utils`, `api` or `dataset`, before all others.
            sys.path.insert(0, str(folder))
    if importlib.util.find_spec("vlmeval") is None:
        raise AdemBenchError(
            f"VLMEvalKit is not installed: `pip install 'adem-bench[vlmevalkit]'` (tested: "
            f"ms-vlmeval {TESTED_RELEASE}), or clone https://github.com/open-compass/VLMEvalKit "
            f"(tested: {TESTED_COMMIT}), `pip install -e` it, or call this from its folder"
        )
    register_when_imported()  # before its package is looked into, which imports some of it
    if is_module and not _is_found(name):
        raise AdemBenchError(f"there is no module {name}; {EXAMPLE} runs VLMEvalKit's own")
    sys.argv = [name, *rest]
    if is_module:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif name == TOOL:
        import vlmeval

        vlmeval.cli()
    else:
        runpy.run_path(name, run_name="__main__")


def _is_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdemBenchError as error:
        sys.exit(f"error: {printable(str(error))}")
