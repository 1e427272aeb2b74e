"""ScienceQA's official files: problems.json, pid_splits.json, captions.json, images/.

They lie in `scienceqa/` below the data root, or in the data root itself as ADEM-VL has them
(eval_sqa.py); captions.json may also lie one folder higher, as in the ScienceQA repository.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adem_bench.data.reading import (
    RowError,
    SkippedRow,
    broken,
    data_digest,
    is_safe_name,
    load_json,
)
from adem_bench.errors import CardError, nearest_hint
from adem_bench.schemas import DataSource

PROBLEMS, SPLITS, CAPTIONS = "problems.json", "pid_splits.json", "captions.json"
PROBLEMS_HOLD = "ScienceQA's problems, an object of question ids"
SPLITS_HOLD = "ScienceQA's splits, an object of lists of question ids"
CAPTIONS_HOLD = "an object with `captions`, a text for each question id"
IMAGE_FOLDERS = ("train", "val", "test")
MAX_CHOICES = 5
"""Options are lettered A to E (eval_sqa.py, PromptArgs)."""


@dataclass(frozen=True, slots=True)
class ScienceQAProblem:
    """One question."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    """Index into `choices`."""
    hint: str
    caption: str
    """Machine-made caption of the image; empty without one."""
    lecture: str
    solution: str
    subject: str
    grade: str
    image: Path | None


class ScienceQAFiles:
    """The files below a data root, read when first needed."""

    def __init__(self, root: Path, source: DataSource) -> None:
        self.source = source
        inner = root / "scienceqa"
        self.folder = root if (root / PROBLEMS).is_file() and not inner.is_dir() else inner

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """Question ids of every split, in order.

        Raises:
            DataError: pid_splits.json is missing or malformed.
        """
        path = self.folder / SPLITS
        splits = load_json(path, SPLITS_HOLD, self.source)
        if not isinstance(splits, dict) or not all(
            isinstance(ids, list) for ids in splits.values()
        ):
            raise broken(path, SPLITS_HOLD, "something else", self.source)
        return {name: [str(qid) for qid in ids] for name, ids in splits.items()}

    @cached_property
    def problems(self) -> Mapping[str, Any]:
        """Raw problems by question id.

        Raises:
            DataError: problems.json is missing or malformed.
        """
        path = self.folder / PROBLEMS
        problems = load_json(path, PROBLEMS_HOLD, self.source)
        if not isinstance(problems, dict) or not problems:
            found = "no problems" if problems == {} else f"a {type(problems).__name__}"
            raise broken(path, PROBLEMS_HOLD, found, self.source)
        return problems

    @cached_property
    def captions(self) -> Mapping[str, Any]:
        """Captions by question id; ids without one are left out.

        Raises:
            DataError: captions.json is missing or malformed.
        """
        path = self.captions_path
        data = load_json(path, CAPTIONS_HOLD, self.source)
        captions = data.get("captions") if isinstance(data, dict) else None
        if not isinstance(captions, dict):
            raise broken(path, CAPTIONS_HOLD, "no `captions` in it", self.source)
        return captions

    def ids(self, split: str) -> list[str]:
        """Return the question ids of a split.

        Raises:
            CardError: no such split.
            DataError: a file is missing or malformed.
        """
        # The main file first, so that a data set that is not there is named by it.
        known = self.splits if self.problems else {}
        if split not in known:
            raise CardError(f"unknown split {split!r} of ScienceQA{nearest_hint(split, known)}")
        return known[split]

    @property
    def captions_path(self) -> Path:
        """Where captions.json lies, or should lie."""
        above = self.folder.parent / CAPTIONS
        here = self.folder / CAPTIONS
        return above if above.is_file() and not here.is_file() else here

    def rows(self, split: str, with_captions: bool) -> Iterator[ScienceQAProblem | SkippedRow]:
        """Yield the problems of a split in its order, malformed ones as `SkippedRow`.

        Raises:
            CardError: no such split.
            DataError: a file is missing or malformed, or holds no problem of the split.
        """
        ids = self.ids(split)
        captions = self.captions if with_captions else {}
        if not any(qid in self.problems for qid in ids):
            path = self.folder / PROBLEMS
            raise broken(path, PROBLEMS_HOLD, f"no problem of split {split} in it", self.source)
        seen: set[str] = set()
        for number, qid in enumerate(ids):
            if qid in seen:
                yield SkippedRow(f"{qid}#{number}", f"{SPLITS}: id {qid} stands twice in {split}")
                continue
            seen.add(qid)
            try:
                yield self._problem(qid, split, captions.get(qid, ""))
            except RowError as error:
                yield SkippedRow(qid, f"{PROBLEMS}, question {qid}: {error}")

    def _problem(self, qid: str, split: str, caption: object) -> ScienceQAProblem:
        if qid not in self.problems:
            raise RowError("no such question")
        raw = self.problems[qid]
        if not isinstance(raw, dict):
            raise RowError(f"expected an object, found {type(raw).__name__}")
        choices, answer = raw.get("choices"), raw.get("answer")
        if not isinstance(choices, list) or not 1 <= len(choices) <= MAX_CHOICES:
            raise RowError(f"`choices` must be a list of 1 to {MAX_CHOICES} texts")
        if not all(isinstance(choice, str) for choice in choices):
            raise RowError("`choices` must hold texts only")
        if type(answer) is not int or not 0 <= answer < len(choices):
            raise RowError(f"`answer` must be the index of a choice, found {answer!r}")
        if not isinstance(raw.get("question"), str):
            raise RowError("`question` must be a text")
        return ScienceQAProblem(
            id=qid,
            question=raw["question"],
            choices=tuple(choices),
            answer=answer,
            hint=_text(raw, "hint"),
            caption=_text({"caption": caption}, "caption"),
            lecture=_text(raw, "lecture"),
            solution=_text(raw, "solution"),
            subject=_text(raw, "subject"),
            grade=_text(raw, "grade"),
            image=self._image(qid, raw, split),
        )

    def _image(self, qid: str, raw: Mapping[str, Any], split: str) -> Path | None:
        name = raw.get("image")
        if not name:
            return None
        for part in (name, qid):
            if not is_safe_name(part) or "/" in part:
                raise RowError(f"image {name!r} of question {qid!r} leaves the image folder")
        folder = raw.get("split", split)
        if folder not in IMAGE_FOLDERS:
            raise RowError(f"`split` must be one of {', '.join(IMAGE_FOLDERS)}")
        return self.folder / "images" / str(folder) / qid / str(name)

    def digest(self, split: str, with_captions: bool) -> str:
        """Return a digest of the files that a split is read from; no image is opened."""
        annotations = [self.folder / PROBLEMS, self.folder / SPLITS]
        if with_captions:
            annotations.append(self.captions_path)
        rows = self.rows(split, with_captions)
        images = [row.image for row in rows if isinstance(row, ScienceQAProblem) and row.image]
        return data_digest(annotations, images, self.folder)


def _text(raw: Mapping[str, Any], field: str) -> str:
    value = raw.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError(f"`{field}` must be a text, found {type(value).__name__}")
    return value
