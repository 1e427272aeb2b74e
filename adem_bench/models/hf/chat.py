"""Requests as a model's chat template writes them, and how many tokens they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from adem_bench.errors import MOST_SAID, CheckpointError, lacks_memory
from adem_bench.images import UnreadableImageError, shown_size
from adem_bench.models.hf.architectures import OPEN_PROMPTS, WRITES_PLACEHOLDERS
from adem_bench.prompts import whole
from adem_bench.records import Part, Request

PROBE_SIDES = (224, 224)
"""Pixels of the blank images by which a processor is asked how it works."""
MOST_RENDERED = 1 << 20
"""Characters that a template may add to a message."""
STEP, MAX_SIDE = 128, 4096
"""Image sides are rounded up to a multiple of `STEP` pixels, and counted up to `MAX_SIDE`."""


class Prompts:
    """Renders and measures the prompts of one model."""

    def __init__(self, processor: Any, system: str = "", model_type: str = "") -> None:
        """Use a processor's template, with a system message where there is one.

        Args:
            processor: With tokenizer and image processor.
            system: The message; empty for none.
            model_type: As the model's configuration says.
        """
        self._processor = processor
        self._system = system
        names = ("image_token", "boi_token")  # Kosmos-2 has the second alone
        tokens = [str(getattr(processor, name, "") or "") for name in names]
        self._placeholder = tokens[0] or tokens[1]
        tokenizer = processor.tokenizer
        self._start = str(tokenizer.cls_token) if model_type in OPEN_PROMPTS else ""
        self._written = self._placeholder
        if model_type in WRITES_PLACEHOLDERS or self._writes_placeholder():
            self._written = ""
        self._of_size = lru_cache(maxsize=None)(self._count_image)
        self._of_file = lru_cache(maxsize=1 << 16)(self._count_file)

    def _writes_placeholder(self) -> bool:
        """Return whether the processor refuses a plain prompt unless it puts images in itself."""
        if self.has_template or not self._placeholder:
            return False
        return self.measured(1) is None and self.measured(1, written="") is not None

    def measured(self, images: int, written: str | None = None) -> int | None:
        """Return how many tokens a short prompt with blank images has; None if it is refused.

        Args:
            images: How many.
            written: What a plain prompt has for each; None for the usual.
        """
        from PIL import Image

        before, self._written = self._written, self._written if written is None else written
        try:
            text = self.render("a", images)
            batch = self.inputs([text], [[Image.new("RGB", PROBE_SIDES) for _ in range(images)]])
            return int(batch["input_ids"].shape[1])
        except Exception:  # noqa: BLE001 - processors of any origin, for what they are not made for
            return None
        finally:
            self._written = before

    @property
    def has_template(self) -> bool:
        """Whether the model was tuned on chats; else prompts go in as they are."""
        return getattr(self._processor, "chat_template", None) is not None

    def check(self, name: str) -> None:
        """Refuse a template that leaves out what is asked of a model of some name.

        Raises:
            CheckpointError: it does.
        """
        try:
            texts = {self.render(word, 1) for word in ("one", "two")}
        except CheckpointError:
            return  # it says so when it is its turn
        if len(texts) == 1:
            raise CheckpointError(
                f"model {name}: its chat template leaves out what is asked; put the model's own "
                "there"
            )

    def fault(self, request: Request) -> str | None:
        """Return why a request cannot be asked: its text has a token that stands for images."""
        texts = (request.prompt, *(part.text for part in request.parts))
        if self._placeholder and any(self._placeholder in text for text in texts):
            return f"the prompt contains {self._placeholder!r}, which stands for an image here"
        return None

    def text(self, request: Request) -> str:
        """Return the text that a model continues for a request; errors are those of `render`."""
        return self.render(request.prompt, len(request.images), request.parts)

    def images(self, request: Request) -> Sequence[Path]:
        """Return a request's images in the order in which its text shows them."""
        if not (request.parts and self.has_template):
            return request.images
        return [request.images[part.image] for part in request.parts if part.image is not None]

    def render(self, prompt: str, images: int, parts: Sequence[Part] = ()) -> str:
        """Return the text that a model continues: images first, then the prompt.

        Args:
            prompt: The user's message.
            images: How many stand before it.
            parts: The conversation in order, where it is more than that; only models with a
                template are told of it.

        Raises:
            CheckpointError: the chat template is broken, or refuses system messages.
        """
        prompt = whole(prompt)
        if not self.has_template:
            return self._start + self._written * images + prompt
        parts = parts or [*(Part(image=index) for index in range(images)), Part(prompt)]
        chat: list[dict[str, Any]] = []
        for part in parts:
            if not chat or chat[-1]["role"] != part.role:
                chat.append({"role": part.role, "content": []})
            said = (
                {"type": "text", "text": whole(part.text)}
                if part.image is None
                else {"type": "image"}
            )
            chat[-1]["content"].append(said)
        if self._system and chat[0]["role"] != "system":
            first = {"role": "system", "content": [{"type": "text", "text": self._system}]}
            chat.insert(0, first)
        try:
            rendered: str = self._processor.apply_chat_template(
                chat, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template is a program: it may divide by 0
            if lacks_memory(error):
                raise
            kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
            raise CheckpointError(
                f"the model's chat template refuses a message: {kind}{str(error)[:MOST_SAID]}; a "
                "template without system messages is one cause (options.system)"
            ) from error
        if len(rendered) > MOST_RENDERED + sum(len(part.text) for part in parts):
            raise CheckpointError(
                f"the model's chat template makes {len(rendered):,} characters of a message; put "
                "the model's own template there"
            )
        return rendered

    def inputs(self, texts: Sequence[str], images: Sequence[Sequence[Any]]) -> Any:
        """Return a batch, padded on the left, as the network takes it.

        Args:
            texts: B rendered texts.
            images: The images of each, in order; all rows have some, or none has.

        Raises:
            ValueError: the processor refuses an image (its shape, say).
        """
        start = self._start or self._processor.tokenizer.bos_token
        return self._processor(
            text=list(texts),
            images=[list(row) for row in images] if images[0] else None,
            padding=True,
            return_tensors="pt",
            # A template that writes the start token must not get another one.
            add_special_tokens=not (start and texts[0].startswith(start)),
        )

    def continuation(self, text: str, choice: str) -> list[int]:
        """Return the ids that a choice adds behind a rendered text.

        A space in front of it is dropped where the text ends in white space or a special token:
        there an answer starts without one.
        """
        tokenizer = self._processor.tokenizer
        at_start = text[-1:].isspace() or text.endswith(tuple(tokenizer.all_special_tokens))
        added = choice.lstrip() if at_start else choice
        before, joined = self._ids(text), self._ids(text + added)
        is_prefix = joined[: len(before)] == before and len(joined) > len(before)
        return joined[len(before) :] if is_prefix else self._ids(added)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._processor.tokenizer(whole(text), add_special_tokens=False)[
            "input_ids"
        ]
        return ids

    def count(self, request: Request) -> int:
        """Return about how many tokens a prompt is, with its images."""
        return self.count_text(request) + sum(self._of_file(path) for path in request.images)

    def count_text(self, request: Request) -> int:
        """Return how many tokens a prompt is without its images."""
        try:
            words = [part for part in request.parts if part.image is None]
            return len(self._ids(self.render(request.prompt, 0, words)))
        except CheckpointError:  # a template may want an image, and says so when it is its turn
            return len(self._ids(request.prompt))

    def _count_file(self, path: Path) -> int:
        try:
            sides = shown_size(path)
        except UnreadableImageError:
            return 0  # it fails when it is its turn
        width, height = (min(MAX_SIDE, -(-side // STEP) * STEP) for side in sides)
        return self._of_size(width, height)

    def _count_image(self, width: int, height: int) -> int:
        """Return the tokens of an image, by having the processor read a blank one."""
        from PIL import Image

        try:
            batch = self.inputs([self.render("", 1)], [[Image.new("RGB", (width, height))]])
            return max(0, int(batch["input_ids"].shape[1]) - len(self._ids(self.render("", 0))))
        except Exception as error:  # processors raise anything over settings of theirs
            if lacks_memory(error):
                raise
            return 0  # it fails when it is its turn
