"""Run every image task of lmms-eval that is not refused on a miniature, and count.

    python tools/lmms_eval_coverage.py --harness-python ENVIRONMENT/bin/python --state STATE.jsonl

Prints a table of the names listed, run, failed and refused, with every reason. lmms-eval is
imported once; each task is built and scored in a fork of that process, by the code that
`adem-bench run` uses, on rows in the columns that the task's code reads
(`tests/bridges/lmms_eval_miniatures.py`). Where a judge is needed, one answers that says the same
to everything. What has an outcome in STATE.jsonl is not run again.
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
    parser.add_argument("--only", default="*", help="names with commas between, with * and ?")
    parser.add_argument("--state", type=Path, help="file of outcomes, which is continued")
    parser.add_argument("--seconds", type=float, default=10.0, help="to find a task's columns")
    parser.add_argument("--again", action="store_true", help="run again what failed")
    given = parser.parse_args()
    if given.harness_python:
        os.environ[PYTHON_VARIABLE] = f"lmms_eval={given.harness_python}"
    patterns = given.only.split(",")
    entries = [
        entry
        for name, entry in catalogue(LMMS_EVAL).items()
        if entry.modality in ("image", MESSAGES)
        and any(fnmatch(name, pattern) for pattern in patterns)
    ]
    with tempfile.TemporaryDirectory() as folder:
        state = given.state or Path(folder, "state.jsonl")
        known = _known(state)
        asked = [
            entry
            for entry in sorted(entries, key=lambda entry: (entry.name in known, entry.file))
            if not entry.refused
            and (entry.name not in known or (given.again and "error" in known[entry.name]))
        ]
        with state.open("a") as kept:
            for number, found in enumerate(_run(asked, known, given.seconds, Path(folder))):
                known[found["name"]] = found
                kept.write(json.dumps(found) + "\n")
                kept.flush()
                words = found.get("error") or f"{found['figures']} figures"
                print(f"{number + 1}/{len(asked)} {found['name']}: {words}", flush=True)
    print_table([_outcome(entry, known.get(entry.name)) for entry in entries])


def _known(state: Path) -> dict[str, Any]:
    """Return the last outcome of each name."""
    lines = state.read_text().splitlines() if state.exists() else []
    return {found["name"]: found for found in map(json.loads, lines)}


def _run(
    asked: Sequence[Entry], known: Mapping[str, Any], seconds: float, folder: Path
) -> Iterator[Mapping[str, Any]]:
    """Yield what became of each task, in order.

    Args:
        asked: The tasks, those of one folder together.
        known: Outcomes: tasks begin with what another of their folder took.
        seconds: Of the processor, for columns to be found.
        folder: For all files.
    """
    offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "OMP_NUM_THREADS")
    environment = {
        **os.environ,
        **dict.fromkeys(offline, "1"),
        "HF_HOME": str(folder / "hub"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    entries = catalogue(LMMS_EVAL)
    taken = {
        Path(entries[name].file).parent: found["taken"]
        for name, found in known.items()
        if name in entries and "taken" in found
    }
    jobs = [
        {
            "name": one.name,
            "file": one.file,
            "messages": one.modality == MESSAGES,
            "judge": one.judging,
            "seconds": seconds,
            "taken": taken.get(Path(one.file).parent, {}),
        }
        for one in asked
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
    if found is None or "error" in found:
        return Outcome(entry, "failed", found["error"] if found else "it was not reached")
    state = "run, with a judge" if entry.judging == "needed" else "run"
    if not found["figures"]:
        files = found["files"]
        reason = SERVER if files else "it gives no figure of these answers"
        return Outcome(entry, state if files else "failed", reason)
    return Outcome(entry, state, "", found["figures"], found["headline"])


if __name__ == "__main__":
    sys.exit(main())
