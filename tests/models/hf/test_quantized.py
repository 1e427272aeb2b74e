"""Models of transformers with quantized decoder layers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions
from adem_bench.models.hf.loading import load as load_files
from adem_bench.models.hf.model import HfModel
from adem_bench.models.hf.settings import HfCard
from support.quantized import KINDS, is_quantized, need

# As for the fused models (tests/models/fused/test_quantized.py), with fewer and narrower layers.
CLOSE = {"int8-cpu": 0.04, "bnb-8bit": 0.06, "bnb-4bit": 0.4}


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    need(request.param)
    return request.param


def test_decoder_layers_alone_are_quantized_and_answers_are_close(
    folder, load, model, kind, requests, monkeypatch
):
    made = []

    def keep(*given):
        made.append(load_files(*given))
        return made[0]

    monkeypatch.setattr("adem_bench.models.hf.model.load", keep)
    quantized = load(folder, f"quantization={kind}")
    modules = made[0].named_modules()
    names = [name for name, module in modules if is_quantized(module)]
    assert len(names) == 2 * 7
    assert all(".layers." in name and "vision" not in name for name in names)
    asked = [replace(request, choices=(" A", " B", " C")) for request in requests]
    told, known = (
        torch.tensor([response.choice_logprobs for response in of.generate(asked)])
        for of in (quantized, model)
    )
    assert 0 < (told - known).std() / known.std() < CLOSE[kind]
    assert quantized.fingerprint() != model.fingerprint()
    facts, plain = quantized.describe(), model.describe()
    assert facts["quantization"] == kind
    assert "quantization" not in plain
    assert facts["total_parameters"] == plain["total_parameters"]


def test_half_precision_answers(folder, load, kind, requests):
    responses = load(folder, f"quantization={kind}", "dtype=bfloat16").generate(requests)
    assert [response.error for response in responses] == [None] * len(requests)


def test_weights_that_are_quantized_already_are_refused(folders, load, kind, tmp_path):
    shutil.copytree(folders["llava"], tmp_path / "there")
    config = json.loads((tmp_path / "there" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "there" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"quantized already; choose --quantization none"):
        load(tmp_path / "there", f"quantization={kind}")


def test_what_cannot_be_quantized_is_refused_before_any_file_is_looked_for(monkeypatch):
    monkeypatch.setattr("adem_bench.models.hf.model.find_files", None)
    monkeypatch.setattr(
        "adem_bench.models.quantization.find_spec",
        lambda name: None if name == "accelerate" else name,
    )
    card = load_model_card("hf:of-the/hub", ["quantization=bnb-8bit"])
    assert isinstance(card, HfCard)
    with pytest.raises(CheckpointError, match="needs accelerate, which is not installed"):
        HfModel(card, ModelOptions("cpu"))
