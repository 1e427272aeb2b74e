"""Vision towers of open_clip: their blocks, activations and pixel statistics."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.images import load_square
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.vision import VisionTower
from adem_bench.models.fused.weights.clip import load_visual, pixel_statistics
from adem_bench.records import Request

SIZES = {"patch_size": 14, "width": 64, "layers": 3, "heads": 2, "mlp_ratio": 2.0}


@pytest.mark.parametrize("side", [56, 84])
@pytest.mark.parametrize("more", [{}, {"ls_init_value": 0.1}, {"no_ln_pre": True}])
def test_blocks_are_those_of_open_clip(side, more):
    torch.manual_seed(2)
    visual = VisionTransformer(image_size=side, **SIZES, **more).eval()
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tower = VisionTower(visual)
    assert (tower.image_size, tower.patches, tower.blocks) == (side, (side // 14) ** 2, 3)
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        x = tower.embed(images)
        for index in range(tower.blocks):
            x = tower.block(index, x)
        torch.testing.assert_close(x, visual.transformer(visual._embeds(images)))


@pytest.fixture
def tags(monkeypatch, tmp_path):
    """Names and tags of tiny towers, whose weights open_clip draws instead of fetching them."""
    vision = {"image_size": 56, "layers": 2, "width": 64, "head_width": 32, "patch_size": 14}
    text = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    for name, more in {
        "tiny": {},
        "tiny-quickgelu": {"quick_gelu": True},
        "tiny-qknorm": {"vision_cfg": vision | {"block_type": "custom", "qk_norm": True}},
    }.items():
        config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text} | more
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    clip = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    known = {
        "laion": clip,
        "dfn": clip | {"quick_gelu": True},
        "half": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        "other": {"mean": (0.4, 0.4, 0.4), "std": (0.2, 0.2, 0.2)},
    }
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: known.get(tag, {}))
    create = open_clip.create_model
    monkeypatch.setattr(
        open_clip, "create_model", lambda name, pretrained, **more: create(name, None, **more)
    )


@pytest.mark.parametrize(
    ("name", "tag", "activation"),
    [
        ("tiny", "laion", "GELU"),
        ("tiny", "dfn", "QuickGELU"),
        ("tiny-quickgelu", "dfn", "QuickGELU"),
    ],
)
def test_the_activation_is_the_one_that_the_weights_were_trained_with(tags, name, tag, activation):
    visual = load_visual(VisionSource(name=name, pretrained=tag), None, torch.float32)
    assert type(visual.transformer.resblocks[0].mlp.gelu).__name__ == activation


@pytest.mark.parametrize(
    ("name", "tag", "reason"),
    [
        ("tiny-quickgelu", "laion", "'laion' were trained with GELU; set vision.name=tiny$"),
        ("tiny-qknorm", "laion", "the blocks of tiny-qknorm are not those of CLIP"),
    ],
)
def test_a_tower_that_would_compute_something_else_is_refused(tags, name, tag, reason):
    with pytest.raises(CheckpointError, match=reason):
        load_visual(VisionSource(name=name, pretrained=tag), None, torch.float32)


def test_a_towers_own_pixel_statistics_are_the_tags(tags, tmp_path):
    def of(tag, file=None):
        return pixel_statistics(VisionSource(name="tiny", pretrained=tag), file)

    assert [of("laion"), of("half"), of("half", tmp_path / "file.pt")] == [
        "clip", "inception", "clip",
    ]  # fmt: skip
    with pytest.raises(CheckpointError, match="which image_normalization=tower does not know"):
        of("other")


def test_half_gray_is_nothing_to_a_tower_of_half_statistics(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8), (127, 128, 255)).save(tmp_path / "a.png")
    pixels = load_square(tmp_path / "a.png", 4, "inception").pixels
    np.testing.assert_allclose(pixels[:, 0, 0], [-1 / 255, 1 / 255, 1], atol=1e-6)


def test_a_card_may_ask_for_the_towers_statistics(parity_card, pictures):
    request = Request("Is it red?", (pictures[0],), 1, choices=(" A", " B"))

    def scores(*settings):
        model = build_model(load_model_card(str(parity_card), settings), ModelOptions("cpu"))
        model.load_adapter_for("any", "any")
        return model.generate([request])[0].choice_logprobs

    assert scores("image_normalization=tower") == scores("image_normalization=clip")
    assert scores("image_normalization=tower") != scores()
