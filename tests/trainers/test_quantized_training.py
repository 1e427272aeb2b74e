"""Training on quantized frozen weights."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

import adem_bench
from adem_bench.errors import CardError, CheckpointError, ResultsError
from adem_bench.trainers.train import NullCallback
from adem_bench.trainers.training_log import read_log
from support.quantized import need

LIMIT = adem_bench.RunOptions(limit=2)
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


@pytest.fixture
def train(recipe_file, parity_card, small_mini, tmp_path):
    """Trains by the small recipe into a folder of the test's own."""

    def call(folder="out", **more):
        fixed = {"model": parity_card, "data_root": small_mini, "output": tmp_path / folder}
        fixed |= {"results": tmp_path / "results", "loggers": ()}
        return adem_bench.train(recipe_file, **{**fixed, **more})

    return call


class StopError(Exception):
    pass


class StopsAfterTwo(NullCallback):
    def step(self, report):
        if report.step == 2:
            raise StopError

    def warned(self, message):
        raise AssertionError(message)


@pytest.mark.parametrize(
    "kind",
    [
        "int8-cpu",
        pytest.param("bnb-8bit", marks=pytest.mark.slow),
        pytest.param("bnb-4bit", marks=pytest.mark.slow),
    ],
)
def test_training_resumes_on_the_same_bits_and_its_output_is_a_quantized_model(
    train, small_mini, tmp_path, kind
):
    need(kind)
    short = {"epochs": 1, "checkpoint_steps": 1}
    train("whole", quantization=kind, settings=short)
    with pytest.raises(StopError):
        train(quantization=kind, settings=short, callback=StopsAfterTwo())
    assert train(quantization=kind, settings=short).resumed_from == 1
    whole, resumed = (
        load_file(tmp_path / name / "adapter" / "adapter.safetensors") for name in ("whole", "out")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["model"]["quantization"] == kind
    run = {"data_root": small_mini, "results": tmp_path / "results", "options": LIMIT}
    adem_bench.evaluate(tmp_path / "out", ["mini_mme"], **run)
    (same,) = adem_bench.evaluate(tmp_path / "out", ["mini_mme"], quantization=kind, **run)
    (other,) = adem_bench.evaluate(tmp_path / "out", ["mini_mme"], quantization="none", **run)
    assert (same.resumed, other.resumed) == (2, 0)


@pytest.mark.slow
def test_the_recipe_or_the_card_may_say_it_and_losses_stay_close(train, parity_card, tmp_path):
    short = {"epochs": 1}
    train("plain", settings=short)
    train("recipe", settings=short | {"quantization": "int8-cpu"})
    card = yaml.safe_load(parity_card.read_text()) | {"quantization": "int8-cpu"}
    (tmp_path / "parity.yaml").write_text(yaml.safe_dump(card))
    train("card", model=tmp_path / "parity.yaml", settings=short)
    train("not", model=tmp_path / "parity.yaml", settings=short, quantization="none")
    losses = {
        name: [line["loss"] for line in read_log(tmp_path / name / "log.jsonl")]
        for name in ("plain", "recipe", "card", "not")
    }
    assert losses["recipe"] == losses["card"] != losses["plain"] == losses["not"]
    assert losses["recipe"][0] == pytest.approx(losses["plain"][0], rel=0.01)
    assert "quantization" not in yaml.safe_load((tmp_path / "not" / "model.yaml").read_text())


def test_a_training_goes_on_with_weights_as_it_began(train):
    with pytest.raises(StopError):
        train(settings={"checkpoint_steps": 1}, callback=StopsAfterTwo())
    with pytest.raises(ResultsError, match=r"quantization is not set there, int8-cpu here"):
        train(quantization="int8-cpu", settings={"checkpoint_steps": 1})


def test_what_cannot_be_trained_is_refused_before_weights_are_read(train, tmp_path, monkeypatch):
    monkeypatch.setattr("adem_bench.trainers.prepare.FrozenFiles", None)
    with pytest.raises(CardError, match=r"shard_frozen_weights cannot spread weights of bnb-8bit"):
        train(quantization="bnb-8bit", settings={"shard_frozen_weights": True})
    with pytest.raises(CardError, match="field 'quantization'"):
        train(settings={"quantization": "int4"})
    monkeypatch.setattr("adem_bench.models.quantization.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="needs bitsandbytes, which is not installed"):
        train(quantization="bnb-4bit")
    assert not (tmp_path / "out").exists()
