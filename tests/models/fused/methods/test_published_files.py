"""Files of the published sizes, which their tensors' names and shapes alone tell apart."""

from __future__ import annotations

import pytest
import torch

from adem_bench.cards import load_model_card
from adem_bench.models.fused.method import Method
from adem_bench.models.fused.methods.adem import AdemSettings, AdemVl
from adem_bench.models.fused.methods.lavin import Lavin, LavinSettings
from adem_bench.models.fused.methods.memvp import MemVp, MemvpSettings
from adem_bench.models.fused.network import collate
from adem_bench.models.fused.sequence import SequenceBuilder
from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from support.fused import FIXTURES, WEIGHTS, meta_network, tiny_network

METHODS: dict[str, type[Method]] = {"adem": AdemVl, "memvp": MemVp, "lavin": Lavin}
SIZES = {"7B": (4096, 32, 32), "13B": (5120, 40, 40)}
CARDS = {
    "adem-7b": ("7B", AdemSettings(), {"cls_token": True}),
    "adem-13b": ("13B", AdemSettings(), {"cls_token": True}),
    "memvp-7b": ("7B", MemvpSettings(), {"slots": 320}),
    "memvp-13b": ("13B", MemvpSettings(slots=400), {"slots": 400}),
    "lavin-7b": ("7B", LavinSettings(), {"temperature": 10.0, "adapter_dim": 8}),
    "lavin-13b": ("13B", LavinSettings(), {"temperature": 5.0, "adapter_dim": 8}),
    "lavin-vicuna-7b": ("7B", LavinSettings(), {"temperature": 10.0, "adapter_dim": 8}),
    "lavin-vicuna-13b": ("13B", LavinSettings(), {"temperature": 5.0, "adapter_dim": 8}),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_s_file_is_recognised_counted_and_says_its_settings(name):
    size, settings, expected = CARDS[name]
    card = load_model_card(name)
    method = METHODS[card.fusion.kind]
    tensors = meta_network(method, settings, *SIZES[size]).method.adapter_tensors()
    assert sum(tensor.numel() for tensor in tensors.values()) == card.trainable_parameters
    assert [kind for kind, other in METHODS.items() if other.recognises(tensors)] == [
        card.fusion.kind
    ]
    assert method.settings_from(tensors, {}).items() >= expected.items()


def test_adem_vl_without_class_token_is_not_taken_for_memvp():
    made = meta_network(AdemVl, AdemSettings(cls_token=False), *SIZES["7B"])
    tensors = made.method.adapter_tensors()
    assert AdemVl.recognises(tensors)
    assert not MemVp.recognises(tensors)
    with_modality = tensors | {"adapter_modality_embedding.weight": torch.empty(2, 4096)}
    assert MemVp.recognises(with_modality)
    assert not AdemVl.recognises(with_modality)


def loss_of(network, goldens, rows):
    tokenizer = SentencePieceTokenizer(WEIGHTS / "tokenizer.model")
    builder = SequenceBuilder(tokenizer, network.method.layout, max_length=128)
    pairs = [goldens["pairs"][row] for row in rows]
    built = [builder.training(prompt, answer, bool(has)) for prompt, answer, has in pairs]
    images = [goldens["images"][row] for row in rows if goldens["pairs"][row][2]]
    batch = collate(built, images, [int(has) for _, _, has in pairs])
    with torch.no_grad():
        return network.loss(batch, builder.image_tokens_at).item()


@pytest.mark.parametrize(("method", "matters"), [("lavin", True), ("memvp", False)])
@pytest.mark.parametrize("rows", [(0, 1), (1,)])
def test_what_the_modality_embedding_does(method, matters, rows):
    folder = FIXTURES / f"parity_{method}"
    goldens = torch.load(folder / "goldens.pt", weights_only=True)
    clip = folder / "weights" / "clip_tiny.pt" if method == "lavin" else None
    network = tiny_network(folder / "checkpoint-19.pth", method, True, clip)
    before = loss_of(network, goldens, rows)
    embedding = network.method.adapter_modality_embedding.weight
    with torch.no_grad():
        embedding.copy_(embedding.flip(0))
    after = loss_of(network, goldens, rows)
    assert (abs(after - before) > 1e-3) == matters
    assert matters or after == before
