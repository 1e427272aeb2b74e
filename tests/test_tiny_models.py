"""MemVP, LaVIN and LLaVA as they travel with the package: small, and they see."""

from __future__ import annotations

from pathlib import Path

import pytest

from adem_bench.cards import load_model_card
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions

MODELS = Path(__file__).parents[1] / "models"
TINY = ["memvp-tiny", "lavin-tiny", "llava-tiny"]


@pytest.mark.parametrize("name", TINY)
def test_the_adapter_fits_in_the_package_and_its_card(name):
    folder = MODELS / name
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 1_500_000
    adapter, card = read_adapter(folder / "adapter"), load_model_card(name)
    assert adapter.settings.method == card.fusion.kind == name.removesuffix("-tiny")
    count = sum(tensor.numel() for tensor in adapter.tensors.values())
    assert count == card.trainable_parameters


@pytest.mark.slow  # of adem-tiny it is a test of every day: test_adem_tiny.py
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", TINY)
def test_it_answers_from_the_image(tmp_path, name):
    def accuracy(**options) -> float:
        evaluation = Evaluation(
            name, ("mini_mme",), results=tmp_path, options=RunOptions(**options)
        )
        (outcome,) = evaluate(evaluation)
        return outcome.result.metric("accuracy").value

    assert accuracy() >= 0.7
    assert accuracy(blind=True, limit=80) <= 0.6  # 40 images, asked what is right and what is not
