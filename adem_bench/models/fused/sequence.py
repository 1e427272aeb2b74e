"""Token sequences as the published code builds them: plain lists in, plain lists out.

A row is `BOS, prefix, image tokens, prompt`; what stands between BOS and prompt is the method's. A
card may have a chat template in place of BOS; its rest then follows the prompt.
Source: ADEM-VL cec09b8 `adem/model.py:232-266` (training) and `:318-357` (generation),
docs/method.md, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adem_bench.errors import CardError
from adem_bench.models.fused.tokenizer import Tokenizer

PLACEHOLDER_ID = 0
"""Id that stands where the embedding of an image token goes; `<unk>` in LLaMA's vocabulary."""
IGNORED_LABEL = -100
"""Label of a position that the loss does not count."""


@dataclass(frozen=True, slots=True)
class InputLayout:
    """What a method puts between the first token and the prompt."""

    image_prefix: str = ""
    """Text of rows with an image, before the image tokens."""
    no_image_prefix: str = ""
    """Text of rows without."""
    image_tokens: int = 0
    """K, embeddings of an image that stand behind `image_prefix`."""
    reserved: int = 0
    """Positions of a training row that the published code gives to something else."""


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt ready for the model."""

    ids: list[int]
    image_tokens_at: int | None
    """Index of the first embedding that an image token replaces; None where none is replaced."""
    max_new_tokens: int | None = None
    """Most new tokens of this row, where its length leaves fewer than were asked for."""
    notes: tuple[str, ...] = ()
    """What was done to a prompt that did not fit: numbers of quirks, or `cut`."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A prompt with its answer, spliced and cut to the recipe's length; not padded."""

    ids: Sequence[int]
    supervised_from: int
    """First position whose id is a label too; none before is."""
    unlearned_id: int | None = None
    """Id that is no label wherever it stands: the published loss ignores a genuine `<unk>`."""

    @property
    def labels(self) -> list[int]:
        """One label per position, `IGNORED_LABEL` where the loss counts none."""
        start = min(self.supervised_from, len(self.ids))
        learned = [IGNORED_LABEL if id == self.unlearned_id else id for id in self.ids[start:]]
        return [IGNORED_LABEL] * start + learned

    @property
    def is_supervised(self) -> bool:
        """Whether the loss reads any position; a prompt that fills the row leaves none (Q25)."""
        return any(id != self.unlearned_id for id in self.ids[self.supervised_from :])


class SequenceBuilder:
    """Builds rows for one tokenizer and one method."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        layout: InputLayout,
        max_length: int = 512,
        cut: Callable[[PromptRow, int, int], PromptRow] | None = None,
    ) -> None:
        """Tokenize the prefixes.

        Args:
            tokenizer: Of the language model.
            layout: What the method puts in front of the prompt.
            max_length: Most tokens of prompt and answer together (published: 512).
            cut: The method's `cut_prompt`. None cuts the start of the prompt and keeps the image
                tokens (the fix of Q9).
        """
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._cut = cut
        self._begin = list(tokenizer.begin_ids)
        self._image_tokens, self._reserved = layout.image_tokens, layout.reserved
        placeholders = [PLACEHOLDER_ID] * layout.image_tokens
        self._image_prefix = [*_encoded(tokenizer, layout.image_prefix), *placeholders]
        self._no_image_prefix = _encoded(tokenizer, layout.no_image_prefix)

    def prefix(self, has_image: bool) -> list[int]:
        """Return what precedes the prompt; with an image its last ids are the placeholders."""
        return self._image_prefix if has_image else self._no_image_prefix

    @property
    def image_tokens_at(self) -> int:
        """Index of the first image token in an uncut row with an image."""
        return len(self._begin) + len(self._image_prefix) - self._image_tokens

    def prompt(self, text: str, has_image: bool, max_new_tokens: int) -> PromptRow:
        """Return the row of a prompt, leaving room for `max_new_tokens`.

        Args:
            text: The prompt.
            has_image: Whether the row has one.
            max_new_tokens: At least 1.

        Raises:
            CardError: the answer alone fills the row.
        """
        head = [*self._begin, *self.prefix(has_image)]
        ids = head + self.tokenizer.encode(text + self.tokenizer.after_prompt)
        room = self.max_length - max_new_tokens
        if room < 1:
            raise CardError(
                f"{max_new_tokens} new tokens leave no room for a prompt in {self.max_length}; ask "
                "for fewer, or set max_sequence_length of the model's card"
            )
        at = self.image_tokens_at if has_image and self._image_tokens else None
        row = PromptRow(ids, at)
        if len(ids) <= room:
            return row
        if self._cut is not None:
            return self._cut(row, self.max_length, max_new_tokens)
        return PromptRow(head + ids[len(head) + len(ids) - room :], at, notes=("Q9",))

    def training(self, prompt: str, answer: str, has_image: bool) -> TrainingRow:
        """Return a prompt with its answer.

        The label mask covers as many tokens as the prompt alone has, even where the joint
        text merges across the boundary. The row is cut before the prefix is inserted after BOS
        and once more after it (Q12): long rows lose their end, EOS included.

        Args:
            prompt: Without the method's prefix.
            answer: What is learned, followed by EOS.
            has_image: Whether the row has one.
        """
        begin, encode = self._begin, self.tokenizer.encode
        asked = prompt + self.tokenizer.after_prompt
        ids = [*begin, *encode(asked + answer), self.tokenizer.eos_id][: self.max_length]
        prefix = self.prefix(has_image)
        spliced = [*begin, *prefix, *ids[len(begin) :]][: self.max_length - self._reserved]
        start = len(begin) + len(prefix) + len(encode(asked))
        return TrainingRow(spliced, start, self.tokenizer.unlearned_id)


def _encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    # Tokenizers may make something even of nothing.
    return tokenizer.encode(text) if text else []
