"""Adapters are trained on towers of other kinds and grids than the published one."""

from __future__ import annotations

import json

import pytest
import yaml

import adem_bench
from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.fused.card import AdapterSource
from adem_bench.models.fused.fit import check_adapter
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.convert_adapter import convert_adapter
from support.towers import write_tower

VALUES = {
    "adem": {"scales": (9, 1)},
    "memvp": {"slots": 320},
    "lavin": {"read_every": 4},
    "llava": {"skipped_blocks": 1},
}
"""What is settled for a grid of 3 x 3 patches and four blocks, where a recipe says nothing."""


@pytest.mark.parametrize(
    "method",
    [
        "adem",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("memvp", "lavin", "llava")),
    ],
)
def test_a_method_is_trained_on_siglip_and_used(parity_card, small_mini, tmp_path, method):
    """Nothing is said of the grid; what follows from it is stated by the adapter."""
    card = yaml.safe_load(parity_card.read_text()) | {
        "vision": write_tower("siglip2", tmp_path),
        "image_normalization": "tower",
        "fusion": {"kind": method},
        "language_model_name": "Tiny",
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(card | {"adapters": {}}))
    recipe = {
        "data": [{"task": "mini_instruction", "split": "all", "limit": 4}],
        "method": {"kind": method}, "epochs": 1, "effective_batch": 2, "batch_size": 2,
        "workers": 0, "base_learning_rate": 0.3,
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    out = tmp_path / "out"
    done = adem_bench.train(
        tmp_path / "mine.yaml", model=tmp_path / "base.yaml", data_root=small_mini, output=out
    )
    assert done.steps == 2

    stated = read_adapter(out / "adapter").settings
    assert stated.values.items() >= VALUES[method].items()
    assert (stated.language_model, stated.vision) == ("Tiny", "siglip2-0.safetensors")
    assert stated.vision_architecture == "4 blocks of width 64, 9 patches, no class token"
    options = adem_bench.RunOptions(limit=2)
    (outcome,) = adem_bench.evaluate(
        out, ["mini_mme"], data_root=small_mini, results=tmp_path / "results", options=options
    )
    assert outcome.result.scored == 2

    made = load_model_card(str(out))
    assert made.image_normalization == "tower"
    if method != "llava":  # which has no published layout
        (lost,) = convert_adapter(out / "adapter", tmp_path / "adapter.pth")
        assert "vision_architecture" in lost
        check_adapter(made, AdapterSource(path=str(tmp_path / "adapter.pth")), None)
    other = load_model_card(str(out), [f"vision={json.dumps(write_tower('laion', tmp_path))}"])
    with pytest.raises(CheckpointError, match=r"with siglip2-0.*, and .* with laion-0\.saf"):
        check_adapter(other, other.source_for("mini_mme", "mme"), None)
