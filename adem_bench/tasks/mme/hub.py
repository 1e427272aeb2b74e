"""MME as lmms-lab/MME has it, by question: question_id, image, question, answer, category."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from adem_bench.data.hub.layout import image_bytes, put, safe_part, suffix_of, text
from adem_bench.data.hub.rows import HubRows
from adem_bench.errors import DataError
from adem_bench.schemas import TaskCard
from adem_bench.tasks.mme.files import IMAGES, NESTED_SUBTASKS, QUESTIONS, SUFFIXES, TREE

COLUMNS = ("question_id", "image", "question", "answer", "category")


class MmeLayout:
    """The release's tree: `question_id` is subtask and image, questions keep their order."""

    annotations: tuple[Path, ...] = ()

    def __init__(self, card: TaskCard, data_root: Path) -> None:
        self.key = card.split

    def write(self, folder: Path, rows: HubRows) -> None:
        """Write a text file of questions per image, and the image once.

        Raises:
            DataError: a row has no image name or category that a file can have.
        """
        lines: dict[Path, list[str]] = {}
        for number, row in enumerate(rows.rows(rows.split([self.key]), COLUMNS)):
            subtask = safe_part(text(row, "category"), f"row {number}: category", rows)
            name = PurePosixPath(text(row, "question_id")).name
            name = safe_part(name, f"row {number}: question_id", rows)
            ending = PurePosixPath(name).suffix.lower()
            stem = name[: -len(ending)] if ending in SUFFIXES else name
            home, is_nested = folder / TREE / subtask, subtask in NESTED_SUBTASKS
            questions = (home / QUESTIONS if is_nested else home) / f"{stem}.txt"
            if questions not in lines:
                data = image_bytes(row)
                if data:
                    suffix = ending if ending in SUFFIXES else suffix_of(data)
                    put((home / IMAGES if is_nested else home) / f"{stem}{suffix}", data)
            question = " ".join(text(row, "question").splitlines())
            lines.setdefault(questions, []).append(f"{question}\t{text(row, 'answer')}")
        if not lines:
            raise DataError(f"{rows.name} has no row; expected MME's questions")
        for path, found in lines.items():
            put(path, "".join(f"{line}\n" for line in found).encode("utf-8", errors="replace"))
