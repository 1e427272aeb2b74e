"""Print the folder of our tasks, for lmms-eval's `--include_path`.

lmms_eval --model adem --tasks adem_mini_mme \
    --include_path "$(python -m adem_bench.integrations.lmms_eval)"
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from adem_bench.errors import AdemBenchError, printable
from adem_bench.integrations.lmms_eval.folder import tasks_folder


def main() -> None:
    """Write the folder where it is not there yet, and print its path."""
    parser = argparse.ArgumentParser("python -m adem_bench.integrations.lmms_eval")
    parser.add_argument("--data-root", type=Path, help="folder that holds the tasks' data")
    sys.stdout.write(f"{tasks_folder(parser.parse_args().data_root)}\n")


if __name__ == "__main__":
    try:
        main()
    except AdemBenchError as error:
        sys.exit(f"error: {printable(str(error))}")
