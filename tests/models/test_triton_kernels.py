"""The kernels, run by Triton's interpreter, against what PyTorch's operations give."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from adem_bench.models.fused.methods.adem import adaptive_drop

pytest.importorskip("triton")
DTYPES = (torch.float16, torch.float32)


INTERPRETED = "TRITON_INTERPRET" in os.environ
"""Triton asks this where it is imported first, so these tests have a process of their own."""
in_interpreter = pytest.mark.skipif(not INTERPRETED, reason="run by the first test, or not at all")


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="is the outer one")
def test_the_kernels_in_a_process_of_their_own():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("s......"), done.stdout + done.stderr
    assert done.returncode == 0


@pytest.fixture(scope="module")
def kernels():
    """The module as it is without a GPU."""
    from adem_bench.models import triton_kernels

    return triton_kernels


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(7)


@in_interpreter
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_drop_rule_on_ties_zeros_infinities_and_nan(kernels, dtype):
    slots = 320
    similarity = torch.randn(6, 1, slots).to(dtype)
    similarity[0] = (similarity[0] * 2).round() / 2
    similarity[1, :, ::7] = torch.nan
    similarity[2, :, ::3], similarity[2, :, 1::3] = -0.0, 0.0
    similarity[3], similarity[3, :, :5] = torch.inf, -torch.inf
    similarity[4] = torch.nan
    similarity[5] = 1.0
    for ratio in (0.1, 0.999):
        expected = adaptive_drop(similarity, ratio)
        found = kernels.adaptive_drop(similarity, int(ratio * slots))
        torch.testing.assert_close(found, expected, atol=0, rtol=0, equal_nan=True)


@in_interpreter
@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_gate_and_sum_round_as_their_operations_do(kernels, dtype):
    x, y, z = torch.randn(3, 2, 3, 160).to(dtype) * 3
    norm = LlamaRMSNorm(160, 1e-6).to(dtype)
    norm.weight.data = torch.randn(160).to(dtype)
    tolerance = (
        {"atol": 2e-3, "rtol": 2e-3} if dtype == torch.float16 else {"atol": 1e-5, "rtol": 1e-5}
    )
    with torch.inference_mode():
        normed = kernels.rms_norm(x, norm.weight, 1e-6)
        torch.testing.assert_close(normed, norm(x), **tolerance)
        torch.testing.assert_close(kernels.silu_times(x, y), F.silu(x) * y, **tolerance)
        expected = x + y + 0.1 * z
        torch.testing.assert_close(kernels.add_terms(x, y, z, 0.1), expected, atol=0, rtol=0)


@in_interpreter
@pytest.mark.parametrize("rows", [1, 2])
def test_heads_are_turned_as_transformers_turns_them(kernels, rows):
    heads = torch.randn(2, 3, 4 * 16).half().view(2, 3, 4, 16).transpose(1, 2)
    cos, sin = torch.randn(2, rows, 3, 16).half()
    expected, _ = apply_rotary_pos_emb(heads, heads, cos, sin)
    torch.testing.assert_close(kernels.rotate(heads, cos, sin), expected, atol=0, rtol=0)
