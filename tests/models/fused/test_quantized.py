"""The tiny published models on quantized frozen weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import Qwen2Config, Qwen2ForCausalLM

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions
from adem_bench.models.fused.card import FusionSettings, VisionSource
from adem_bench.models.fused.decoder import projection_sizes
from adem_bench.models.fused.method import AdapterSettings, FrozenSizes
from adem_bench.models.fused.methods.llava import Llava, LlavaSettings
from adem_bench.models.fused.model import FusedModel, network_with
from adem_bench.models.fused.network import collate
from adem_bench.models.fused.sequence import SequenceBuilder
from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_bench.models.fused.weights.adapter import AdapterFile, read_adapter, write_adapter
from adem_bench.models.fused.weights.clip import load_visual
from adem_bench.models.fused.weights.convert_llama import convert_llama
from adem_bench.models.fused.weights.llama import language_config, load_language_model
from adem_bench.models.quantization import quantize_linear_layers
from adem_bench.records import Request
from support.fused import FIXTURES, WEIGHTS
from support.quantized import KINDS, dequantized, is_quantized, need

LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
LAYERS = 4
ADAPTERS = {
    "adem": ("parity", "parity/weights/clip_tiny.pt"),
    "memvp": ("parity_memvp", "parity/weights/clip_tiny.pt"),
    "lavin": ("parity_lavin", "parity_lavin/weights/clip_tiny.pt"),
}
# Errors of letters' log-probabilities next to how far these lie apart. One product is wrong by
# 0.8%, 1.2% and 9% (tests/models/test_quantization.py); four layers, by 1.0%, 1.9% and 20%.
CLOSE = {"int8-cpu": 0.02, "bnb-8bit": 0.04, "bnb-4bit": 0.4}


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    need(request.param)
    return request.param


def found(card, *overrides) -> FusedModel:
    """A model whose weights are not loaded yet."""
    model = FusedModel(load_model_card(str(card), overrides), ModelOptions("cpu"))
    model.load_adapter_for("sqa", "scienceqa")
    return model


def load(card, *overrides) -> FusedModel:
    model = found(card, *overrides)
    model.load()
    return model


@pytest.fixture(scope="module")
def model(parity_card, kind) -> FusedModel:
    return load(parity_card, f"quantization={kind}")


@pytest.fixture(scope="module")
def plain(parity_card) -> FusedModel:
    return load(parity_card)


@pytest.fixture(scope="module")
def requests(pictures) -> list[Request]:
    letters = tuple(f" {letter}" for letter in "ABCDE")
    images = [(), *((picture,) for picture in pictures)]
    prompts = [f"Question: Which{' one' * n}?\nResponse:The answer is" for n in (1, 4, 9, 2)]
    return [Request(p, i, 4, choices=letters) for p, i in zip(prompts, images, strict=True)]


def test_the_linear_layers_of_decoder_layers_are_quantized_and_nothing_else(model, plain):
    def layers(of):
        llama = of.weights.decoder.llama
        return {n: m for n, m in llama.named_modules() if n.split(".")[-1] in LINEAR}

    found, before = layers(model), layers(plain)
    assert found.keys() == before.keys()
    assert len(found) == LAYERS * len(LINEAR)
    assert all(is_quantized(layer) for layer in found.values())
    decoder = model.weights.decoder
    others = [m for n, m in decoder.llama.named_modules() if n not in found]
    assert not any(is_quantized(module) for module in (*others, *model.weights.method.modules()))
    assert decoder.dtype == torch.float32
    counts = [of.describe()["total_parameters"] for of in (model, plain)]
    assert counts[0] == counts[1]


def test_answers_are_close_to_those_of_the_weights_as_they_are(model, plain, kind, requests):
    found, expected = model.generate(requests), plain.generate(requests)
    assert all(response.error is None for response in found)
    told, known = (
        torch.tensor([response.choice_logprobs for response in responses])
        for responses in (found, expected)
    )
    assert 0 < (told - known).std() / known.std() < CLOSE[kind]


def test_answers_of_weights_that_are_quantized_alone_do_not_depend_on_the_batch(
    model, kind, requests
):
    if kind == "bnb-8bit":
        pytest.skip("a column of inputs with an outlier in any row is not quantized in all rows")
    alone = [model.generate([request])[0] for request in requests]
    for one, other in zip(model.generate(requests), alone, strict=True):
        assert one.text == other.text
        assert one.choice_logprobs == pytest.approx(other.choice_logprobs, abs=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_answers(parity_card, kind, dtype, requests):
    model = load(parity_card, f"quantization={kind}", f"dtype={dtype}")
    assert all(response.error is None for response in model.generate(requests))
    assert model.weights.decoder.dtype == getattr(torch, dtype)


def test_the_fingerprint_and_the_manifest_say_it(parity_card, model, plain, kind):
    assert model.fingerprint() != plain.fingerprint()
    assert model.fingerprint() == found(parity_card, f"quantization={kind}").fingerprint()
    assert model.describe()["quantization"] == kind
    assert "quantization" not in plain.describe()
    assert found(parity_card, "quantization=none").fingerprint() == plain.fingerprint()


@pytest.fixture(scope="module")
def signed(parity, tmp_path_factory) -> str:
    """The published adapter, with a word on the weights that it was tuned on."""
    from adem_bench.models.fused.backbone import language_model_signature

    llama = load_language_model(WEIGHTS / "tiny", torch.float32, torch.device("cpu"))
    adapter = read_adapter(parity / "checkpoint-19.pth")
    settings = replace(adapter.settings, language_model_signature=language_model_signature(llama))
    folder = tmp_path_factory.mktemp("signed") / "adapter"
    write_adapter(folder, adapter.tensors, settings)
    return str(folder)


def test_an_adapter_of_these_weights_fits_them_quantized_and_of_others_does_not(
    parity_card, kind, signed, tmp_path
):
    load(parity_card, f"quantization={kind}", f"adapter={signed}")
    tensors = torch.load(WEIGHTS / "tiny" / "consolidated.00.pth", weights_only=True)
    torch.manual_seed(0)
    weight = tensors[f"layers.{LAYERS - 1}.feed_forward.w2.weight"]
    weight.add_(torch.randn_like(weight) * weight.std() * 0.02)
    shutil.copytree(WEIGHTS / "tiny", tmp_path / "tuned")
    shutil.copy(WEIGHTS / "tokenizer.model", tmp_path / "tuned")
    torch.save(tensors, tmp_path / "tuned" / "consolidated.00.pth")
    card = yaml.safe_load(parity_card.read_text())
    card["language_model"] = {"path": str(tmp_path / "tuned")}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(CheckpointError, match="was tuned on another language model"):
        load(tmp_path / "other.yaml", f"quantization={kind}", f"adapter={signed}")


def test_both_layouts_give_the_same_answers(parity_card, kind, model, signed, requests, tmp_path):
    convert_llama(WEIGHTS / "tiny", tmp_path / "hf")
    card = yaml.safe_load(parity_card.read_text())
    card["language_model"] = {
        "path": str(tmp_path / "hf"), "tokenizer": str(WEIGHTS / "tokenizer.model"),
    }  # fmt: skip
    (tmp_path / "hf.yaml").write_text(yaml.safe_dump(card))
    other = load(tmp_path / "hf.yaml", f"quantization={kind}", f"adapter={signed}")
    for one, another in zip(other.generate(requests), model.generate(requests), strict=True):
        assert one.text == another.text
        assert one.choice_logprobs == pytest.approx(another.choice_logprobs, abs=1e-4)


def adapter_of(method):
    """A published adapter, or LoRA next to a projector, both as they would be tuned."""
    if method != "llava":
        return read_adapter(FIXTURES / ADAPTERS[method][0] / "checkpoint-19.pth")
    torch.manual_seed(7)
    sizes = FrozenSizes(
        vision_width=128, vision_blocks=4, patches=256, language_width=64, language_layers=4,
        projections=projection_sizes(language_config(WEIGHTS / "tiny")),
    )  # fmt: skip
    tuned = Llava(LlavaSettings(lora_rank=2), sizes).adapter_tensors()
    tensors = {name: torch.randn(tensor.shape) * 0.05 for name, tensor in tuned.items()}
    values = {"lora_rank": 2}
    return AdapterFile(Path("llava"), tensors, AdapterSettings(method="llava", values=values))


@pytest.mark.parametrize("method", [*ADAPTERS, "llava"])
def test_gradients_of_the_adapter_are_those_of_the_numbers_that_the_weights_stand_for(kind, method):
    folder, clip = ADAPTERS.get(method, ADAPTERS["adem"])
    adapter = adapter_of(method)
    goldens = torch.load(FIXTURES / folder / "goldens.pt", weights_only=True)
    quantized = load_language_model(
        WEIGHTS / "tiny", torch.float32, torch.device("cpu"),
        lambda layer: quantize_linear_layers(layer, kind, torch.float32),
    ).train()  # fmt: skip
    visual = load_visual(VisionSource(), FIXTURES / clip, torch.float32)
    found = []
    for llama in (quantized, dequantized(quantized)):
        network = network_with(llama, visual, adapter, FusionSettings(kind=method))
        llama.train()  # where bitsandbytes' CPU layers do not quantize inputs
        tokenizer = SentencePieceTokenizer(WEIGHTS / "tokenizer.model")
        builder = SequenceBuilder(tokenizer, network.method.layout, max_length=384)
        rows = [builder.training(p, a, bool(has)) for p, a, has in goldens["pairs"]]
        indicators = [int(has) for _, _, has in goldens["pairs"]]
        images = [goldens["images"][n] for n, has in enumerate(indicators) if has]
        loss = network.loss(collate(rows, images, indicators), builder.image_tokens_at)
        loss.backward()
        gradients = {n: t.grad for n, t in network.method.adapter_tensors().items()}
        assert all(tensor.grad is None for tensor in llama.parameters())
        found.append((loss.detach(), gradients))
    (loss, gradients), (expected_loss, expected) = found
    torch.testing.assert_close(loss, expected_loss, atol=1e-5, rtol=0)
    assert sum(gradient is not None for gradient in gradients.values()) > 10
    for name, gradient in expected.items():
        if gradient is None:
            assert gradients[name] is None
        else:
            torch.testing.assert_close(gradients[name], gradient, atol=1e-5, rtol=0, msg=name)


def test_a_base_with_biases_and_a_tied_head_is_read_from_half_precision(kind, tmp_path):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=600, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        initializer_range=0.1,
    )  # fmt: skip
    made = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter))
    made.half().save_pretrained(tmp_path)
    llama = load_language_model(
        tmp_path, torch.float32, torch.device("cpu"),
        lambda layer: quantize_linear_layers(layer, kind, torch.float32),
    ).train()  # fmt: skip
    assert sum(map(is_quantized, llama.modules())) == 2 * len(LINEAR)
    assert llama.lm_head.weight is llama.model.embed_tokens.weight
    kept = {p.dtype for p in llama.parameters() if p.is_floating_point()}
    assert kept == {torch.float32}
    ids = torch.arange(40)[None]
    with torch.no_grad():
        found, expected = llama(ids).logits, dequantized(llama)(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
