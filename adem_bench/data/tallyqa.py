"""TallyQA: how many; simple questions of objects alone, complex ones of their relations too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adem_bench.data.questions import Question, QuestionFiles, numbered, one_of, text, whole
from adem_bench.data.reading import BadRowError
from adem_bench.data.streaming import array_items


class TallyQaFiles(QuestionFiles):
    """One list of questions; image names start with a folder, such as `VG_100K/`."""

    holds = "TallyQA's questions, a list of {image, question, answer, issimple, question_id}"
    splits = ("test", "train")
    groups = ("simple", "complex")
    image_folders = ("tallyqa", "download/tally-qa")
    has_whole_ids = True

    def _files(self) -> list[Path]:
        name = f"{self.split}.json"
        return [self.find(f"tallyqa/{name}", f"download/tally-qa/{name}")]

    def _raw_rows(self) -> Iterator[tuple[str, Any]]:
        return numbered(array_items(self.main_file, "", self.holds, self.source))

    def _read(self, place: str, raw: Mapping[str, Any]) -> Question:
        # The train file has no `issimple`: it was put together of other sets.
        simple = raw.get("issimple", False if self.split == "train" else None)
        if not isinstance(simple, bool):
            raise BadRowError(f"`issimple` must be true or false, found {simple!r:.60}")
        return _question(raw, self.image(raw.get("image")), "simple" if simple else "complex")

    def _read_index(self, place: str, raw: Mapping[str, Any]) -> Question:
        return _question(raw, self.indexed_image(raw), one_of(raw, "split", self.groups))


def _question(raw: Mapping[str, Any], image: Path, group: str) -> Question:
    # A text: a whole number would be the index of an option.
    number, answer = str(whole(raw, "question_id")), str(whole(raw, "answer"))
    return Question(number, text(raw, "question"), answer, image, (group,), suite_id=number)
