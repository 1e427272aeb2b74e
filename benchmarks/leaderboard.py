"""Seconds and peak memory of `adem-bench leaderboard` over 10, 100 and 1,000 run folders.

    python benchmarks/leaderboard.py [--runs 10 100 1000] [--log benchmarks/log.jsonl]

The folders are as large as real ones: all metrics of ScienceQA, MME and captions, whole manifests.
Half of the runs are of many models, half of one model with ever other weights, which the
leaderboard has to tell apart. Each call is a process of its own, from start to exit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from adem_bench.cards import as_mapping, load_model_card, load_task_card
from adem_bench.records import Metric, Result
from adem_bench.tasks.mme.scores import metric_names

FORMATS = ("table", "csv", "md", "latex", "json", "html", "long")


def main() -> None:
    """Measure every format at every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    arguments = parser.parse_args()
    rows = []
    for runs in arguments.runs:
        with tempfile.TemporaryDirectory() as name:
            write_runs(Path(name) / "results", runs)
            for form in FORMATS:
                rows.append(measure(Path(name), runs, form, arguments.rounds))
    print(f"{'format':8}{'runs':>6}{'seconds':>9}{'peak':>10}{'file':>11}")
    for row in rows:
        print(
            f"{row['format']:8}{row['runs']:>6}{row['seconds']:>9.2f}"
            f"{row['peak_bytes'] / 2**20:>6.0f} MiB{row['file_bytes'] / 2**10:>7.0f} KiB"
        )
    if arguments.log:
        # Not before: torch would weigh on this process, and a child's peak begins at its parent's.
        from adem_bench.runner.manifest import hardware, versions

        rows = [row | {"cpu": hardware()["cpu"], "python": versions()["python"]} for row in rows]
        with arguments.log.open("a") as log:
            log.writelines(json.dumps(row) + "\n" for row in rows)


def measure(folder: Path, runs: int, form: str, rounds: int) -> dict:
    """Return the medians of one format: wall seconds and peak memory of the whole process.

    Args:
        folder: With the runs below `results/`.
        runs: How many there are.
        form: `--format`.
        rounds: Number of measurements.
    """
    output = folder / f"board.{form}"
    command = ["leaderboard", str(folder / "results"), "--format", form, "--output", str(output)]
    seconds, peak = timed(command, rounds)
    return {
        "date": date.today().isoformat(),
        "benchmark": "leaderboard",
        "format": form,
        "runs": runs,
        "rounds": rounds,
        "seconds": seconds,
        "peak_bytes": peak,
        "file_bytes": output.stat().st_size,
    }


def timed(arguments: list[str], rounds: int) -> tuple[float, float]:
    """Return the medians of wall seconds and peak memory in bytes of an adem-bench process."""
    command = [sys.executable, "-m", "adem_bench", *arguments]
    seconds, peaks = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds.append(time.perf_counter() - started)
        peaks.append(usage.ru_maxrss * 1024)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed")
    return statistics.median(seconds), statistics.median(peaks)


def write_runs(results: Path, count: int) -> None:
    """Write run folders as the runner leaves them, without their records."""
    card = as_mapping(load_model_card("adem-7b"))
    for index in range(count):
        task = load_task_card(("sqa", "mme", "coco_caption")[index % 3])
        number = index // 3
        model = "adem-7b" if number % 2 else f"model-{number}"
        names = metric_names() if task.kind == "mme" else task.columns
        unit = "points" if task.kind == "mme" else "fraction"
        share = 0.3 + 0.6 * (index * 7919 % 1000) / 1000
        metrics = tuple(
            Metric(name, share, unit, 100, "", share - 0.02, share + 0.02, "Wilson")
            for name in names
        )
        size = task.expected[task.split]
        result = Result(task.name, 1, task.split, task.headline, metrics, size, 0, size)
        folder = results / model / task.name / f"{task.split}-{index:08x}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(result.to_json(), indent=2))
        text = json.dumps(manifest(model, number, card, as_mapping(task)), indent=2)
        (folder / "manifest.json").write_text(text)


def manifest(model: str, number: int, card: dict, task: dict) -> dict:
    """Return a manifest with what a leaderboard reads and as much of the rest as is usual.

    Args:
        model: Its name.
        number: Tells fingerprints apart.
        card: The model's, as JSON data.
        task: The task's card, as JSON data.
    """
    return {
        "schema": 1,
        "model": {
            "name": model,
            "fingerprint": f"{number:016x}",
            "language_model": "LLaMA-7B",
            "trainable_parameters": 4530432,
            "card": card,
        },
        "task": {"name": task["name"], "prompt_format": task["prompt_format"], "card": task},
        "options": {"limit": None, "blind": False, "batch_size": "auto", "seed": 0},
        "identity": {"task_options": task["options"]},
        "run": {"finished": f"2026-01-01T00:{number % 60:02}:00+00:00"},
        "timing": {"seconds": 100.0, "samples_per_second": 20.0 + number},
        "hardware": {"system": "Linux", "cpu": "a CPU", "cpu_count": 8, "threads": 8, "gpus": []},
        "versions": {f"package-{index}": "1.0.0" for index in range(10)},
    }


if __name__ == "__main__":
    main()
