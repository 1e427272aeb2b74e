"""Text to token ids: SentencePiece as LLaMA ships it, or a Hugging Face tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from jinja2 import TemplateError
from sentencepiece import SentencePieceProcessor

from adem_bench.errors import CheckpointError
from adem_bench.files import read_json
from adem_bench.models.fused.card import LanguageModelSource
from adem_bench.models.weight_files import check_file, foreign_reader, vocabulary_fault
from adem_bench.prompts import whole

TOKENIZER_NAME = "tokenizer.model"
UNK_ID = 0
"""Of `<unk>` in LLaMA's vocabulary."""
BLANKS = ("\N{LOWER ONE EIGHTH BLOCK}", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}")
"""What stands for a blank in the tokens of SentencePiece and of byte-level BPE."""
MESSAGE = "\N{LEFT WHITE SQUARE BRACKET}message\N{RIGHT WHITE SQUARE BRACKET}"
"""Stands for a user's message while a chat template is taken apart."""


class Tokenizer(Protocol):
    """What the model needs of a tokenizer."""

    bos_id: int
    eos_id: int
    """The token that a learned answer ends with."""
    unlearned_id: int | None
    """A token that no loss counts, as published: `<unk>` of LLaMA's vocabulary. None: all count."""
    vocab_size: int
    begin_ids: tuple[int, ...]
    """What every row begins with: BOS, or the start of a chat template."""
    after_prompt: str
    """Text between prompt and answer: the rest of a chat template, or nothing."""
    end_ids: tuple[int, ...]
    """The tokens that end an answer, `eos_id` first."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without any special token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; a blank in front of it is dropped."""
        ...

    def begins_with_blank(self, token: int) -> bool:
        """Return whether a token begins a word: behind other text it is set off by a blank."""
        ...

    def token_id(self, token: str) -> int | None:
        """Return the id of a token by its name; None if there is no such token."""
        ...

    def chat_frame(self) -> tuple[str, str] | None:
        """Return the text before and after a user's message; None without a chat template."""
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
            check_file(path)
            self._processor = SentencePieceProcessor(model_proto=path.read_bytes())
            # Pieces of a damaged file need not be text, which would end the first answer with one.
            self._processor.id_to_piece(list(range(self._processor.vocab_size())))
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} is not a SentencePiece model: {error}") from error
        self.bos_id = int(self._processor.bos_id())
        self.eos_id = int(self._processor.eos_id())
        self.unlearned_id: int | None = UNK_ID
        self.vocab_size = int(self._processor.vocab_size())
        self.begin_ids: tuple[int, ...] = (self.bos_id,)
        self.after_prompt = ""
        self.end_ids: tuple[int, ...] = (self.eos_id,)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without any special token."""
        return list(self._processor.encode(whole(text)))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; the leading dummy space is dropped."""
        return str(self._processor.decode(list(ids)))

    def begins_with_blank(self, token: int) -> bool:
        """Return whether a token begins a word: behind other text it is set off by a blank."""
        return str(self._processor.id_to_piece(token)).startswith(BLANKS)

    def token_id(self, token: str) -> int | None:
        """Return the id of a token by its name; None if there is no such token."""
        if whole(token) != token:
            return None  # half of a character, which the library takes for no text
        found = int(self._processor.piece_to_id(token))
        return found if self._processor.id_to_piece(found) == token else None

    def chat_frame(self) -> None:
        """Return None: the file holds no chat template."""


