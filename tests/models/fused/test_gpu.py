"""What a GPU computes, against the published code's numbers and the CPU; left out without one."""

from __future__ import annotations

import pytest
import torch

from adem_bench.models.fused import steps
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.generation import generate
from adem_bench.models.fused.methods.adem import LAYOUT, adaptive_drop
from adem_bench.models.fused.model import network_with
from adem_bench.models.fused.network import build_network
from adem_bench.models.fused.sequence import PromptRow, SequenceBuilder
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.clip import load_visual
from adem_bench.models.fused.weights.llama import load_language_model
from adem_bench.registry import METHODS
from support.fused import FIXTURES, WEIGHTS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

PARITY = FIXTURES / "parity"
DEVICE = torch.device("cuda")
LOGITS_WITHIN = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.5}
"""Largest difference from the published code's logits in float32, which reach 12."""


@pytest.fixture(scope="module")
def goldens():
    return torch.load(PARITY / "goldens.pt", weights_only=True)


def parts(dtype):
    llama = load_language_model(WEIGHTS / "tiny", dtype, DEVICE)
    return llama, load_visual(VisionSource(), WEIGHTS / "clip_tiny.pt", dtype).to(DEVICE)


@pytest.mark.parametrize("dtype", LOGITS_WITHIN)
@pytest.mark.parametrize("run", ["answer", "caption", "overlong"])
def test_logits_of_the_published_code_in_every_precision(goldens, tokenizer, dtype, run):
    fusion = METHODS.load("adem").overrides(kind="adem")
    adapter = read_adapter(PARITY / "checkpoint-19.pth")
    network = network_with(*parts(dtype), adapter, fusion)
    golden = goldens["runs"][run]
    most = golden["max_gen_len"]
    builder = SequenceBuilder(tokenizer, LAYOUT, cut=network.method.cut_prompt)
    for index, prompt in enumerate(golden.get("prompts", goldens["prompts"])):
        has_image = bool(goldens["gen_indicators"][index])
        row = builder.prompt(prompt, has_image, most)
        with torch.inference_mode():
            images = goldens["gen_images"][index : index + 1].to(DEVICE)
            memory = network.encode_images(images) if has_image else network.no_image_memory()
            generated = generate(network.decoder, [row], memory, most, (tokenizer.eos_id,))
        first = generated.first_logits.cpu()
        expected = golden["logits"][:1, index]
        torch.testing.assert_close(first, expected, atol=LOGITS_WITHIN[dtype], rtol=0)
        if dtype == torch.float32:
            assert tokenizer.decode(generated.ids[0]) == golden["text"][index]


@pytest.mark.parametrize("kind", ["adem", "memvp", "lavin", "llava"])
@pytest.mark.parametrize("least", [4, 999], ids=["graphs", "steps"])
def test_answers_are_those_of_the_cpu(kind, least, monkeypatch):
    monkeypatch.setattr(steps, "LEAST_STEPS", least)
    method = METHODS.load(kind)
    settings = method.settings(read_every=2) if kind == "lavin" else method.settings()
    torch.manual_seed(3)
    rows = [
        PromptRow([1, *torch.randint(3, 600, (length,)).tolist()], None)
        for length in (3, 30, 9, 17, 5, 8, 40, 21, 13, 6, 11)
    ]
    images = torch.randn(len(rows), 3, 224, 224)
    found = []
    llama = load_language_model(WEIGHTS / "tiny", torch.float32, torch.device("cpu"))
    visual = load_visual(VisionSource(), WEIGHTS / "clip_tiny.pt", torch.float32)
    network = build_network(llama, visual, method, settings).eval()
    for parameter in network.method.parameters():
        parameter.data.normal_(0, 0.05)
    for device in ("cpu", "cuda"):
        network = network.to(device)
        with torch.inference_mode():
            indicators = torch.ones(len(rows), dtype=torch.long, device=device)
            memory = network.batch_memory(images.to(device), indicators)
            asked = [(rows, memory), (rows[:5], network.no_image_memory()), (rows, memory)]
            answers = [generate(network.decoder, *one, 30, tuple(range(3, 40))) for one in asked]
        found.append([(one.ids, one.ended, one.finite) for one in answers])
    assert found[0] == found[1]
    assert len({len(ids) for ids in found[0][0][0]}) > 3


def test_no_step_waits_for_the_device():
    network = network_with(
        *parts(torch.float16),
        read_adapter(PARITY / "checkpoint-19.pth"),
        METHODS.load("adem").overrides(kind="adem"),
    )
    rows = [PromptRow([1, 5, 6, 7, index], None) for index in range(3, 11)]
    with torch.inference_mode():
        generate(network.decoder, rows, network.no_image_memory(), 40, (-1,))
        torch.cuda.set_sync_debug_mode("warn")
        try:
            counts = []
            for most in (10, 40):
                with pytest.warns(UserWarning, match="synchroniz") as seen:
                    generate(network.decoder, rows, network.no_image_memory(), most, (-1,))
                counts.append(len(seen))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert counts[0] == counts[1]


@pytest.mark.parametrize("dtype", LOGITS_WITHIN)
@pytest.mark.parametrize("slots", [64, 257, 320, 576])
def test_the_drop_rule_is_that_of_the_cpu(dtype, slots):
    torch.manual_seed(1)
    similarity = torch.randn(5, 33, slots).to(dtype)
    similarity[0] = (similarity[0] * 2).round() / 2
    similarity[1, :, ::7] = torch.nan
    similarity[2, :, ::3], similarity[2, :, 1::3] = -0.0, 0.0
    similarity[3], similarity[3, :, :5] = torch.inf, -torch.inf
    for ratio in (0.001, 0.1, 0.5, 0.999):
        with torch.inference_mode():
            found = adaptive_drop(similarity.to(DEVICE), ratio).cpu()
        expected = adaptive_drop(similarity, ratio)
        torch.testing.assert_close(found, expected, atol=0, rtol=0, equal_nan=True)
