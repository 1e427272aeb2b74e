"""Seconds, peak memory and page size of `adem-bench report` and `compare` as runs grow.

    python benchmarks/report.py [--samples 1000 10000 100000] [--log benchmarks/log.jsonl]

The data has ScienceQA's layout: questions of 60 words with five options, every second one with an
image of its own (640 x 480 pixels, PNG). Two runs answer all of it. Each call is a process of its
own, from start to exit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from datetime import date
from pathlib import Path

from leaderboard import timed
from PIL import Image

from adem_bench.cards import as_mapping, load_task_card
from adem_bench.records import Record, Sample
from adem_bench.results.run_folder import RunFolder
from adem_bench.tasks.base import Task, task_of

CALLS = {
    "report, one run": ["report", "a"],
    "report, two runs": ["report", "a", "b"],
    "report, no images": ["report", "a", "--thumbnails", "0"],
    "compare": ["compare", "a", "b"],
}
PICTURES = 50
"""Distinct pictures; every question has its own file of one, so each is decoded again."""


def main() -> None:
    """Measure every call at every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    arguments = parser.parse_args()
    rows = []
    print(f"{'call':20}{'samples':>9}{'seconds':>9}{'peak':>10}{'page':>10}")
    for samples in arguments.samples:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_data(folder / "data", samples)
            write_runs(folder, samples)
            for call, command in CALLS.items():
                rows.append(measure(folder, samples, call, command, arguments.rounds))
                row = rows[-1]
                print(
                    f"{call:20}{samples:>9}{row['seconds']:>9.2f}"
                    f"{row['peak_bytes'] / 2**20:>6.0f} MiB{row['page_bytes'] / 2**20:>6.1f} MiB"
                )
    if arguments.log:
        from adem_bench.runner.manifest import hardware, versions

        rows = [row | {"cpu": hardware()["cpu"], "python": versions()["python"]} for row in rows]
        with arguments.log.open("a") as log:
            log.writelines(json.dumps(row) + "\n" for row in rows)


def measure(folder: Path, samples: int, call: str, command: list[str], rounds: int) -> dict:
    """Return the medians of one call.

    Args:
        folder: With both runs and their data.
        samples: How many each run has.
        call: Its name in the table.
        command: Arguments of adem-bench; `a` and `b` stand for the runs.
        rounds: Number of measurements.
    """
    page = folder / "page.html"
    page.unlink(missing_ok=True)
    parts = [str(folder / part) if part in ("a", "b") else part for part in command]
    if command[0] == "report":
        parts += ["--output", str(page), "--data-root", str(folder / "data")]
    seconds, peak = timed(parts, rounds)
    return {
        "date": date.today().isoformat(),
        "benchmark": call,
        "samples": samples,
        "rounds": rounds,
        "seconds": seconds,
        "peak_bytes": peak,
        "page_bytes": page.stat().st_size if page.exists() else 0,
    }


def write_data(root: Path, samples: int) -> None:
    """Write questions in ScienceQA's layout."""
    words = random.Random(0)
    vocabulary = ["".join(words.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(4000)]
    pictures = []
    for number in range(PICTURES):
        path = root / "pictures" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.frombytes("RGB", (40, 30), words.randbytes(3600))
        # As large on disk as ScienceQA's images are on average, about 60 KB.
        noise.resize((640, 480), Image.Resampling.BICUBIC).quantize(24).save(path)
        pictures.append(path)
    problems = {}
    for number in range(samples):
        has_image = number % 2 == 0
        problems[str(number)] = {
            "question": " ".join(words.choices(vocabulary, k=40)),
            "choices": [" ".join(words.choices(vocabulary, k=4)) for _ in range(5)],
            "answer": number % 5,
            "hint": " ".join(words.choices(vocabulary, k=20)),
            "image": "image.png" if has_image else None,
            "grade": f"grade{number % 12 + 1}",
            "subject": "natural science",
            "lecture": "",
            "solution": "",
        }
        if has_image:
            place = root / "scienceqa" / "images" / "test" / str(number) / "image.png"
            place.parent.mkdir(parents=True)
            os.link(pictures[number % PICTURES], place)
    base = root / "scienceqa"
    (base / "problems.json").write_text(json.dumps(problems))
    (base / "pid_splits.json").write_text(json.dumps({"test": list(problems)}))
    (base / "captions.json").write_text(json.dumps({"captions": {}}))


def write_runs(folder: Path, samples: int) -> None:
    """Write two finished runs that answer all questions, each wrongly where it likes."""
    card = load_task_card("sqa", [f"expected={{test: {samples}}}"])
    task = task_of(card, folder / "data")
    for name, divisor in (("a", 3), ("b", 4)):
        with RunFolder(folder / name) as run:
            run.gather(fresh=True)
            records = [_record(sample, divisor) for sample in task.samples()]
            run.finish(records, task.aggregate(records), _manifest(task, name))


def _record(sample: Sample, divisor: int) -> Record:
    right = int(sample.id) % divisor > 0
    reference = int(str(sample.reference))
    prediction = reference if right else (reference + 1) % 5
    return Record(
        sample_id=sample.id,
        request_digest="0" * 16,
        response=f"The answer is {'ABCDE'[prediction]}, since option {prediction} says so.",
        prediction=prediction,
        reference=reference,
        score=float(right),
        groups=sample.groups,
    )


def _manifest(task: Task, name: str) -> dict:
    card = task.card
    identity = {
        "model": name * 16,
        "task": card.name,
        "task_kind": card.kind,
        "task_version": card.version,
        "split": card.split,
        "data": task.fingerprint(),
    }
    return {
        "schema": 1,
        "model": {"name": name, "fingerprint": name * 16, "card": {}},
        "task": {
            "name": card.name,
            "kind": card.kind,
            "data_fingerprint": task.fingerprint(),
            "card": as_mapping(card),
        },
        "options": {},
        "identity": identity,
    }


if __name__ == "__main__":
    main()