class HubTokenizer:
    """A transformers tokenizer, for language models that ship no `tokenizer.model`."""

    def __init__(self, tokenizer: Any) -> None:
        """Wrap a loaded tokenizer; without a BOS token its EOS stands in for it."""
        self._tokenizer = tokenizer
        self.eos_id = int(tokenizer.eos_token_id)
        bos = tokenizer.bos_token_id
        self.bos_id = self.eos_id if bos is None else int(bos)
        # The same id is a word of Llama 3 and Qwen, and the end of text of others.
        is_unk = tokenizer.unk_token_id == UNK_ID != self.eos_id
        self.unlearned_id: int | None = UNK_ID if is_unk else None
        # Without tokens that were added: a `[PAD]` beyond the model's rows is never asked for.
        self.vocab_size = int(tokenizer.vocab_size)
        self.with_added = len(tokenizer)
        self.begin_ids: tuple[int, ...] = (self.bos_id,)
        self.after_prompt = ""
        self.end_ids: tuple[int, ...] = (self.eos_id,)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without any special token."""
        return list(self._tokenizer.encode(whole(text), add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).removeprefix(" ")

    def begins_with_blank(self, token: int) -> bool:
        """Return whether a token begins a word: behind other text it is set off by a blank."""
        return str(self._tokenizer.convert_ids_to_tokens(token)).startswith(BLANKS)

    def token_id(self, token: str) -> int | None:
        """Return the id of a token by its name; None if there is no such token."""
        found = self._tokenizer.get_vocab().get(token)
        return None if found is None else int(found)

    def chat_frame(self) -> tuple[str, str] | None:
        """Return the text before and after a user's message; None without a chat template.

        Raises:
            CheckpointError: the template does not take a user's message as it is.
        """
        if not self._tokenizer.chat_template:
            return None
        try:
            text = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": MESSAGE}], tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise CheckpointError(f"the chat template cannot be used: {error}") from error
        before, found, after = str(text).partition(MESSAGE)
        if not found or MESSAGE in after:
            raise CheckpointError("the chat template does not hold a user's message once")
        return before, after


def tokenizer_file(folder: Path) -> Path | None:
    """Return the `tokenizer.model` in a language model's folder or next to it, or None.

    The one next to a folder may be another model's: LLaMA's lies next to `7B`, and so do others.
    """
    own, beside = folder / TOKENIZER_NAME, folder.absolute().parent / TOKENIZER_NAME
    if own.is_file():
        return own
    return beside if beside.is_file() and not _has_another(folder, beside) else None


def _has_another(folder: Path, beside: Path) -> bool:
    """Return whether a folder has a tokenizer of its own, of more or fewer tokens than `beside`."""
    if not (folder / "tokenizer.json").is_file():
        return False
    try:
        config = read_json(folder / "config.json")
        return bool(SentencePieceTokenizer(beside).vocab_size != config["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, CheckpointError):
        return True


def load_tokenizer(
    folder: Path | str, model_file: Path | None, source: LanguageModelSource
) -> Tokenizer:
    """Return the tokenizer of a language model.

    Args:
        folder: The model's folder or hub id, for transformers' tokenizers.
        model_file: A `tokenizer.model`, which wins where it exists.
        source: What the card says of prompts and answers.

    Raises:
        CheckpointError: there is no tokenizer, or it lacks what the card asks for.
    """
    tokenizer: Tokenizer
    if model_file is not None and model_file.is_file():
        tokenizer = SentencePieceTokenizer(model_file)
    else:
        from transformers import AutoTokenizer

        def without(reason: str) -> CheckpointError:
            return CheckpointError(
                f"no tokenizer for {folder}: expected tokenizer.model in it or next to it, or the "
                f"files of a transformers tokenizer ({reason})"
            )

        with foreign_reader(without):
            tokenizer = HubTokenizer(AutoTokenizer.from_pretrained(str(folder)))
    _frame_prompts(tokenizer, source)
    return tokenizer


def check_vocabulary(tokenizer: Tokenizer, rows: int, where: object) -> None:
    """Refuse a tokenizer of another model: one of its tokens, or of the model's, would have no use.

    Args:
        tokenizer: Of a language model.
        rows: Tokens that the language model knows.
        where: The language model, for the message.

    Raises:
        CheckpointError: it has more tokens than the model, or fewer than padding explains; of a
            `tokenizer.model`, any fewer.
    """
    if isinstance(tokenizer, HubTokenizer):
        fits = vocabulary_fault(tokenizer.vocab_size, tokenizer.with_added, rows) is None
    else:
        fits = tokenizer.vocab_size == rows
    if not fits:
        raise CheckpointError(
            f"the tokenizer of {where} has {tokenizer.vocab_size} tokens, and the language model "
            f"{rows}; name its own in language_model.tokenizer"
        )


def _frame_prompts(tokenizer: Tokenizer, source: LanguageModelSource) -> None:
    """Set what stands around prompts and ends answers."""

    def known(token: str, field: str) -> int:
        found = tokenizer.token_id(token)
        if found is None:
            raise CheckpointError(
                f"language_model.{field}: the tokenizer of {source.path} has no token {token!r}"
            )
        return found

    if source.bos_token is not None:
        tokenizer.begin_ids = (known(source.bos_token, "bos_token"),) if source.bos_token else ()
    if source.chat_template:
        frame = tokenizer.chat_frame()
        if frame is None:
            where = f" in {TOKENIZER_NAME}" if isinstance(tokenizer, SentencePieceTokenizer) else ""
            raise CheckpointError(
                f"language_model.chat_template: the tokenizer of {source.path} has no chat "
                f"template{where}; leave the field out to ask with plain prompts"
            )
        before, tokenizer.after_prompt = frame
        if before.endswith(" ") and tokenizer.begins_with_blank(tokenizer.encode("a")[0]):
            before = before[:-1]  # LLaMA's kind puts a blank before a text by itself
        tokenizer.begin_ids = tuple(tokenizer.encode(before))
    ends = (known(token, "end_tokens") for token in source.end_tokens)
    tokenizer.end_ids = tuple(dict.fromkeys((tokenizer.eos_id, *ends)))
