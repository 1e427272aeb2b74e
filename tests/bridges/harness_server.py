"""Jobs of one harness, each in a fork of a process that has imported it once.

Runs in the harness's environment, with the standard library and the workers alone:

    python server.py ADEM_BENCH/tasks/harnesses KIND MODULE…

A line of standard input is a job with its log and time limit; a line of standard output is what
the worker answered, or an empty object if it ended without an answer.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

MIRROR = "MINI_HUB"
"""Names a folder that takes the place of the hubs."""


def main() -> None:
    """Serve until standard input ends."""
    folder, kind, *modules = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path[:] = [folder, *(place for place in sys.path[1:] if place)]
    worker = importlib.import_module(f"worker.{kind}")
    sys.path.pop(0)
    if MIRROR in os.environ:
        mirror(os.environ[MIRROR])
    for module in modules:
        importlib.import_module(module)
    answers.write("{}\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(_done(worker, json.loads(line))) + "\n")
        answers.flush()


def mirror(folder: str) -> None:
    """Read from a folder what would be fetched from hubs, by the same names.

    Args:
        folder: With OWNER/NAME/ of snapshots, and OWNER/NAME/SPLIT.json, a list of rows.
    """
    import datasets
    import huggingface_hub

    def snapshot(repo_id: str = "", **given: Any) -> str:
        place = Path(folder, repo_id or given["dataset_id"])
        place.mkdir(parents=True, exist_ok=True)
        return str(place)

    def load_dataset(place: str, split: str, **given: Any) -> Any:
        rows = json.loads(Path(folder, place, f"{split}.json").read_text())
        return datasets.Dataset.from_list(rows)

    huggingface_hub.snapshot_download = snapshot
    datasets.load_dataset = load_dataset
    other = ModuleType("modelscope")
    other.__spec__ = ModuleSpec("modelscope", None)
    other.dataset_snapshot_download = snapshot
    sys.modules["modelscope"] = other


def _done(worker: Any, order: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _do(worker, order, writing)
    os.close(writing)
    said = read_until(reading, time.monotonic() + order["time_limit"])
    os.close(reading)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    lines = said.splitlines()
    return json.loads(lines[-1]) if lines else {}


def _do(worker: Any, order: dict[str, Any], answers: int) -> None:
    os.setsid()
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps(order["job"]).encode())
        given.seek(0)
        os.dup2(given.fileno(), 0)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    os.dup2(answers, 1)
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    sys.stdin = os.fdopen(0)
    worker.main()


def read_until(source: int, end: float) -> bytes:
    """Return what a pipe brings before it is closed; nothing if that is not by a time."""
    said = b""
    while (left := end - time.monotonic()) > 0 and select.select([source], [], [], left)[0]:
        part = os.read(source, 1 << 16)
        if not part:
            return said
        said += part
    return b""


if __name__ == "__main__":
    if Path(sys.argv[1]).is_dir():
        main()
