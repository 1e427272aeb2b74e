"""Token sequences as the published code builds them: plain lists in, plain lists out.

A row is `BOS, prefix, [class token], prompt`; the prefix says whether there is an image.
Source: ADEM-VL cec09b8 `adem/model.py:232-266` (training) and `:318-357` (generation),
docs/method.md, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adem_bench.errors import CardError
from adem_bench.models.fused.tokenizer import Tokenizer

IMAGE_PREFIX = "Image: "
NO_IMAGE_PREFIX = "Image: N/A"
PLACEHOLDER_ID = 0
"""Id that stands where the class token's embedding goes; `<unk>` in LLaMA's vocabulary."""
IGNORED_LABEL = 0
"""The published loss ignores this label, a genuine `<unk>` included."""


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt ready for the model."""

    ids: list[int]
    class_token_at: int | None
    """Index whose embedding the class token replaces; None where it replaces none."""
    overflowed: bool = False
    """Whether the prompt was cut to fit."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A prompt with its answer, spliced and cut to the recipe's length; not padded."""

    ids: Sequence[int]
    supervised_from: int
    """First position whose id is a label too; all from there on are, and none before."""

    @property
    def labels(self) -> list[int]:
        """One label a position, as the published loss reads them."""
        start = min(self.supervised_from, len(self.ids))
        return [IGNORED_LABEL] * start + list(self.ids[start:])

    @property
    def is_supervised(self) -> bool:
        """Whether the loss reads any position; a prompt that fills the row leaves none (Q25)."""
        return any(label != IGNORED_LABEL for label in self.ids[self.supervised_from :])


class SequenceBuilder:
    """Builds rows for one tokenizer and one setting of the method."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        cls_token: bool,
        max_length: int = 512,
        fix_overflow: bool = False,
    ) -> None:
        """Tokenize the prefixes.

        Args:
            tokenizer: Of the language model.
            cls_token: Whether rows carry a prefix and, with an image, the class token.
            max_length: Most tokens of prompt and answer together (published: 512).
            fix_overflow: Cut the start of prompts that are too long and keep the class token,
                instead of the published cut of their end (Q9).
        """
        self.tokenizer = tokenizer
        self.cls_token = cls_token
        self.max_length = max_length
        self.fix_overflow = fix_overflow
        self._image_prefix = [*tokenizer.encode(IMAGE_PREFIX), PLACEHOLDER_ID] if cls_token else []
        self._no_image_prefix = tokenizer.encode(NO_IMAGE_PREFIX) if cls_token else []

    def prefix(self, has_image: bool) -> list[int]:
        """Return what follows BOS; with an image its last id is the placeholder."""
        return self._image_prefix if has_image else self._no_image_prefix

    @property
    def class_token_at(self) -> int:
        """Index of the class token in an uncut row with an image."""
        return len(self._image_prefix)

    def prompt(self, text: str, has_image: bool, max_new_tokens: int) -> PromptRow:
        """Return the row of a prompt, leaving room for `max_new_tokens`.

        A row that does not fit loses its end, as published. The class token is then written
        as many places too early as the row is too long, and not at all where that would be
        at BOS or before (Q9).

        Raises:
            CardError: the answer alone fills the row.
        """
        head = [self.tokenizer.bos_id, *self.prefix(has_image)]
        ids = head + self.tokenizer.encode(text)
        room = self.max_length - max_new_tokens
        if room < 1:
            raise CardError(
                f"{max_new_tokens} new tokens leave no room for a prompt in {self.max_length}; ask "
                "for fewer, or set max_sequence_length of the model's card"
            )
        excess = max(0, len(ids) - room)
        at = self.class_token_at if has_image and self.cls_token else None
        if excess and self.fix_overflow:
            ids = head + ids[len(head) + excess :]
        elif excess:
            ids = ids[:room]
            at = None if at is None or at - excess < 1 else at - excess
        return PromptRow(ids, at, overflowed=excess > 0)

    def training(self, prompt: str, answer: str, has_image: bool) -> TrainingRow:
        """Return a prompt with its answer.

        The label mask covers as many tokens as the prompt alone has, even where the joint
        text merges across the boundary. The row is cut before the prefix is inserted after BOS
        and once more after it (Q12): long rows lose their end, EOS included.
        """
        bos, eos = self.tokenizer.bos_id, self.tokenizer.eos_id
        ids = [bos, *self.tokenizer.encode(prompt + answer), eos][: self.max_length]
        prefix = self.prefix(has_image)
        spliced = [bos, *prefix, *ids[1:]][: self.max_length]
        return TrainingRow(spliced, 1 + len(prefix) + len(self.tokenizer.encode(prompt)))
