"""Run every benchmark of VLMEvalKit that is not refused on a miniature, and count.

    python tools/harness_coverage.py vlmevalkit --harness-python ENVIRONMENT/bin/python

Prints a table of the names listed, run, failed, refused and needing a judge, with every reason.
The harness is imported once; each name is built and scored in a fork of that process, by the code
that `adem-bench run` uses. The model is a constant answer: what is shown is that prompts, answers
and scores pass through, and no quality.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import adem_bench
from adem_bench.errors import AdemBenchError
from adem_bench.tasks.harnesses import PYTHON_VARIABLE, task
from adem_bench.tasks.harnesses.catalogue import Entry, catalogue
from adem_bench.tasks.harnesses.process import VLMEVALKIT

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from bridges.harness_jobs import Server  # noqa: E402
from bridges.vlmevalkit_rows import Miniature, miniature  # noqa: E402


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one name."""

    entry: Entry
    state: str
    """`run`, `run, with a judge`, `failed`, `needs a judge` or `refused`."""
    reason: str = ""
    figures: int = 0
    headline: str = ""


def main() -> None:
    """Run the names and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("harness", choices=["vlmevalkit"])
    parser.add_argument("--harness-python", help="interpreter of an environment that has it")
    parser.add_argument("--only", default="*", help="names with commas between, with * and ?")
    parser.add_argument("--judge", default="", help="model that reads answers where one must")
    parser.add_argument("--output", type=Path, help="JSON file of all outcomes")
    parser.add_argument("--keep", type=Path, help="folder for data and runs, which is kept")
    given = parser.parse_args()
    if given.harness_python:
        os.environ[PYTHON_VARIABLE] = f"{given.harness}={given.harness_python}"
    with tempfile.TemporaryDirectory() as folder:
        place = (given.keep or Path(folder)).absolute()
        data = place / "data"
        data.mkdir(parents=True, exist_ok=True)
        os.environ |= {
            "LMUData": str(data),
            "HF_HOME": str(place / "hub"),
            "MINI_HUB": str(place / "mirror"),
            "ADEM_BENCH_CACHE": str(place / "cache"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        found = catalogue(VLMEVALKIT, complete=True)
        patterns = given.only.split(",")
        wanted = [
            entry
            for name, entry in found.items()
            if any(fnmatch(name, pattern) for pattern in patterns)
        ]
        for entry in wanted:
            if not entry.refused:
                miniature(entry, found).write(data, place / "mirror")
        server = Server(VLMEVALKIT)
        task.run_job = server.run_job
        outcomes = []
        for number, entry in enumerate(wanted):
            start = time.monotonic()
            outcomes.append(_outcome(entry, found, place, given.judge))
            words = f"{outcomes[-1].state} {outcomes[-1].reason}"[:300].replace("\n", " ")
            seconds = time.monotonic() - start
            print(f"{number + 1}/{len(wanted)} {entry.name}: {words} ({seconds:.1f} s)", flush=True)
    if given.output:
        rows = [{"name": one.entry.name, "kind": one.entry.kind, "state": one.state,
                 "reason": one.reason, "figures": one.figures, "headline": one.headline}
                for one in outcomes]  # fmt: skip
        given.output.write_text(json.dumps(rows, indent=1) + "\n")
    print_table(outcomes)


def _outcome(entry: Entry, found: Mapping[str, Entry], place: Path, judge: str) -> Outcome:
    if entry.refused:
        return Outcome(entry, "refused", entry.refused)
    if entry.judging == "needed" and not judge:
        return Outcome(entry, "needs a judge", "it is scored by a judge model")
    made: Miniature = miniature(entry, found)
    try:
        [outcome] = adem_bench.evaluate(
            f"constant:{made.answer}",
            f"vlmevalkit:{entry.name}",
            results=place / "results",
            prompt_format="instruction",  # constants see images between texts as well
            judge=judge if entry.judging == "needed" else None,
        )
    except AdemBenchError as error:
        return Outcome(entry, "failed", str(error))
    result = outcome.result
    if any("a server has the right answers" in warning for warning in result.warnings):
        return Outcome(entry, "run", "its answers are written to a file for a server")
    if not result.metrics:
        return Outcome(entry, "failed", "it gives no figures without a judge")
    state = "run, with a judge" if entry.judging == "needed" else "run"
    return Outcome(entry, state, "", len(result.metrics), result.headline)


def print_table(outcomes: list[Outcome]) -> None:
    """Print the names by what is asked and what became of them, and the reasons."""
    states = ("run", "run, with a judge", "failed", "needs a judge", "refused")
    counts = Counter((one.entry.kind, one.state) for one in outcomes)
    kinds = sorted({one.entry.kind for one in outcomes})
    rows = [(kind, *(counts[kind, state] for state in states)) for kind in kinds]
    totals = Counter(one.state for one in outcomes)
    rows.append(("all", *(totals[state] for state in states)))
    print("| kind | listed |", " | ".join(states), "|")
    print("|---|" + "---:|" * (len(states) + 1))
    for kind, *numbers in rows:
        print(f"| {kind} | {sum(numbers)} |", " | ".join(map(str, numbers)), "|")
    reasons: dict[str, list[str]] = {}
    for one in outcomes:
        if one.reason:
            reasons.setdefault(f"{one.state}: {one.reason}", []).append(one.entry.name)
    for reason, names in sorted(reasons.items(), key=lambda pair: -len(pair[1])):
        print(f"{len(names)} {reason}: {', '.join(names)}")


if __name__ == "__main__":
    sys.exit(main())
