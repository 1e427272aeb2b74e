"""Every base with every tower and every method, at toy size: a training step, files, answers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from adem_bench.cards import load_model_card
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.backbone import FrozenFiles, FrozenParts
from adem_bench.models.fused.method import AdapterSettings
from adem_bench.models.fused.network import build_network, collate
from adem_bench.models.fused.sequence import SequenceBuilder
from adem_bench.models.fused.weights.adapter import read_adapter, write_adapter
from adem_bench.models.fused.weights.convert_adapter import convert_adapter
from adem_bench.records import Request
from adem_bench.registry import METHODS
from support.bases import BASE_NAMES

TOWERS = ("openai", "laion", "siglip")
NEVER_READ = {"adem": ("resblocks.3.",), "memvp": ("resblocks.3.", "modality_embedding")}
"""Of the tensors that a method saves: those of the last block's adapter (Q21, M1), …"""
METHOD_SETTINGS = {
    "adem": {"scales": (9, 4)},
    "memvp": {"slots": 20},
    "lavin": {"read_every": 2},
    "llava": {},
}
POOL = list(product(BASE_NAMES, TOWERS, METHOD_SETTINGS))
EVERY_DAY = {
    (base, TOWERS[index % 3], list(METHOD_SETTINGS)[index % 4])
    for index, base in enumerate(BASE_NAMES)
}
"""Each base, tower and method at least twice."""
QUESTION, ANSWER = "Is it red, or is it blue?", " red!"


@pytest.fixture(scope="session")
def fused_card(pool_card):
    """Loads the card of a base and a tower with settings."""

    def load(base, tower, *settings):
        return load_model_card(str(pool_card(base, tower)), settings)

    return load


@pytest.fixture(scope="module")
def frozen_parts(fused_card):
    """The frozen parts of a base and a tower; only the last ones are kept."""
    kept = {}

    def load(base, tower):
        if (base, tower) not in kept:
            kept.clear()
            options = ModelOptions("cpu")
            kept[base, tower] = FrozenParts(fused_card(base, tower), options, trainable=True)
        return kept[base, tower]

    return load


def drawn_network(frozen, name):
    """A network whose tensors are all drawn, so that every term counts."""
    method = METHODS.load(name)
    settings = method.settings(**METHOD_SETTINGS[name])
    network = build_network(frozen.llama, frozen.visual, method, settings).eval()
    torch.manual_seed(6)
    with torch.no_grad():
        for parameter in network.method.parameters():
            parameter.normal_(0, 0.05)
    return network, settings


def learn(network, tokenizer):
    """Take one step against the gradient; return the losses before and after, and what moved."""
    builder = SequenceBuilder(tokenizer, network.method.layout, max_length=96)
    rows = [builder.training(QUESTION, ANSWER, seen) for seen in (True, False, True)]
    side = network.vision.image_size
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(7))
    batch = collate(rows, list(images), [1, 0, 1])
    before = network.loss(batch, builder.image_tokens_at)
    before.backward()
    tensors = network.method.adapter_tensors()
    moved = {n: t.grad for n, t in tensors.items() if t.grad is not None and t.grad.any()}
    norm = torch.stack([gradient.norm() for gradient in moved.values()]).norm()
    with torch.no_grad():
        for name, gradient in moved.items():
            tensors[name] -= 0.01 * gradient / norm
        after = network.loss(batch, builder.image_tokens_at)
    return before.item(), after.item(), set(moved)


@pytest.mark.parametrize(
    ("base", "tower", "name"),
    [
        pytest.param(*one, marks=() if one in EVERY_DAY else pytest.mark.slow, id="-".join(one))
        for one in POOL
    ],
)
def test_a_method_learns_is_kept_and_answers(
    frozen_parts, fused_card, pictures, tmp_path, base, tower, name
):
    frozen = frozen_parts(base, tower)
    network, settings = drawn_network(frozen, name)
    before, after, moved = learn(network, frozen.tokenizer)
    assert after < before
    tensors = network.method.adapter_tensors()
    assert {n for n in tensors if not any(part in n for part in NEVER_READ.get(name, ()))} == moved

    stated = AdapterSettings(
        method=name, values=settings.values(), language_model=base,
        language_model_signature=frozen.signature,
    )  # fmt: skip
    write_adapter(tmp_path / "adapter", tensors, stated)
    convert_adapter(tmp_path / "adapter", tmp_path / "adapter.pth")
    convert_adapter(tmp_path / "adapter.pth", tmp_path / "again")
    again = read_adapter(tmp_path / "again")
    assert again.settings.method == name
    assert again.tensors.keys() == tensors.keys()
    assert all(torch.equal(again.tensors[n], tensor) for n, tensor in tensors.items())

    settings = (f"fusion={{kind: {name}}}", f"adapter={tmp_path / 'adapter'}")
    model = build_model(fused_card(base, tower, *settings), ModelOptions("cpu"))
    model.load_adapter_for("any", "any")
    loaded = model.weights.method.adapter_tensors()
    assert all(torch.equal(loaded[n], tensor) for n, tensor in tensors.items())
    choices = (" A", " B", " C")
    images = [(picture,) for picture in pictures[:2]]
    requests = [Request(QUESTION, image, 5, choices=choices) for image in [*images, ()]]
    together = model.generate(requests)
    for request, response in zip(requests, together, strict=True):
        (alone,) = model.generate([request])
        assert alone.text == response.text
        np.testing.assert_allclose(alone.choice_logprobs, response.choice_logprobs, atol=1e-4)
    assert len({response.choice_logprobs for response in together}) == len(together)


def test_each_base_and_each_tower_makes_another_fingerprint(fused_card):
    cards = [fused_card(base, "openai") for base in BASE_NAMES]
    cards += [fused_card(BASE_NAMES[0], tower) for tower in TOWERS[1:]]
    found = {FrozenFiles(card, None, torch.float32).fingerprint for card in cards}
    assert len(found) == len(cards)
