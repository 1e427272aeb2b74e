"""An adapter names the language model and the tower that it was tuned with, and fits no others."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.backbone import FrozenParts
from adem_bench.models.fused.fit import check_adapter
from adem_bench.models.fused.method import AdapterSettings
from adem_bench.models.fused.network import build_network
from adem_bench.models.fused.weights.adapter import (
    LATER_FACTS,
    read_adapter,
    stated_facts,
    write_adapter,
)
from adem_bench.registry import METHODS
from support.fused import WEIGHTS
from support.towers import write_tower

BASES = {
    "base": (LlamaForCausalLM, LlamaConfig, {}, 0),
    "tuned": (LlamaForCausalLM, LlamaConfig, {}, 1),
    "deeper": (LlamaForCausalLM, LlamaConfig, {"num_hidden_layers": 3}, 0),
    "wider": (LlamaForCausalLM, LlamaConfig, {"hidden_size": 48}, 0),
    "qwen": (Qwen2ForCausalLM, Qwen2Config, {}, 0),
}
OF_BASE = "base (llama, 2 layers of width 32)"
OF_TOWER = "siglip-0.safetensors (4 blocks of width 64, 16 patches, no class token)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Language models in folders, and files of towers."""
    root = tmp_path_factory.mktemp("parts")
    for name, (network, config, more, seed) in BASES.items():
        torch.manual_seed(seed)
        sizes = {
            "vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "initializer_range": 0.2,
        }  # fmt: skip
        network(config(**sizes | more)).save_pretrained(root / name)
        shutil.copy(WEIGHTS / "tokenizer.model", root / name)
    for kind, seed in (("siglip", 0), ("siglip", 1), ("siglip2", 0), ("laion", 0)):
        write_tower(kind, root, seed)
    return root


@pytest.fixture
def card(folder, tmp_path):
    """A model of a base and a tower."""

    def make(base="base", tower="siglip", seed=0, kind="llava", **more):
        content = {
            "language_model": {"path": str(folder / base)},
            "vision": write_tower(tower, folder, seed),
            "fusion": {"kind": kind},
            "adapters": {"default": {"path": str(tmp_path / f"adapter-{kind}")}},
        } | more
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_model_card(str(path))

    return make


@pytest.fixture
def adapter(card, folder, tmp_path):
    """Writes an adapter of a method as training does, for the first base and tower."""

    def write(kind="llava", **changed):
        made = folder / f"adapter-{kind}"
        if not made.is_dir():
            make(kind, made)
        written = read_adapter(made)
        settings = replace(written.settings, **changed)
        write_adapter(tmp_path / made.name, written.tensors, settings)
        return read_adapter(tmp_path / made.name)

    def make(kind, place):
        frozen = FrozenParts(card(kind=kind), ModelOptions("cpu"))
        method = METHODS.load(kind)
        network = build_network(frozen.llama, frozen.visual, method, method.settings())
        tuned = network.method
        facts = {}
        for part in frozen.identities:
            facts |= {part.field: part.name, f"{part.field}_architecture": part.architecture}
            facts[f"{part.field}_signature"] = part.signature
        settings = AdapterSettings(kind, tuned.chosen.values(), **facts)
        write_adapter(place, tuned.adapter_tensors(), settings)

    return write


def loaded(card):
    model = build_model(card, ModelOptions("cpu"))
    model.load_adapter_for("any", "any")
    model.load()
    return model


def check(card):
    check_adapter(card, card.source_for("any", "any"), None)


@pytest.mark.parametrize("kind", ["adem", "memvp", "lavin", "llava"])
def test_an_adapter_of_each_method_is_used_on_its_own_parts_in_any_precision(card, adapter, kind):
    written = adapter(kind)
    assert written.settings.language_model_architecture == "llama, 2 layers of width 32"
    for dtype in ("float32", "bfloat16"):
        own = card(kind=kind, dtype=dtype)
        check(own)
        assert loaded(own).describe()["language_model"] == "base"


@pytest.mark.parametrize("kind", ["adem", "lavin", "llava"])
@pytest.mark.parametrize(
    ("other", "names"),
    [
        ({"base": "deeper"}, ("deeper (llama, 3 layers of width 32)",)),
        ({"base": "wider"}, ("wider (llama, 2 layers of width 48)",)),
        ({"base": "qwen"}, ("qwen (qwen2, 2 layers of width 32)",)),
        ({"tower": "siglip2"}, ("siglip2-0.safetensors (4 blocks of width 64, 9 patches, no",)),
        ({"tower": "laion"}, ("laion-0.safetensors (4 blocks of width 64, 16 patches)",)),
        (
            {"base": "qwen", "tower": "laion"},
            ("qwen (qwen2", "with laion-0.safetensors (4 blocks of"),
        ),
    ],
)
def test_parts_of_other_kinds_and_sizes_are_refused_by_both_names_before_loading(
    card, adapter, monkeypatch, kind, other, names
):
    adapter(kind)
    monkeypatch.delattr("adem_bench.models.fused.backbone.load_language_model")
    with pytest.raises(CheckpointError) as caught:
        check(card(kind=kind, **other))
    message = str(caught.value)
    assert f"was tuned on {OF_BASE} with {OF_TOWER}, and model mine has " in message
    assert all(name in message for name in names)
    assert "; choose its own model card" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"base": "tuned"},
            r"another language model \(base\) than model mine has \(tuned, of the same sizes\)",
        ),
        (
            {"seed": 1},
            r"another vision tower \(siglip-0.safetensors\) than model mine has \(siglip-1\.safe",
        ),
    ],
)
def test_other_weights_of_the_same_sizes_are_refused_by_both_names(card, adapter, other, message):
    adapter()
    check(card(**other))  # files of the same sizes
    with pytest.raises(CheckpointError, match=message):
        loaded(card(**other))
    adapter(language_model_signature=None, vision_signature=None)  # as the message advises
    loaded(card(**other))


def test_an_adapter_of_before_is_used_as_ever_and_keeps_its_facts(card, adapter):
    written = adapter(**dict.fromkeys((*LATER_FACTS, "language_model_signature"))).settings
    assert not set(stated_facts(written)) & set(LATER_FACTS)
    loaded(card(base="tuned", seed=1))
    with pytest.raises(CheckpointError) as caught:
        check(card(base="wider"))
    assert "was tuned on base with siglip-0.safetensors, and model mine has wider (llama, 2 " in (
        str(caught.value)
    )
