from __future__ import annotations

import pytest

from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from support.fused import WEIGHTS


@pytest.fixture(autouse=True)
def _on_one_thread(one_thread: None) -> None:
    """All tests here run tiny models."""


@pytest.fixture(scope="session")
def tokenizer() -> SentencePieceTokenizer:
    """The one of the tiny published models."""
    return SentencePieceTokenizer(WEIGHTS / "tokenizer.model")
