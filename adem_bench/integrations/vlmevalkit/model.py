"""ADEM-VL as VLMEvalKit's `BaseModel`; importing this module imports VLMEvalKit."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from vlmeval.dataset import DATASET_TYPE
from vlmeval.smp import concat_images_vlmeval
from vlmeval.vlm.base import BaseModel

from adem_bench.errors import CardError
from adem_bench.integrations.answering import (
    GENERAL,
    Answerer,
    caption_of,
    published_task,
    text_of,
    weights_for,
)
from adem_bench.records import Request, Sample

TASK_OF_TYPE = {"Y/N": "mme", "Caption": "coco_caption"}
"""VLMEvalKit's type of a data set to the task of ours whose published prompt suits it."""
SCIENCEQA = "ScienceQA_"
"""Its multiple choice is asked as ours is; that of other data sets ADEM-VL was not tuned on."""
REQUEST = "adem_request"
"""Key of a message's text under which `build_prompt` hands on what else belongs to the prompt."""
Message = list[dict[str, Any]]


class AdemVL(BaseModel):
    """A model card of ours, asked in the published prompts where there are any."""

    INTERLEAVE = False
    allowed_types = ["text", "image"]  # noqa: RUF012 - as the contract has it

    def __init__(
        self,
        model: str = "adem-7b",
        data_root: str | None = None,
        device: str = "auto",
        settings: Mapping[str, Any] | None = None,
        tasks: Mapping[str, str] | None = None,
        max_new_tokens: int = 128,
        several_images: Literal["first", "joined"] = "first",
    ) -> None:
        """Load a model.

        Args:
            model: Name or path of a model card.
            data_root: Folder whose `weights/` has what the card names.
            device: `auto`, `cpu`, `cuda`, …
            settings: Fields of the card to override, by dotted name.
            tasks: Name of a data set to the task of ours in whose prompts it is asked (`sqa`,
                `mme`, `coco_caption`), for data sets that VLMEvalKit does not know.
            max_new_tokens: Length of answers where no published prompt sets it.
            several_images: ADEM-VL reads one image. `first` takes the first, as VLMEvalKit does
                for such models; `joined` puts all side by side into one.

        Raises:
            AdemBenchError: no such card, or weights that are missing or do not fit.
        """
        super().__init__()
        if several_images not in ("first", "joined"):
            raise CardError(f"several_images must be first or joined, found {several_images!r}")
        self._answerer = Answerer(model, data_root, device, settings)
        self._tasks = dict(tasks or {})
        self._max_new_tokens = max_new_tokens
        self._several_images = several_images
        self._task = lru_cache(maxsize=None)(self._find_task)

    def use_custom_prompt(self, dataset: str | None) -> bool:
        """Return whether a published prompt suits the data set."""
        return self._task(dataset) is not None

    def build_prompt(self, line: Any, dataset: str) -> Message:
        """Return a row of a TSV as a message, in the published prompt of its task.

        Raises:
            CardError: no published prompt suits the data set.
        """
        task = self._task(dataset)
        if task is None:
            raise CardError(f"no published prompt suits {dataset}; name one in `tasks`")
        has_image = "image" in line or "image_path" in line
        images = _paths(self.dump_image(line, dataset)) if has_image else []
        sample = Sample("", _fields(line), reference=0, images=self._one(images))
        request = published_task(task).request(sample)
        message: Message = [{"type": "image", "value": str(path)} for path in request.images]
        message.append({"type": "text", "value": request.prompt, REQUEST: request})
        return message

    def generate_inner(self, message: Message, dataset: str | None = None) -> str:
        """Answer a message; a sample without an answer is reported in VLMEvalKit's own words."""
        asked = [item[REQUEST] for item in message if REQUEST in item]
        task = self._task(dataset)
        if not asked or task is None:
            request = self._instruction(message, dataset)
            return text_of(self._answerer.answer([request], GENERAL)[0])
        response = self._answerer.answer([asked[0]], weights_for(task))[0]
        return caption_of(task, text_of(response))

    def _instruction(self, message: Message, dataset: str | None) -> Request:
        """Return texts and images of any message as one instruction."""
        if self._several_images == "first":
            prompt, image = self.message_to_promptimg(message, dataset)
            images: Sequence[Path] = [Path(image)] if image else []
        else:
            prompt = "\n".join(item["value"] for item in message if item["type"] == "text")
            images = self._one([Path(item["value"]) for item in message if item["type"] == "image"])
        return self._answerer.instruction(prompt.strip(), images, self._max_new_tokens)

    def _one(self, images: list[Path]) -> tuple[Path, ...]:
        """Return at most one image for several."""
        if len(images) > 1 and self._several_images == "joined":
            return (Path(concat_images_vlmeval([str(path) for path in images])),)
        return tuple(images[:1])

    def _find_task(self, dataset: str | None) -> str | None:
        if not dataset:
            return None
        if dataset in self._tasks:
            return self._tasks[dataset]
        if dataset.startswith(SCIENCEQA):
            return "sqa"
        return TASK_OF_TYPE.get(DATASET_TYPE(dataset))


def _fields(line: Any) -> dict[str, Any]:
    """Return a row as the fields that our tasks render prompts of; captions are not in a TSV."""
    choices = [_text(line, letter) for letter in string.ascii_uppercase if letter in line]
    # An empty option between others (pandas reads "None" as one) keeps its letter.
    while choices and not choices[-1]:
        choices.pop()
    return {
        "question": _text(line, "question"),
        "choices": tuple(choices),
        "hint": _text(line, "hint"),
        "caption": "",
        "lecture": "",
        "solution": "",
    }


def _text(line: Any, column: str) -> str:
    value = line.get(column)
    # An empty cell is a NaN, the one value that differs from itself.
    return "" if value is None or value != value else str(value)


def _paths(found: str | Sequence[str]) -> list[Path]:
    """Return what VLMEvalKit calls one path or several as a list."""
    return [Path(found)] if isinstance(found, str) else [Path(path) for path in found]
