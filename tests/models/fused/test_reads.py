"""What an evaluation of a fused model reads and makes, counted."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
import torch
from torch import nn

from adem_bench.cards import load_model_card
from adem_bench.models.base import ModelOptions
from adem_bench.models.fused import fit, model
from adem_bench.models.fused.methods.adem import AdemVl
from adem_bench.models.fused.model import FusedModel
from adem_bench.models.fused.weights import clip
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.clip import load_visual, visual_sizes
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions
from adem_bench.schemas import TaskCard
from support.fused import FIXTURES, WEIGHTS

PUBLISHED = FIXTURES / "parity" / "checkpoint-19.pth"
MME = TaskCard(name="mini_mme", kind="mme", split="test")


@pytest.fixture
def counted(monkeypatch):
    """Counts adapters that are read, methods that are made, towers whose values are read."""
    counts: Counter[str] = Counter()

    def count(owner, name, what, is_counted=lambda *given: True):
        real = getattr(owner, name)

        def call(*given, **more):
            counts[what] += is_counted(*given, *more.values())
            return real(*given, **more)

        monkeypatch.setattr(owner, name, call)

    for module in (fit, model):
        count(module, "read_adapter", "adapter")
    count(AdemVl, "__init__", "method")
    count(clip, "_tensors", "tower", lambda file, with_values=True: with_values)
    return counts


def test_an_adapter_is_read_once_and_its_method_made_once(parity_card, mini, tmp_path, counted):
    options = RunOptions(limit=2)
    asked = Evaluation(
        str(parity_card), ("mini_mme", "mini_sqa"), mini, tmp_path, "cpu", options=options
    )
    assert len(list(evaluate(asked))) == 2
    assert counted == {"adapter": 1, "method": 1, "tower": 1}
    counted.clear()
    assert len(list(evaluate(asked))) == 2  # finished: only what the fingerprint is made of
    assert +counted == {"adapter": 1, "method": 1}


def test_an_adapter_that_changes_after_the_check_is_read_again(parity_card, tmp_path, counted):
    place = tmp_path / "adapter.pth"
    shutil.copy(PUBLISHED, place)
    card = load_model_card(str(parity_card), [f"adapter={place}"])
    FusedModel.check(card, [MME], None)
    found = torch.load(place, weights_only=False)
    found["model"] = {name: tensor + 1 for name, tensor in found["model"].items()}
    torch.save(found, place)
    loaded = FusedModel(card, ModelOptions("cpu"))
    loaded.load_adapter_for(MME.name, MME.kind)
    own, changed = loaded.weights.method.adapter_tensors(), read_adapter(place).tensors
    assert all(torch.equal(tensor, changed[name]) for name, tensor in own.items())
    assert counted["adapter"] == 2


def test_two_models_of_one_adapter_share_no_weights(parity_card):
    card = load_model_card(str(parity_card))
    FusedModel.check(card, [MME], None)
    made = [FusedModel(card, ModelOptions("cpu")) for _ in range(2)]
    for each in made:
        each.load_adapter_for(MME.name, MME.kind)
    assert made[0].fingerprint() == made[1].fingerprint()
    assert made[0].weights.method is not made[1].weights.method


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_sizes_of_openai_s_archives_are_seen_without_their_values(tmp_path, monkeypatch):
    plain = WEIGHTS / "clip_tiny.pt"
    file = tmp_path / "archive.pt"
    holder = nn.Module()
    for name, tensor in torch.load(plain, weights_only=True).items():
        *parts, last = name.split(".")
        inner = holder
        for part in parts:
            if part not in dict(inner.named_children()):
                inner.add_module(part, nn.Module())
            inner = inner.get_submodule(part)
        inner.register_parameter(last, nn.Parameter(tensor))
    torch.jit.script(holder).save(file)
    places = []
    real = torch.jit.load

    def load(path, map_location):
        places.append(map_location)
        return real(path, map_location=map_location)

    monkeypatch.setattr(torch.jit, "load", load)
    source = load_model_card("adem-7b").vision
    assert visual_sizes(source, file) == visual_sizes(source, plain)
    assert places == ["meta"]
    read, same = (load_visual(source, f, torch.float32).state_dict() for f in (file, plain))
    assert places == ["meta", "cpu"]
    assert all(torch.equal(tensor, same[name]) for name, tensor in read.items())
