"""Train, evaluate and compare four methods on the mini world: `make methods`.

Each method is tuned on the frozen parts of `adem-tiny`, with the same data, epochs and seeds. What
was done is not done again: a training goes on from its checkpoint, a finished run is kept.

    python tools/compare_methods.py [--full] [--seeds 1 2 3] [--at-once 2]

A training sees a fifth of the rows that the recipes say, captions above all, so that two cores need
two hours and not ten; `--full` leaves the recipes as they are.

Stages can be run one by one (`--stages timings tables`). Figures go to
`docs/comparison-of-methods/`, tables into the documents.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from method_comparison import figures, tables, timings
from method_comparison.tunings import METHODS, TASKS, Tuning, make

from adem_bench.results.runs import open_runs

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "comparison-of-methods"
DOCUMENT = ROOT / "docs" / "comparison-of-methods.md"
STAGES = ("trainings", "scores", "timings", "tables")
HOURS = 0.2
"""Of one short training on one core, evaluation included."""
FULL = 5
"""So many times as long is a full one."""


def main() -> None:
    """Run the stages that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--full", action="store_true", help="train as long as the recipes say")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3, help="of the timings")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "methods")
    arguments = parser.parse_args()
    tunings = [
        Tuning(recipe, seed, arguments.full, arguments.folder)
        for seed in arguments.seeds
        for recipe in METHODS
    ]
    if "trainings" in arguments.stages:
        _announce(tunings, arguments.at_once)
        make(tunings, arguments.at_once)
    if "scores" in arguments.stages:
        _write_scores(tunings)
    if "timings" in arguments.stages:
        models = {tuning.recipe: tuning.output for tuning in tunings[: len(METHODS)]}
        _write("timings", timings.measure(models, arguments.rounds))
    if "tables" in arguments.stages:
        _write_tables()


def _announce(tunings: Sequence[Tuning], at_once: int) -> None:
    left = [tuning for tuning in tunings if not tuning.is_trained]
    hours = sum(HOURS * (FULL if tuning.is_full else 1) for tuning in left) / at_once
    print(
        f"{len(tunings)} trainings, {len(tunings) - len(left)} of them done; the others take about "
        f"{hours:.1f} hours on {at_once} cores",
        flush=True,
    )


def _write_scores(tunings: Sequence[Tuning]) -> None:
    runs: dict[str, dict[str, list[Any]]] = {
        method: {task: [] for task in TASKS} for method in METHODS.values()
    }
    for tuning in (one for one in tunings if one.results.is_dir()):
        opened, _ = open_runs([tuning.results])
        for run in opened:
            runs[METHODS[tuning.recipe]][run.result.task].append(run)
    _write("scores", figures.scores(runs))
    _write("differences", figures.differences(runs))
    _write("runs", figures.between_runs(runs))


def _write_tables() -> None:
    scores, measured = _read("scores"), _read("timings")
    for document in (DOCUMENT, ROOT / "README.md"):
        tables.put(document, "methods", tables.summary(scores, measured))
    tables.put(DOCUMENT, "seeds", tables.by_seed(scores))
    tables.put(DOCUMENT, "differences", tables.pairs(_read("differences")))


def _write(name: str, lines: Sequence[dict[str, Any]]) -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (DATA / f"{name}.jsonl").write_text(text, encoding="utf-8")


def _read(name: str) -> list[dict[str, Any]]:
    text = (DATA / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    main()
