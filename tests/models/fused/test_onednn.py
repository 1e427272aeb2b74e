"""Packed layers give what the layers that they replace give."""

from __future__ import annotations

import pytest
import torch
from open_clip.transformer import QuickGELU
from torch import nn

from adem_bench.models.fused.onednn import PackedQuickGELU, can_pack, pack_linear_layers

pytestmark = pytest.mark.skipif(
    not can_pack(torch.device("cpu"), torch.float32), reason="this PyTorch was built without oneDNN"
)


@pytest.mark.parametrize(
    ("activation", "bias", "packed"),
    [
        (QuickGELU, True, PackedQuickGELU),
        (QuickGELU, False, PackedQuickGELU),
        (nn.GELU, True, nn.Sequential),
    ],
)
def test_an_mlp_that_is_packed_computes_the_same(activation, bias, packed):
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(24, 96, bias=bias), activation(), nn.Linear(96, 24, bias=bias))
    # Of every size: where the activation is linear, where it bends, where it is nearly zero.
    x = torch.randn(5, 7, 24) * torch.logspace(-3, 2, 7)[:, None]
    tower = nn.ModuleDict({"mlp": mlp.requires_grad_(False)})
    with torch.inference_mode():
        wanted = mlp.double()(x.double())
        mlp.float()
        pack_linear_layers(tower)
        found = tower["mlp"](x)
    assert type(tower["mlp"]) is packed
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
