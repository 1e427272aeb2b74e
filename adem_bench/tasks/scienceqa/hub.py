"""ScienceQA as derek-thomas/ScienceQA has it: one row per question, without its id.

Ids come from the official files below the data root: with problems.json, a row is the question of
the same text; without it, rows are taken in the order of pid_splits.json, which captions.json
checks (exactly the questions with an image have a caption). Without pid_splits.json a question is
called by its split and row, such as `test-17`.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adem_bench.data.hub.layout import image_bytes, put, safe_part, text
from adem_bench.data.hub.rows import HubRows
from adem_bench.errors import CardError, DataError, in_shell, nearest_hint
from adem_bench.schemas import TaskCard
from adem_bench.tasks.scienceqa.files import CAPTIONS, PROBLEMS, SPLITS, ScienceQAFiles

HUB_SPLITS = {"train": ("train",), "val": ("validation", "val"), "test": ("test",)}
SPLIT_PARTS = {
    **{name: (name,) for name in HUB_SPLITS},
    **{f"mini{name}": (name,) for name in HUB_SPLITS},
    "trainval": ("train", "val"),
}
"""Split of pid_splits.json to the splits of the hub that hold its questions."""
IMAGE = "image.png"
TEXTS = (
    *("question", "hint", "task", "grade", "subject"),
    *("topic", "category", "skill", "lecture", "solution"),
)
COLUMNS = ("image", "question", "choices", "answer", "hint", "grade", "subject")
Row = Mapping[str, Any]


class ScienceQALayout:
    """`scienceqa/{problems,pid_splits,captions}.json` and `scienceqa/images/SPLIT/ID/….png`."""

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        """Find the annotation files that the layout rests on.

        Raises:
            CardError: no such split.
            DataError: annotation files are needed that are not there.
        """
        if card.split not in SPLIT_PARTS:
            raise CardError(
                f"unknown split {card.split!r} of ScienceQA{nearest_hint(card.split, SPLIT_PARTS)}"
            )
        self._splits = SPLIT_PARTS[card.split]
        self.key = "-".join(self._splits)
        self._files = ScienceQAFiles(data_root, card.data)
        places = (
            self._files.folder / PROBLEMS,
            self._files.folder / SPLITS,
            self._files.captions_path,
        )
        self.annotations = tuple(path for path in places if path.is_file())
        self._have = {path.name for path in self.annotations}
        fetch = f"`adem-bench data fetch {in_shell(card.name)}` brings {SPLITS} and {CAPTIONS}"
        if card.options.get("captions", True) and CAPTIONS not in self._have:
            raise DataError(
                f"the hub has no captions by a machine: {fetch}; --set options.captions=false asks "
                "without them"
            )
        if SPLITS not in self._have and (card.split not in self._splits or PROBLEMS in self._have):
            raise DataError(f"{self._files.folder / SPLITS} is missing: {fetch}")
        if CAPTIONS in self._have and SPLITS not in self._have:
            raise DataError(f"{CAPTIONS} is of no use without question ids: {fetch}")

    def write(self, folder: Path, rows: HubRows) -> None:
        """Write the questions and images of all splits that the task's split is made of.

        Raises:
            DataError: the rows are not the questions of the annotation files.
        """
        target = folder / "scienceqa"
        target.mkdir()
        problems: dict[str, Any] = {}
        for split in self._splits:
            for qid, row in self._identified(split, rows):
                problems[qid] = _problem(row, split)
                data = image_bytes(row)
                if data:
                    put(target / "images" / split / qid / self._image_name(qid), data)
        for path in self.annotations:
            shutil.copyfile(path, target / path.name)
        if SPLITS not in self._have:
            _write_json(target / SPLITS, {self.key: list(problems)})
        if PROBLEMS not in self._have:
            _write_json(target / PROBLEMS, problems)
        (target / "images").mkdir(exist_ok=True)

    def _identified(self, split: str, rows: HubRows) -> Iterator[tuple[str, Row]]:
        """Yield ids and rows; the last check comes after the last row."""
        found = enumerate(rows.rows(rows.split(HUB_SPLITS[split]), COLUMNS))
        if SPLITS not in self._have:
            yield from ((f"{split}-{number}", row) for number, row in found)
            return
        ids = self._files.ids(split) if PROBLEMS in self._have else self._files.splits[split]
        ids = [safe_part(qid, f"{SPLITS}: id", rows) for qid in ids]
        next_id = self._by_text(ids) if PROBLEMS in self._have else self._by_place(ids)
        count = 0
        for number, row in found:
            qid = next_id(row)
            if qid is None:
                raise DataError(
                    f"{rows.name}: row {number} of {split} is not another question of that split "
                    f"in {self._files.folder}; {self._remedy()}"
                )
            count += 1
            yield qid, row
        if count != len(ids):
            raise DataError(
                f"{rows.name} has {count} questions of {split}, {self._files.folder / SPLITS} has "
                f"{len(ids)}; {self._remedy()}"
            )

    def _by_text(self, ids: list[str]) -> Callable[[Row], str | None]:
        """Return what finds a row's id by its text; equal texts keep the order of the split."""
        places: dict[str, deque[str]] = defaultdict(deque)
        for qid in ids:
            places[_text_key(self._files.problems.get(qid), "image")].append(qid)

        def find(row: Row) -> str | None:
            left = places.get(_text_key({**row, "image": image_bytes(row)}, "image"))
            return left.popleft() if left else None

        return find

    def _by_place(self, ids: list[str]) -> Callable[[Row], str | None]:
        """Return what takes ids in order; images must be where captions are."""
        left = deque(ids)
        captions = self._files.captions if CAPTIONS in self._have else None

        def find(row: Row) -> str | None:
            qid = left.popleft() if left else None
            fits = captions is None or (qid in captions) == bool(image_bytes(row))
            return qid if fits else None

        return find

    def _image_name(self, qid: str) -> str:
        if PROBLEMS not in self._have:
            return IMAGE
        problem = self._files.problems[qid]
        name = problem.get("image") if isinstance(problem, dict) else None
        return name if isinstance(name, str) and "/" not in name and name != ".." else IMAGE

    def _remedy(self) -> str:
        if PROBLEMS in self._have:
            return f"are both of the same version? Without {PROBLEMS} only its order counts"
        return f"with {PROBLEMS} there too, questions are matched by their text, not by their order"


def _text_key(problem: Any, image: str) -> str:
    if not isinstance(problem, Mapping):
        return ""
    choices = problem.get("choices")
    parts = [
        text(problem, "question"),
        text(problem, "hint"),
        list(choices) if isinstance(choices, list) else [],
        problem.get("answer"),
        bool(problem.get(image)),
    ]
    return json.dumps(parts, default=str)


def _problem(row: Row, split: str) -> dict[str, Any]:
    return {
        **{column: text(row, column) for column in TEXTS},
        "choices": row.get("choices"),
        "answer": row.get("answer"),
        "image": IMAGE if image_bytes(row) else None,
        "split": split,
    }


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")
