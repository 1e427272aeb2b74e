"""Seconds that a person waits: for help and lists, for intervals, for a search on a report's page.

    python benchmarks/waiting.py [--rounds 5] [--log benchmarks/log.jsonl]

Commands are timed from start to exit, each in its own process. Intervals are 10,000 resamples of
ScienceQA's test split, with and without rows that repeat. The page has 5,000 samples of two runs
and is searched and sorted in Chromium; it is left out where there is none.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

from leaderboard import timed
from report import write_data, write_runs

COMMANDS = ("--help", "models", "tasks", "recipes", "leaderboard --help", "leaderboard --published")
QUESTIONS, SAMPLES = 4241, 5000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Measure everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    arguments = parser.parse_args()
    rows = []
    for wait, seconds in measured(arguments.rounds):
        print(f"{wait:32}{seconds:>8.3f} s", flush=True)
        today = date.today().isoformat()
        rows.append({"date": today, "benchmark": "waiting", "wait": wait, "seconds": seconds})
    if arguments.log:
        from adem_bench.runner.manifest import hardware, versions

        machine = {"cpu": hardware()["cpu"], "python": versions()["python"]}
        with arguments.log.open("a") as log:
            log.writelines(
                json.dumps(row | {"rounds": arguments.rounds} | machine) + "\n" for row in rows
            )


def measured(rounds: int) -> Iterator[tuple[str, float]]:
    """Yield what is waited for, and the median of its seconds."""
    for command in COMMANDS:
        yield f"adem-bench {command}", timed(command.split(), rounds)[0]
    yield from resamples(rounds)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser:
        with tempfile.TemporaryDirectory() as name:
            yield from searches(Path(name), browser, rounds)


def median(work: Callable[[], object], rounds: int) -> float:
    """Return the median of the seconds that a piece of work takes."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def resamples(rounds: int) -> Iterator[tuple[str, float]]:
    """Time the resampling that every interval without a formula rests on."""
    import numpy as np

    from adem_bench.metrics.intervals import resampled_sums

    apart = np.random.default_rng(3).random((QUESTIONS, 2))
    for name, figures in (("rows apart", apart), ("right or wrong", np.round(apart))):
        yield f"10,000 resamples, {name}", median(lambda rows=figures: resampled_sums(rows), rounds)


def searches(folder: Path, browser: str, rounds: int) -> Iterator[tuple[str, float]]:
    """Time a search and a sort on a page of two runs."""
    from playwright.sync_api import sync_playwright

    write_data(folder / "data", SAMPLES)
    write_runs(folder, SAMPLES)
    path = folder / "page.html"
    call = ["report", "a", "b", "--output", str(path), "--data-root", "data"]
    subprocess.run([sys.executable, "-m", "adem_bench", *call], cwd=folder, check=True)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = started.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector(".browser[data-ready]")

        def search() -> None:
            for query in ("4", "49", "499", "4999"):
                page.fill(".query", query)

        def sort() -> None:
            for order in ("worst", "data") * 2:
                page.select_option(".order", order)

        yield "four searches of 5,000 samples", median(search, rounds)
        page.fill(".query", "")
        yield "four sorts of 5,000 samples", median(sort, rounds)
        started.close()


if __name__ == "__main__":
    main()
