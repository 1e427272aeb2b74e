"""Run a script of VLMEvalKit with our models among its own; also under torchrun.

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
from adem_bench.integrations.vlmevalkit import TESTED_COMMIT, register_when_imported

TOOL = "vlmutil"


def main(arguments: Sequence[str]) -> None:
    """Run `arguments[0]`, a script's path or `vlmutil`, with the rest as its own arguments.

    Raises:
        AdemBenchError: no such script, or no VLMEvalKit.
    """
    if not arguments:
        raise AdemBenchError(
            "name a script of VLMEvalKit, for example "
            "`python -m adem_bench.integrations.vlmevalkit run.py --data MME --model adem-7b`"
        )
    script = arguments[0]
    if script != TOOL:
        if not Path(script).is_file():
            raise AdemBenchError(
                f"there is no script {script} in {os.curdir}; give the path of VLMEvalKit's "
                f"run.py, or `{TOOL}`"
            )
        # Where Python itself looks first when it is given a script.
        sys.path.insert(0, str(Path(script).resolve().parent))
    if importlib.util.find_spec("vlmeval") is None:
        raise AdemBenchError(
            "VLMEvalKit is not installed: clone https://github.com/open-compass/VLMEvalKit "
            f"(tested: {TESTED_COMMIT}), `pip install -e` it, or call this from its folder"
        )
    register_when_imported()
    sys.argv = list(arguments)
    if script == TOOL:
        import vlmeval

        vlmeval.cli()
    else:
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdemBenchError as error:
        sys.exit(f"error: {printable(str(error))}")
