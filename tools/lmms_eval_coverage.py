"""Run every image task of lmms-eval that is not refused on a miniature, and count.

    python tools/lmms_eval_coverage.py --harness-python ENVIRONMENT/bin/python

Prints a table of the names listed, run, failed, refused and needing a judge, with every reason.
lmms-eval is imported once; each task is built and scored in a fork of that process, by the code
that `adem-bench run` uses, on rows in the columns that the task's code reads
(`tests/bridges/lmms_eval_miniatures.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from harness_coverage import Outcome, print_table

from adem_bench.tasks.harnesses import PYTHON_VARIABLE, task
from adem_bench.tasks.harnesses.catalogue import MESSAGES, Entry, catalogue
from adem_bench.tasks.harnesses.process import LMMS_EVAL, find

SCRIPT = Path(__file__).parents[1] / "tests" / "bridges" / "lmms_eval_miniatures.py"
SERVER = "it writes answers for a server and gives no figure"


def main() -> None:
    """Run the tasks and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--harness-python", help="interpreter of an environment that has it")
    parser.add_argument("--only", default="*", help="names, with * and ?")
    given = parser.parse_args()
    if given.harness_python:
        os.environ[PYTHON_VARIABLE] = f"lmms_eval={given.harness_python}"
    entries = [
        entry
        for name, entry in catalogue(LMMS_EVAL).items()
        if entry.modality in ("image", MESSAGES) and fnmatch(name, given.only)
    ]
    asked = [entry for entry in entries if not entry.refused and entry.judging != "needed"]
    with tempfile.TemporaryDirectory() as folder:
        known = {}
        for number, found in enumerate(_run(asked, Path(folder))):
            known[found["name"]] = found
            words = found.get("error") or f"{found['figures']} figures"
            print(f"{number + 1}/{len(asked)} {found['name']}: {words}", flush=True)
    print_table([_outcome(entry, known.get(entry.name)) for entry in entries])


def _run(asked: Sequence[Entry], folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield what became of each task, in order."""
    offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "OMP_NUM_THREADS")
    environment = {
        **os.environ,
        **dict.fromkeys(offline, "1"),
        "HF_HOME": str(folder / "hub"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    jobs = [
        {"name": one.name, "file": one.file, "messages": one.modality == MESSAGES} for one in asked
    ]
    (folder / "jobs").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    command = [find(LMMS_EVAL).python, str(SCRIPT), str(Path(task.__file__).parent), str(folder)]
    with (
        (folder / "jobs").open() as lines,
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command, stdin=lines, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        ) as process,
    ):
        assert process.stdout is not None
        yield from map(json.loads, process.stdout)


def _outcome(entry: Entry, found: Mapping[str, Any] | None) -> Outcome:
    if entry.refused:
        return Outcome(entry, "refused", entry.refused)
    if entry.judging == "needed":
        return Outcome(entry, "needs a judge", "it is scored by a judge model")
    if found is None or "error" in found:
        return Outcome(entry, "failed", found["error"] if found else "it was not reached")
    if not found["figures"]:
        return Outcome(entry, "run", SERVER)
    return Outcome(entry, "run", "", found["figures"], found["headline"])


if __name__ == "__main__":
    sys.exit(main())
