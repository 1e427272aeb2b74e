from __future__ import annotations

import pytest
import torch

from adem_bench.models.fused.backbone import is_same_model, language_model_signature
from adem_bench.models.fused.weights.llama import load_language_model


@pytest.fixture
def llama(parity):
    return load_language_model(parity / "weights" / "tiny", torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_same_model(llama, dtype):
    first = language_model_signature(llama)
    assert is_same_model(first, language_model_signature(llama.to(dtype)))


def test_fine_tuned_weights_are_another_model(llama):
    first = language_model_signature(llama)
    with torch.no_grad():
        weight = llama.model.layers[-1].mlp.down_proj.weight
        torch.manual_seed(0)
        weight.add_(torch.randn_like(weight) * weight.std() * 0.02)
    assert not is_same_model(first, language_model_signature(llama))
    assert not is_same_model(first, first[:-1])
    for edited in (1e200, float("inf"), float("nan")):  # in an adapter's file
        assert not is_same_model(first, (edited, *first[1:]))
