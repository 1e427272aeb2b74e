from __future__ import annotations

import pytest
import torch
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as bars

from adem_bench.models.device import without_progress_bars
from adem_bench.models.fused.weights.llama import load_language_model


@pytest.fixture(autouse=True)
def _as_before():
    """Whatever a test leaves, the next one finds bars drawn."""
    yield
    bars.enable_progress_bar()


def states() -> tuple[bool, bool]:
    return bars.is_progress_bar_enabled(), not are_progress_bars_disabled()


@pytest.mark.parametrize("hub", [True, False], ids=["hub draws", "hub is quiet"])
@pytest.mark.parametrize("drawn", [True, False], ids=["drawn", "quiet"])
def test_bars_are_as_before_afterwards(drawn, hub):
    (bars.enable_progress_bar if drawn else bars.disable_progress_bar)()
    (enable_progress_bars if hub else disable_progress_bars)()
    with without_progress_bars():
        assert states() == (False, False)
    assert states() == (drawn, hub)


def test_bars_are_put_back_after_an_error():
    with pytest.raises(ValueError, match="broken"), without_progress_bars():
        raise ValueError("broken")
    assert states() == (True, True)


def test_loading_a_language_model_leaves_the_bars_to_the_caller(tmp_path, capfd):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, num_attention_heads=2, vocab_size=40)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    capfd.readouterr()
    load_language_model(tmp_path, torch.float32, torch.device("cpu"))
    assert states() == (True, True)
    assert capfd.readouterr().err == ""
