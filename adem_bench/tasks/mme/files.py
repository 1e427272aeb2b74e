"""The MME_Benchmark_release_version tree: a folder per subtask, a text file of questions per image.

Five subtasks keep images and questions in two sub-folders, the other nine side by side; each
line of a text file is `question<TAB>Yes` or `question<TAB>No` (docs/method.md, section 11.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adem_bench.data.reading import SkippedRow, data_digest, missing
from adem_bench.files import read_text
from adem_bench.schemas import DataSource

TREE = "MME_Benchmark_release_version"
PNG_SUBTASKS = (
    "code_reasoning",
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
)
"""Released as PNG; the others as JPEG (eval_mme.py, task_meta)."""
NESTED_SUBTASKS = ("artwork", "celebrity", "landmark", "posters", "scene")
"""Released with images and questions in two sub-folders (docs/method.md, section 11.3)."""
IMAGES, QUESTIONS = "images", "questions_answers_YN"
"""Those folders."""
SUFFIXES = (".jpg", ".png", ".jpeg")


@dataclass(frozen=True, slots=True)
class MmeQuestion:
    """One question about one image."""

    subtask: str
    image: Path
    index: int
    """Place among the questions of the image, from 0."""
    question: str
    gold: str
    """`Yes` or `No`."""


class MmeFiles:
    """The tree below a data root; the data root may also be the tree itself."""

    def __init__(self, root: Path, subtasks: Sequence[str], source: DataSource) -> None:
        """Find the tree; nothing is read yet.

        Args:
            root: The data root, or the tree itself.
            subtasks: Those that are read, in order.
            source: Where the data is to be had, for messages.
        """
        self.source = source
        self.subtasks = tuple(dict.fromkeys(subtasks))
        inner = root / TREE
        is_tree = any((root / subtask).is_dir() for subtask in subtasks)
        self.folder = root if is_tree and not inner.is_dir() else inner

    def rows(self) -> Iterator[MmeQuestion | SkippedRow]:
        """Yield the questions subtask by subtask, files by name, malformed lines as `SkippedRow`.

        Raises:
            DataError: a subtask's folder or its files are missing.
        """
        self.check()
        for subtask in self.subtasks:
            for path in self._question_files(subtask):
                yield from self._questions(subtask, path)

    def check(self) -> None:
        """Refuse a tree that lacks a subtask.

        Raises:
            DataError: a subtask's folder or its files are missing.
        """
        for subtask in self.subtasks:
            if not self._question_files(subtask):
                what = "one .txt of questions next to (or below) each image of that subtask"
                raise missing(self.folder / subtask, what, self.source)

    def _question_files(self, subtask: str) -> list[Path]:
        folder = _either(self.folder / subtask, QUESTIONS)
        return sorted(
            path
            for path in folder.glob("*.txt")
            # macOS leaves `._name.txt` files behind when it unpacks.
            if not path.name.startswith(".") and path.is_file()
        )

    def _questions(self, subtask: str, path: Path) -> Iterator[MmeQuestion | SkippedRow]:
        place = f"{subtask}/{path.stem}"
        try:
            # Only line feeds part questions: other separators are characters of a question.
            lines = read_text(path).split("\n")
        except (OSError, ValueError) as error:
            yield SkippedRow(place, f"{subtask}/{path.name} cannot be read: {error}")
            return
        image = self._image(subtask, path.stem)
        filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not filled:
            yield SkippedRow(place, f"{subtask}/{path.name} holds no question")
        for index, (number, line) in enumerate(filled):
            question, _, gold = line.partition("\t")
            if gold.strip().lower() in ("yes", "no"):
                yield MmeQuestion(subtask, image, index, question, gold.strip())
            else:
                where = f"{subtask}/{path.name}, line {number}"
                yield SkippedRow(
                    f"{place}/{index}", f"{where}: expected `question<TAB>Yes` or `No`"
                )

    def _image(self, subtask: str, stem: str) -> Path:
        folder = _either(self.folder / subtask, IMAGES)
        published = ".png" if subtask in PNG_SUBTASKS else ".jpg"
        for suffix in (published, *SUFFIXES):
            if (folder / f"{stem}{suffix}").is_file():
                return folder / f"{stem}{suffix}"
        return folder / f"{stem}{published}"

    def digest(self) -> str:
        """Return a digest of question files and image listings; no image is opened."""
        self.check()
        files = [path for subtask in self.subtasks for path in self._question_files(subtask)]
        images = [
            self._image(subtask, path.stem)
            for subtask in self.subtasks
            for path in self._question_files(subtask)
        ]
        return data_digest(files, images, self.folder)


def _either(folder: Path, inner: str) -> Path:
    return folder / inner if (folder / inner).is_dir() else folder
