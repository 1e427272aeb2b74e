"""Text to token ids: SentencePiece as LLaMA ships it, or a Hugging Face tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from sentencepiece import SentencePieceProcessor

from adem_bench.errors import CheckpointError

TOKENIZER_NAME = "tokenizer.model"
BLANKS = ("\N{LOWER ONE EIGHTH BLOCK}", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}")
"""What stands for a blank in the tokens of SentencePiece and of byte-level BPE."""


class Tokenizer(Protocol):
    """What the model needs of a tokenizer."""

    bos_id: int
    eos_id: int
    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without any special token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; a blank in front of it is dropped."""
        ...

    def begins_with_blank(self, token: int) -> bool:
        """Return whether a token begins a word: behind other text it is set off by a blank."""
        ...


class SentencePieceTokenizer:
    """`tokenizer.model` read directly.

    Transformers' LlamaTokenizer treats trailing spaces and the dummy prefix differently, which
    moves label boundaries and answers.
    """

    def __init__(self, path: Path) -> None:
        """Read the model.

        Raises:
            CheckpointError: the file is not a SentencePiece model.
        """
        try:
            self._processor = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path} is not a SentencePiece model: {error}") from error
        self.bos_id = int(self._processor.bos_id())
        self.eos_id = int(self._processor.eos_id())
        self.vocab_size = int(self._processor.vocab_size())

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without any special token."""
        return list(self._processor.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; the leading dummy space is dropped."""
        return str(self._processor.decode(list(ids)))

    def begins_with_blank(self, token: int) -> bool:
        """Return whether a token begins a word: behind other text it is set off by a blank."""
        return str(self._processor.id_to_piece(token)).startswith(BLANKS)


class HubTokenizer:
    """A transformers tokenizer, for language models that ship no `tokenizer.model`."""

    def __init__(self, tokenizer: Any) -> None:
        """Wrap a loaded tokenizer; without a BOS token its EOS stands in for it."""
        self._tokenizer = tokenizer
        self.eos_id = int(tokenizer.eos_token_id)
        bos = tokenizer.bos_token_id
        self.bos_id = self.eos_id if bos is None else int(bos)
        self.vocab_size = len(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without any special token."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).removeprefix(" ")

    def begins_with_blank(self, token: int) -> bool:
        """Return whether a token begins a word: behind other text it is set off by a blank."""
        return str(self._tokenizer.convert_ids_to_tokens(token)).startswith(BLANKS)


def tokenizer_file(folder: Path) -> Path | None:
    """Return the `tokenizer.model` in a language model's folder or next to it, or None."""
    candidates = (folder / TOKENIZER_NAME, folder.absolute().parent / TOKENIZER_NAME)
    return next((file for file in candidates if file.is_file()), None)


def load_tokenizer(folder: Path | str, model_file: Path | None) -> Tokenizer:
    """Return the tokenizer of a language model.

    Args:
        folder: The model's folder or hub id, for transformers' tokenizers.
        model_file: A `tokenizer.model`, which wins where it exists.

    Raises:
        CheckpointError: there is no tokenizer.
    """
    if model_file is not None and model_file.is_file():
        return SentencePieceTokenizer(model_file)
    from transformers import AutoTokenizer

    try:
        return HubTokenizer(AutoTokenizer.from_pretrained(str(folder)))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"no tokenizer for {folder}: expected tokenizer.model in it or next to it, or the "
            "files of a transformers tokenizer"
        ) from error
