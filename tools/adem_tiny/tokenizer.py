"""The SentencePiece tokenizer: LLaMA's settings, some hundred pieces."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_tiny.texts import LETTERS, Row

VOCABULARY = 640
RESPONSE = "Response:"
MARKERS = ("Context:", "Options:", RESPONSE)
"""They follow a line break, where plain BPE would see rare text."""


def train_tokenizer(rows: Sequence[Row], path: Path) -> SentencePieceTokenizer:
    """Train on the rows' text and write `tokenizer.model`.

    Raises:
        ValueError: answers would not be tokenized as the evaluation needs.
    """
    lines = [line for row in rows for text in (row.context, row.prompt + row.answer)
             for line in text.split("\n")]  # fmt: skip
    # Option letters must be pieces of their own even where a letter is rare.
    lines += [f"The answer is {letter}." for letter in LETTERS] * max(1, len(rows) // 20)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus),
            model_prefix=str(Path(folder) / "tokenizer"),
            model_type="bpe",
            vocab_size=VOCABULARY,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            user_defined_symbols=list(MARKERS),
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=2,
            minloglevel=2,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((Path(folder) / "tokenizer.model").read_bytes())
    tokenizer = SentencePieceTokenizer(path)
    _check(tokenizer)
    return tokenizer


def _check(tokenizer: SentencePieceTokenizer) -> None:
    """Make sure that an answer is one piece after the prompt, however it is continued."""
    stem = tokenizer.encode(f"{RESPONSE}The answer is")
    for letter in LETTERS:
        whole = tokenizer.encode(f"{RESPONSE}The answer is {letter}.")
        if whole[: len(stem)] != stem or len(whole) != len(stem) + 2:
            raise ValueError(f"the option {letter} is not one piece: {whole} after {stem}")
    stem = tokenizer.encode(RESPONSE)
    for answer in ("Yes", "No"):
        if len(tokenizer.encode(RESPONSE + answer)) != len(stem) + 1:
            raise ValueError(f"{answer} is not one piece")
