"""The method's own rules: sizes, the drop rule, pooling, where the class token stands."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.method import FrozenSizes
from adem_bench.models.fused.methods.adem import (
    LAYOUT,
    AdemSettings,
    AdemVl,
    adaptive_drop,
    pool_patches,
    scales_of,
)
from adem_bench.models.fused.sequence import SequenceBuilder
from adem_bench.models.fused.vision import VisionTower
from support.fused import meta_network

TOY = FrozenSizes(vision_width=6, vision_blocks=1, patches=4, language_width=8, language_layers=1)


class Features:
    """Stands for a network whose vision tower has made these features."""

    dtype = torch.float32
    class_token = True
    patch_states, summary = VisionTower.patch_states, VisionTower.summary

    def __init__(self, features):
        self.vision = self
        self._features = features

    def embed(self, images):
        return self._features

    def final_norm(self, x):
        return x


@pytest.mark.parametrize(
    ("width", "layers", "heads", "cls_token", "count"),
    [
        (4096, 32, 32, True, 4_530_432),
        (5120, 40, 40, True, 5_449_984),
        (4096, 32, 32, False, 3_870_848),
        (5120, 40, 40, False, 4_658_304),
    ],
)
def test_trainable_parameters_of_the_published_sizes(width, layers, heads, cls_token, count):
    settings = AdemSettings(cls_token=cls_token)
    tensors = meta_network(AdemVl, settings, width, layers, heads).method.adapter_tensors()
    assert sum(tensor.numel() for tensor in tensors.values()) == count
    assert len(tensors) == (58 if cls_token else 54)
    assert tensors["adapter_emb1"].shape == (1, 320, width)
    assert list(tensors)[:2] == ["adapter_emb1", "adapter_emb2"]


def test_scales_that_do_not_suit_the_tower_are_told():
    for scales in ((256, 60), (1024,)):
        settings = AdemSettings(scales=scales, hidden_proj=8, adapter_dim=4)
        with pytest.raises(CheckpointError, match="does not suit a vision tower with 256 patches"):
            meta_network(AdemVl, settings, 64, 1, 1)


@pytest.mark.parametrize(
    ("patches", "scales"),
    [
        (256, (256, 64)),  # as published
        (1, (1,)),
        (4, (4, 1)),
        (9, (9, 1)),
        (49, (49, 1)),
        (196, (196, 49)),
        (576, (576, 144)),
        (729, (729, 81)),
        (1024, (1024, 256)),
    ],
)
def test_scales_follow_the_grid_where_nothing_is_said(patches, scales):
    sizes = replace(TOY, patches=patches)
    silent = AdemVl(AdemSettings(hidden_proj=2, adapter_dim=2), sizes)
    assert silent.scales == silent.chosen.scales == scales
    assert silent.adapter_emb1.shape[1] == sum(scales)
    pooled = pool_patches(torch.ones(1, patches, 3), scales)
    assert pooled.shape == (1, sum(scales), 3)


@pytest.mark.parametrize(("side", "pooled"), [(14, 7), (16, 8), (24, 12), (27, 9)])
def test_even_scales_are_means_of_whole_windows(side, pooled):
    grid = torch.randn(2, side, side, 3, generator=torch.Generator().manual_seed(0))
    window = side // pooled
    expected = grid.unflatten(2, (pooled, window)).unflatten(1, (pooled, window)).mean(dim=(2, 4))
    found = pool_patches(grid.flatten(1, 2), scales_of(side**2))
    torch.testing.assert_close(found[:, side**2 :], expected.flatten(1, 2))
    assert torch.equal(found[:, : side**2], grid.flatten(1, 2))


@pytest.mark.parametrize(
    ("patches", "even"),
    [(196, "1, 4, 49, 196"), (729, "1, 9, 81, 729"), (16, "1, 4, 16"), (49, "1, 49")],
)
def test_scales_that_are_asked_for_are_kept_or_refused_with_those_that_fit(patches, even):
    sizes = replace(TOY, patches=patches)
    # As in the published code, a grid need not divide the patches' own evenly.
    kept = AdemVl(AdemSettings(scales=(9, 4), hidden_proj=2, adapter_dim=2), sizes)
    assert kept.scales == (9, 4)
    for scale in (1024, 8, 0, -4):
        with pytest.raises(CheckpointError) as caught:
            AdemVl(AdemSettings(scales=(scale,)), sizes)
        assert f"up to that, of which {even} divide its grid evenly" in str(caught.value)
    # The defaults, if asked for, are what was asked for.
    if patches < 256:
        with pytest.raises(CheckpointError, match="scale 256 does not suit"):
            AdemVl(AdemSettings(scales=(256, 64)), sizes)


def test_ties_with_the_threshold_survive_the_drop():
    row = torch.tensor([3.0, 1.0, 1.0, 1.0, 2.0])
    assert adaptive_drop(row, 0.4).tolist() == row.tolist()


def test_the_lowest_signed_similarities_are_dropped():
    row = torch.linspace(-1, 1, 320)[
        torch.randperm(320, generator=torch.Generator().manual_seed(0))
    ]
    dropped = adaptive_drop(row, 0.1) == 0
    assert int(dropped.sum()) == 32
    assert row[dropped].max() < row[~dropped].min()
    assert adaptive_drop(row, 0).tolist() == row.tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans())
def test_the_quick_threshold_is_the_published_sort(seed, ratio, with_nan):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 3, 40, generator=generator).mul(4).round().div(4)
    if with_nan:
        scores[0, 0, 7] = math.nan
    ordered = scores.sort(dim=2).values
    threshold = ordered[:, :, int(ratio * 40)].unsqueeze(2)
    expected = scores.clone()
    expected[scores < threshold] = 0
    for dtype in (torch.float32, torch.float64):
        found = adaptive_drop(scores.to(dtype), ratio)
        torch.testing.assert_close(found, expected.to(dtype), equal_nan=True, atol=0, rtol=0)


def test_pooling_averages_neighbouring_patches_in_reading_order():
    patches = torch.arange(16.0).view(1, 16, 1)
    assert pool_patches(patches, (16, 4)).flatten().tolist() == [*range(16), 2.5, 4.5, 10.5, 12.5]


def test_the_term_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    method = AdemVl(AdemSettings(alpha=0.3, beta=0.5, drop_ratio=0, scales=(4,)), TOY)
    torch.nn.init.normal_(method.adapter_emb2)
    features = torch.randn(2, 5, 6)
    residual, query, fed = torch.randn(3, 2, 3, 8)
    memory = method.encode_images(Features(features), torch.empty(2))
    visual = 0.5 * method.adapter_proj(features[:, 1:])
    silu = torch.nn.functional.silu
    scores = silu(query) @ silu(visual + method.adapter_emb1).transpose(1, 2)
    expected = residual + fed + 0.3 * (scores @ (visual + method.adapter_emb2))
    found = method.after_feed_forward(0, residual, query, fed, memory)
    torch.testing.assert_close(found, expected)
    # beta scales the slots alone, never the class token.
    torch.testing.assert_close(memory.tokens[:, 0], method.adapter_proj_cls(features[:, 0]))


def test_without_an_image_the_learned_slots_act_alone():
    method = AdemVl(AdemSettings(beta=0.0, scales=(4,)), TOY)
    torch.nn.init.normal_(method.adapter_emb2)
    features = Features(torch.randn(1, 5, 6))
    nothing = method.no_image_memory(features)
    zeros = method.encode_images(features, torch.empty(1))  # beta is 0
    assert nothing.tokens is None
    torch.testing.assert_close(nothing.keys, zeros.keys)
    torch.testing.assert_close(nothing.values, zeros.values)


class Letters:
    """One id a character; the class token's prefix is then three ids, as in LLaMA's vocabulary."""

    bos_id, eos_id, vocab_size = 1, 2, 300
    begin_ids, after_prompt, end_ids = (1,), "", (2,)

    def encode(self, text):
        return [ord(c) + 3 for c in text.replace("Image: N/A", "NONES").replace("Image: ", "IMG")]

    def decode(self, ids):
        return "".join(chr(i - 3) for i in ids)


@pytest.mark.parametrize(
    ("length", "at"), [(511, 4), (512, 4), (513, 3), (514, 2), (515, 1), (516, None), (600, None)]
)
def test_the_class_token_of_over_long_prompts_is_misplaced_as_published(length, at):
    builder = SequenceBuilder(
        Letters(), LAYOUT, cut=AdemVl(AdemSettings(scales=(4,)), TOY).cut_prompt
    )
    most = 10
    prompt = "x" * (length - most - 1 - 3 - 1)
    row = builder.prompt(prompt, True, most)
    assert (row.image_tokens_at, row.notes) == (at, ("Q9",) if length > 512 else ())
    assert len(row.ids) == min(length, 512) - most
    assert row.ids[4] == 0


def test_the_fix_for_over_long_prompts_keeps_head_and_end():
    builder = SequenceBuilder(Letters(), LAYOUT)
    row = builder.prompt("a" * 600 + "Response:", True, 10)
    assert row.image_tokens_at == 4
    assert len(row.ids) == 502
    assert Letters().decode(row.ids[-9:]) == "Response:"


def test_without_class_token_there_is_no_prefix_either():
    method = AdemVl(AdemSettings(scales=(4,), cls_token=False), TOY)
    builder = SequenceBuilder(Letters(), method.layout)
    for has_image in (True, False):
        row = builder.prompt("ab", has_image, 1)
        assert row.ids == [1, ord("a") + 3, ord("b") + 3]
        assert row.image_tokens_at is None
