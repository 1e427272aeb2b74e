"""ADEM-VL as a simple model of lmms-eval; importing this module imports lmms-eval."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lmms_eval.api.model import lmms

from adem_bench.integrations.answering import (
    GENERAL,
    Answerer,
    Weights,
    text_of,
    weights_for,
)
from adem_bench.integrations.lmms_eval.documents import TASK, request_of
from adem_bench.records import Request, Response

AT_ONCE = 1024
"""Questions that are ordered by length at a time; their images lie on disk meanwhile."""


class AdemLmms(lmms):
    """A model card of ours. Our tasks are asked as `adem-bench run` asks them."""

    is_simple = True

    def __init__(
        self,
        model: str = "adem-7b",
        data_root: str | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        max_new_tokens: int = 128,
        **settings: Any,
    ) -> None:
        """Load a model.

        Args:
            model: Name or path of a model card.
            data_root: Folder whose `weights/` has what the card names.
            device: `cpu`, `cuda`, …; by default a GPU of this process's own, if there is one.
            batch_size: Not heeded: batches are made as in `adem-bench run`.
            max_batch_size: Not heeded either.
            max_new_tokens: Length of answers where a task does not set it.
            settings: Fields of the card to override, by dotted name.

        Raises:
            AdemBenchError: no such card, or weights that are missing or do not fit.
        """
        super().__init__()
        chosen = device or _own_device()
        self.device = torch.device("cpu" if chosen == "auto" else chosen)
        self._answerer = Answerer(str(model), data_root, chosen, settings)
        self._max_new_tokens = max_new_tokens

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return one text per request, in order; a text that says so where there is no answer."""
        from tqdm import tqdm

        texts: list[str] = []
        with tqdm(total=len(requests), desc="adem", disable=self.rank != 0) as progress:
            for start in range(0, len(requests), AT_ONCE):
                part = requests[start : start + AT_ONCE]
                texts += self._part(part)
                progress.update(len(part))
        return texts

    def _part(self, instances: Sequence[Any]) -> list[str]:
        responses: dict[int, Response] = {}
        asked: dict[Weights, dict[int, Request]] = {}
        with TemporaryDirectory(prefix="adem-bench-") as folder:
            for place, instance in enumerate(instances):
                try:
                    weights, request = self._request(instance.args, Path(folder))
                    asked.setdefault(weights, {})[place] = request
                except Exception as error:  # noqa: BLE001 - a task's own code, and any image
                    responses[place] = Response("", error=f"{type(error).__name__}: {error}")
            for weights, found in asked.items():
                answers = self._answerer.answer(list(found.values()), weights)
                responses |= zip(found, answers, strict=True)
        texts = [text_of(responses[place]) for place in range(len(instances))]
        return [_cut(text, each.args[1]) for text, each in zip(texts, instances, strict=True)]

    def _request(self, arguments: Sequence[Any], folder: Path) -> tuple[Weights, Request]:
        """Return a request of lmms-eval as one of ours, and the weights for it."""
        context, settings, doc_to_visual, doc_id, task, split = arguments
        document = self.task_dict[task][split][doc_id]
        if TASK in document and document["prompt"] == context:
            return weights_for(document[TASK]), request_of(document)
        images = [_on_disk(visual, folder) for visual in _flat(doc_to_visual(document))]
        most = settings.get("max_new_tokens") or self._max_new_tokens
        return GENERAL, self._answerer.instruction(context.strip(), images, int(most))

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse: this model only writes.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("adem answers generate_until tasks only, no loglikelihood")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: ADEM-VL was tuned on single questions.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("adem answers single questions only, no multi-round tasks")


def _own_device() -> str:
    """Return the GPU of this process under accelerate or torchrun."""
    local_rank = os.environ.get("LOCAL_RANK")
    if local_rank is None or not torch.cuda.is_available():
        return "auto"
    return f"cuda:{int(local_rank) % torch.cuda.device_count()}"


def _flat(visuals: Any) -> Iterable[Any]:
    """Yield what a task's doc_to_visual returned: nothing, one thing, or a list."""
    if visuals is None:
        return []
    return visuals if isinstance(visuals, list | tuple) else [visuals]


def _on_disk(visual: Any, folder: Path) -> Path:
    """Return the file of an image; equal images share one, and with it one visual memory."""
    if isinstance(visual, str):
        return Path(visual)
    if not hasattr(visual, "tobytes"):
        raise TypeError(f"ADEM-VL sees images only, not {type(visual).__name__}")
    image = visual.convert("RGB")
    digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
    path = folder / f"{digest}.png"
    if not path.exists():
        image.save(path, compress_level=1)
    return path


def _cut(text: str, settings: Mapping[str, Any]) -> str:
    """Return a text up to the first of the task's stop strings."""
    stops = settings.get("until") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0] if stop else text
    return text
