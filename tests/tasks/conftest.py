"""Small data roots in the official layouts, and records as a runner would make them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adem_bench.records import Record, Response, Sample
from adem_bench.tasks.base import Task


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def write(root: Path) -> Callable[[str, Any], Path]:
    """Writes a file below the data root; anything but a text becomes JSON."""

    def put(name: str, content: Any) -> Path:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return put


@pytest.fixture
def science(write: Callable[[str, Any], Path], root: Path) -> Callable[..., Path]:
    """Writes a ScienceQA folder whose test split has the given problems."""

    def put(problems: dict[str, Any], folder: str = "scienceqa/", **splits: list[str]) -> Path:
        write(f"{folder}problems.json", problems)
        write(f"{folder}pid_splits.json", {"test": list(problems), **splits})
        write(f"{folder}captions.json", {"captions": {"1": "a map"}})
        (root / folder / "images").mkdir(exist_ok=True)
        return root

    return put


@pytest.fixture
def mme(write: Callable[[str, Any], Path], root: Path) -> Callable[..., Path]:
    """Writes an MME tree with one image per named subtask."""

    def put(*subtasks: str) -> Path:
        for subtask in subtasks:
            lines = f"Is it {subtask}?\tYes\nIs it a {{cat}}?\tNo\n"
            write(f"MME_Benchmark_release_version/{subtask}/0001.txt", lines)
            write(f"MME_Benchmark_release_version/{subtask}/0001.png", "")
        return root

    return put


@pytest.fixture
def captions(write: Callable[[str, Any], Path], root: Path) -> Callable[..., Path]:
    """Writes a Karpathy val split with the given rows."""

    def put(rows: Any, split: str = "val") -> Path:
        write(f"coco_caption/coco_karpathy_{split}.json", rows)
        (root / "images").mkdir(exist_ok=True)
        return root

    return put


@pytest.fixture
def answered() -> Callable[[Task, str], list[Record]]:
    """Makes the records of a run in which every answer is the given text."""

    def answer(task: Task, text: str) -> list[Record]:
        return [record(task, sample, text) for sample in task.samples()]

    def record(task: Task, sample: Sample, text: str) -> Record:
        prediction = task.parse_response(sample, Response(text))
        return Record(
            sample_id=sample.id,
            request_digest=task.request(sample).digest(),
            response=text,
            prediction=prediction.value,
            reference=sample.reference,
            score=prediction.score,
            groups=sample.groups,
            cluster=sample.cluster,
            notes=prediction.notes,
        )

    return answer
