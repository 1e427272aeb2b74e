"""Records per second and peak memory of a run as samples grow, with a model that costs nothing.

    python benchmarks/runner.py [--samples 1000 10000 100000 1000000] [--log benchmarks/log.jsonl]

The data has VSR's layout: statements that all show one image. `constant:Yes` answers them, so what
is measured is the harness: reading, batches, records on disk, scores and intervals. `validate` then
checks the run against its data. Each call is a process of its own, from start to exit; seconds are
the processor's, which other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from PIL import Image

SIZES = (1000, 10_000, 100_000, 1_000_000)
STATEMENT = "The cat number {} stands on the left side of the mat."


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both calls at every size and print a table.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=SIZES)
    parser.add_argument("--batch-size", type=int, help="of the run; left out: the model's own")
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    given = parser.parse_args(arguments)
    print(f"{'call':10}{'samples':>9}{'CPU':>10}{'records':>11}{'peak':>10}  more")
    rows = []
    for samples in given.samples:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_data(folder / "data", samples)
            for row in measure(folder, samples, given.batch_size):
                before = next((r for r in rows if r["call"] == row["call"]), None)
                rows.append(row)
                print(
                    f"{row['call']:10}{samples:>9}{row['cpu_seconds']:>8.1f} s"
                    f"{row['records_per_second']:>9.0f}/s{row['peak_bytes'] / 2**20:>6.0f} MiB"
                    f"{_more(before, row)}",
                    flush=True,
                )
    if given.log:
        # Not before: torch would weigh on this process, and a child's peak begins at its parent's.
        from adem_bench.runner.manifest import hardware, versions

        rows = [row | {"cpu": hardware()["cpu"], "python": versions()["python"]} for row in rows]
        with given.log.open("a") as log:
            log.writelines(json.dumps(row) + "\n" for row in rows)


def measure(folder: Path, samples: int, batch_size: int | None) -> Iterator[dict]:
    """Yield the figures of a run, and of its check.

    Args:
        folder: With the data in `data/`; runs are written to it.
        samples: How many there are.
        batch_size: Of the run; None leaves it to the model.
    """
    data = ["--data-root", str(folder / "data")]
    results = folder / "results"
    batches = ["--batch-size", str(batch_size)] if batch_size else []
    run = ["run", "--model", "constant:Yes", "--tasks", "vsr", "--results", str(results)]
    # The card's own count would be a subset's.
    run += ["--set", f"expected.test={samples}", *batches]
    for call, command in (("run", run), ("validate", ["validate", str(results)])):
        seconds, peak = used([*command, *data])
        yield {
            "date": date.today().isoformat(),
            "benchmark": "runner",
            "call": call,
            "samples": samples,
            "batch_size": batch_size or "auto",
            "cpu_seconds": round(seconds, 2),
            "records_per_second": round(samples / seconds, 1),
            "peak_bytes": peak,
        }


def used(arguments: Sequence[str]) -> tuple[float, int]:
    """Return the processor's seconds and the peak memory in bytes of an adem-bench process."""
    command = [sys.executable, "-m", "adem_bench", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def write_data(root: Path, samples: int) -> None:
    """Write statements in VSR's layout, all about one image."""
    images = root / "vsr" / "images"
    images.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(images / "1.jpg")
    with (root / "vsr" / "test.jsonl").open("w") as file:
        for number in range(samples):
            row = {"image": "1.jpg", "caption": STATEMENT.format(number), "label": number % 2}
            file.write(json.dumps(row | {"relation": "on"}) + "\n")


def _more(before: dict | None, row: dict) -> str:
    """Return what one more sample costs, from the smallest size on."""
    if before is None:
        return ""
    samples = row["samples"] - before["samples"]
    seconds = (row["cpu_seconds"] - before["cpu_seconds"]) / samples
    memory = (row["peak_bytes"] - before["peak_bytes"]) / samples
    return f"  +{seconds * 1e3:.2f} ms, {memory / 1024:.1f} KiB a sample"


if __name__ == "__main__":
    main()
