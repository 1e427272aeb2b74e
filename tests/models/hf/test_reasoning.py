"""Reasoning in answers of transformers models: that a template begins, or in special tokens."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoProcessor

from adem_bench.models.hf.decoding import Decoder, GeneratedRows
from adem_bench.models.hf.model import HfModel
from adem_bench.records import Request

ASKED = [Request("What is it?", max_new_tokens=3)]


@pytest.fixture
def thinking(folders, load, tmp_path, processor, network):
    """Loads LLaVA with a template that begins to think, and a special token of its own."""

    def make(begin: str, *settings: str) -> HfModel:
        folder = tmp_path / "thinking"
        words: AutoProcessor = processor(folders["llava"])
        words.chat_template += f"{{{{ {begin!r} }}}}"
        model = network(folders["llava"])
        words.tokenizer.add_special_tokens({"additional_special_tokens": ["[/THINK]", "<image>"]})
        model.resize_token_embeddings(len(words.tokenizer))
        model.save_pretrained(folder)
        words.save_pretrained(folder)
        return load(folder, *settings)

    return make


def test_reasoning_that_the_template_begins_is_told_from_an_answer(thinking):
    (response,) = thinking("<think>\n").answer(ASKED)
    assert response.text.startswith("<think>\n")
    assert "raise options.max_new_tokens" in (response.error or "")


def test_a_template_that_ends_the_reasoning_begins_none(thinking):
    (response,) = thinking("<think>\n\n</think>\n\n").answer(ASKED)
    assert "<think>" not in response.text


def test_a_card_may_name_no_tags(thinking):
    (response,) = thinking("<think>\n", "options.reasoning_tags=[]").answer(ASKED)
    assert not response.text.startswith("<think>")


def test_tags_that_are_special_tokens_stay_in_the_text(thinking, tmp_path, monkeypatch):
    model = thinking("")
    words = AutoProcessor.from_pretrained(tmp_path / "thinking").tokenizer
    ids = words("is it", add_special_tokens=False)["input_ids"]
    end = words.convert_tokens_to_ids("[/THINK]")
    row = [*ids, words.bos_token_id, end, *ids]
    rows = GeneratedRows([row], [True], [True], torch.zeros(1, len(words)))
    monkeypatch.setattr(Decoder, "generate", lambda *_: rows)
    (response,) = model.answer(ASKED)
    before, tag, after = response.text.partition("[/THINK]")
    assert tag
    assert before.strip() == after.strip() == words.decode(ids).strip()
    assert (response.answer or "").strip() == after.strip()
