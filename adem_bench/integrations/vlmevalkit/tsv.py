"""A task's samples as a TSV that VLMEvalKit reads: `python -m … TASK FILE.tsv`.

Both harnesses can then be run on the same questions and their scores compared.
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from adem_bench.errors import AdemBenchError, DataError, printable
from adem_bench.files import write_atomically
from adem_bench.records import Sample
from adem_bench.registry import TASK_KINDS
from adem_bench.tasks.base import Task, build_task
from adem_bench.tasks.benchmark import Benchmark

COLUMNS = ("index", "id", "image", "image_path", "question", "hint", "category", "answer")
CAPTION_QUESTION = "Describe the image."
"""VLMEvalKit wants a question; the published prompt replaces it."""


def write_tsv(task: Task, path: Path, limit: int | None = None, with_images: bool = True) -> int:
    """Write samples in the columns of VLMEvalKit's data sets, `id` being ours.

    Images keep their bytes, in base64; the name in `image_path` ends in `.png`, so that
    VLMEvalKit unpacks them without loss.

    Args:
        task: Of a kind whose samples have `vlmevalkit_columns`.
        path: The file to write, `NAME.tsv` in VLMEvalKit's `$LMUData`.
        limit: Write the first so many samples only.
        with_images: Whether to write samples with an image, without image columns if not.

    Returns:
        The number of rows.

    Raises:
        DataError: the data or an image cannot be read, or the task's kind has no such columns.
        ResultsError: the file cannot be written.
    """
    used = [name for name in COLUMNS if with_images or not name.startswith("image")]
    benchmark = _with_columns(task)
    used += benchmark.vlmevalkit_columns or ()
    samples = (sample for sample in task.samples() if bool(sample.images) == with_images)
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        yield _line(used)
        for sample in islice(samples, limit):
            row = _row(benchmark, count, sample)
            count += 1
            yield _line([row.get(name, "") for name in used])

    write_atomically(path, lines())
    return count


def _line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, delimiter="\t", lineterminator="\n").writerow(cells)
    return line.getvalue()


def _row(task: Benchmark, place: int, sample: Sample) -> dict[str, Any]:
    fields: Mapping[str, Any] = sample.fields
    row = {
        "index": place,
        "id": sample.id,
        "question": fields.get("question", CAPTION_QUESTION),
        "hint": fields.get("hint", ""),
        "category": sample.groups[0] if sample.groups else "",
        "answer": sample.reference,
    }
    row |= task.vlmevalkit_cells(sample)
    for image in sample.images:
        row["image"] = _base64(image)
        row["image_path"] = f"{(sample.cluster or sample.id).replace('/', '_')}.png"
    return row


def _with_columns(task: Task) -> Benchmark:
    if not isinstance(task, Benchmark) or task.vlmevalkit_columns is None:
        kinds = [name for name in TASK_KINDS.table() if _has_columns(TASK_KINDS.load(name))]
        raise DataError(
            f"task {task.card.name} is of kind {task.card.kind}, which has no columns in "
            f"VLMEvalKit's layout here; these have: {', '.join(kinds)}"
        )
    return task


def _has_columns(kind: Any) -> bool:
    return getattr(kind, "vlmevalkit_columns", None) is not None


def _base64(image: Path) -> str:
    try:
        return base64.b64encode(image.read_bytes()).decode()
    except OSError as error:
        raise DataError(f"image {image} cannot be read: {error.strerror or error}") from error


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m adem_bench.integrations.vlmevalkit.tsv")
    parser.add_argument("task", help="name or path of a task card")
    parser.add_argument("file", type=Path, help="TSV to write, in VLMEvalKit's $LMUData")
    parser.add_argument("--data-root", type=Path, help="folder that holds the data")
    parser.add_argument("--limit", type=int, help="first N samples only")
    parser.add_argument("--text-only", action="store_true", help="the samples without image")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Write the file that the command line names."""
    given = _parsed(arguments)
    task = build_task(given.task, given.data_root)
    count = write_tsv(task, given.file, given.limit, not given.text_only)
    sys.stdout.write(f"wrote {count} rows to {given.file}\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdemBenchError as error:
        sys.exit(f"error: {printable(str(error))}")
