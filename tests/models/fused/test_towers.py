"""Vision towers of open_clip: their blocks, activations and pixel statistics."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.images import load_square
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.backbone import FrozenFiles
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.method import AdapterSettings, Method, VisualMemory
from adem_bench.models.fused.methods.adem import pool_patches
from adem_bench.models.fused.network import build_network
from adem_bench.models.fused.vision import TowerSizes, vision_tower
from adem_bench.models.fused.weights.adapter import write_adapter
from adem_bench.models.fused.weights.clip import load_visual, pixel_statistics, visual_sizes
from adem_bench.records import Request
from adem_bench.registry import METHODS
from adem_bench.schemas import MethodSettings
from support.fused import WEIGHTS
from support.towers import BLOCKS, KINDS, NAMES, TAG, tiny_visual, write_tower

SIZES = {"patch_size": 14, "width": 64, "layers": 3, "heads": 2, "mlp_ratio": 2.0}


@pytest.mark.parametrize("side", [56, 84])
@pytest.mark.parametrize("more", [{}, {"ls_init_value": 0.1}, {"no_ln_pre": True}])
def test_blocks_are_those_of_open_clip(side, more):
    torch.manual_seed(2)
    visual = VisionTransformer(image_size=side, **SIZES, **more).eval()
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tower = vision_tower(visual)
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
        ("tiny-qknorm", "laion", "the blocks of tiny-qknorm are not those of CLIP or SigLIP"),
    ],
)
def test_a_tower_that_would_compute_something_else_is_refused(tags, name, tag, reason):
    with pytest.raises(CheckpointError, match=reason):
        load_visual(VisionSource(name=name, pretrained=tag), None, torch.float32)


def test_a_towers_own_pixel_statistics_are_the_tags(tags, tmp_path):
    def of(tag, file=None, **more):
        return pixel_statistics(VisionSource(**{"name": "tiny", "pretrained": tag} | more), file)

    file = tmp_path / "file.pt"
    assert [of("laion"), of("half"), of("half", file), of("openai", file)] == [
        "clip", "inception", "inception", "clip",
    ]  # fmt: skip
    default = VisionSource().name
    assert of("half", file, name=default) == "clip"  # read by OpenAI's conventions
    with pytest.raises(CheckpointError, match="which image_normalization=tower does not know"):
        of("other")


def test_half_gray_is_nothing_to_a_tower_of_half_statistics(tmp_path):
    Image.new("RGB", (8, 8), (127, 128, 255)).save(tmp_path / "a.png")
    pixels = load_square(tmp_path / "a.png", 4, "inception").pixels
    np.testing.assert_allclose(pixels[:, 0, 0], [-1 / 255, 1 / 255, 1], atol=1e-6)


@pytest.fixture(scope="module")
def language_model():
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=600, intermediate_size=48, **sizes)).eval()


def joined(kind, method, language_model, folder, **settings):
    """A network whose drawn parameters have every part of the method at work."""
    source = VisionSource(**write_tower(kind, folder))
    visual = load_visual(source, Path(source.path), torch.float32)
    made = METHODS.load(method)
    network = build_network(language_model, visual, made, made.settings(**settings)).eval()
    with torch.no_grad():
        for parameter in network.method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


@pytest.mark.parametrize("kind", ["siglip", "siglip2", "laion"])
@torch.inference_mode()
def test_the_mean_of_patches_stands_for_the_class_token(kind, language_model, tmp_path):
    images = torch.randn(3, 3, *[loaded(kind, tmp_path).image_size] * 2)
    adem = joined(kind, "adem", language_model, tmp_path)
    features = adem.method.vision_adapters.features(adem, images)
    first = features.mean(dim=1) if "siglip" in kind else features[:, 0]
    memory = adem.encode_images(images)
    torch.testing.assert_close(memory.tokens[:, 0], adem.method.adapter_proj_cls(first))
    patches = features if "siglip" in kind else features[:, 1:]
    assert patches.shape[1] == adem.vision.patches == adem.method.scales[0]
    visual = adem.method.adapter_proj(pool_patches(patches, adem.method.scales)) * 0.01
    torch.testing.assert_close(memory.values, visual + adem.method.adapter_emb2)

    lavin = joined(kind, "lavin", language_model, tmp_path, read_every=2)
    for router in lavin.method.vision_routers:  # they change nothing
        for branch in (router.conv_B, router.conv_D):
            branch.weight.zero_(), branch.bias.zero_()
    read = states(lavin.vision, images)[2::2]
    expected = [x.mean(dim=1) if "siglip" in kind else x[:, 0] for x in read]
    found = lavin.method.class_tokens(lavin, images)
    torch.testing.assert_close(found, torch.stack(expected, dim=1))


@pytest.mark.parametrize("kind", ["siglip", "siglip2", "laion"])
@torch.inference_mode()
def test_methods_of_patches_read_all_of_them(kind, language_model, tmp_path):
    images = torch.randn(2, 3, *[loaded(kind, tmp_path).image_size] * 2)
    llava = joined(kind, "llava", language_model, tmp_path)
    x = states(llava.vision, images)[-2]
    patches = x if "siglip" in kind else x[:, 1:]
    projector = llava.method.multi_modal_projector
    expected = projector["linear_2"](functional.gelu(projector["linear_1"](patches)))
    torch.testing.assert_close(llava.encode_images(images).tokens, expected)
    assert llava.method.layout.image_tokens == expected.shape[1]

    memvp = joined(kind, "memvp", language_model, tmp_path)
    features = memvp.method.vision_adapters.features(memvp, images)
    patches = features if "siglip" in kind else features[:, 1:]
    own = memvp.encode_images(images).keys - memvp.method.adapter_emb1
    count = patches.shape[1]
    torch.testing.assert_close(own[:, :count], memvp.method.adapter_proj(patches) * 0.01)
    assert own[:, count:].abs().max() < 1e-6


class ReadsTheFirst(Method):
    title = "first token"
    settings = MethodSettings

    def encode_images(self, frame, images):
        return VisualMemory(tokens=frame.vision.embed(images)[:, :1])


def test_a_method_that_does_not_say_so_gets_no_tower_without_class_token(tmp_path, language_model):
    def build(kind):
        source = VisionSource(**write_tower(kind, tmp_path))
        visual = load_visual(source, Path(source.path), torch.float32)
        return build_network(language_model, visual, ReadsTheFirst, MethodSettings())

    build("laion")
    with pytest.raises(CheckpointError, match="first token reads the class token of a vision tow"):
        build("siglip")


@pytest.mark.parametrize("method", ["adem", "llava"])
def test_answers_on_a_tower_without_class_token_depend_on_the_image_and_not_on_the_batch(
    parity_card, language_model, pictures, tmp_path, method
):
    network = joined("siglip", method, language_model, tmp_path)
    settings = AdapterSettings(method, network.method.chosen.values())
    write_adapter(tmp_path / "adapter", network.method.adapter_tensors(), settings)
    language_model.save_pretrained(tmp_path / "base")
    shutil.copy(WEIGHTS / "tokenizer.model", tmp_path / "base")

    def load(*more):
        chosen = [
            f"fusion={{kind: {method}}}", f"adapter={tmp_path / 'adapter'}",
            f"vision={json.dumps(write_tower('siglip', tmp_path))}",
            f"language_model.path={tmp_path / 'base'}", *more,
        ]  # fmt: skip
        model = build_model(load_model_card(str(parity_card), chosen), ModelOptions("cpu"))
        model.load_adapter_for("any", "any")
        return model

    model = load("image_normalization=tower")
    assert not model.warnings()
    images = [(), *((picture,) for picture in pictures)]
    requests = [Request(f"Is it {n}?", images[n], 4, choices=(" A", " B")) for n in range(4)]
    together = model.generate(requests)
    for request, response in zip(requests, together, strict=True):
        (alone,) = model.generate([request])
        assert alone.text == response.text
        np.testing.assert_allclose(alone.choice_logprobs, response.choice_logprobs, atol=1e-4)
    same = [replace(requests[1], images=request.images) for request in requests]
    assert len({response.choice_logprobs for response in model.generate(same)}) == 4

    silent = load()
    assert not silent.warnings()  # no published pixels were ever meant for such a tower
    assert silent.generate(same) == model.generate(same)
    assert load("image_normalization=task").generate(same) != model.generate(same)


def test_a_card_may_ask_for_the_towers_statistics(parity_card, pictures):
    request = Request("Is it red?", (pictures[0],), 1, choices=(" A", " B"))

    def scores(*settings):
        model = build_model(load_model_card(str(parity_card), settings), ModelOptions("cpu"))
        model.load_adapter_for("any", "any")
        return model.generate([request])[0].choice_logprobs

    assert scores("image_normalization=tower") == scores("image_normalization=clip")
    assert scores("image_normalization=tower") != scores()


def loaded(kind, folder, dtype=torch.float32):
    """The tower of a card that names a file."""
    source = VisionSource(**write_tower(kind, folder))
    return vision_tower(load_visual(source, Path(source.path), dtype))


def states(tower, images):
    """States before the first block and after each."""
    found = [tower.embed(images)]
    for index in range(tower.blocks):
        found.append(tower.block(index, found[-1]))
    return found


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_towers_states_are_those_of_open_clips_own_forward(kind, tmp_path):
    tower, own = loaded(kind, tmp_path), tiny_visual(kind)
    images = torch.randn(3, 3, tower.image_size, tower.image_size)
    found = states(tower, images)
    expected = own.forward_intermediates(images, output_fmt="NLC", output_extra_tokens=True)
    prefix = expected.get("image_intermediates_prefix", [None] * BLOCKS)
    patches = expected["image_intermediates"]
    for x, first, rest in zip(found[1:], prefix, patches, strict=True):
        torch.testing.assert_close(tower.patch_states(x), rest, atol=1e-5, rtol=1e-5)
        summary = rest.mean(dim=1) if first is None else first[:, 0]
        torch.testing.assert_close(tower.summary(x), summary, atol=1e-5, rtol=1e-5)
    last = tower.final_norm(found[-1])
    pooled = own.trunk.attn_pool(last) if first is None else last[:, 0] @ own.proj
    torch.testing.assert_close(pooled, own(images), atol=1e-5, rtol=1e-5)
    for row, image in enumerate(images):
        alone = states(tower, image[None])[-1]
        torch.testing.assert_close(alone[0], found[-1][row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_a_tower_in_half_precision_is_near(kind, dtype, tmp_path):
    whole, half = loaded(kind, tmp_path), loaded(kind, tmp_path, dtype)
    images = torch.randn(2, 3, whole.image_size, whole.image_size)
    expected, found = (t.final_norm(states(t, images)[-1]) for t in (whole, half))
    assert found.dtype == dtype
    near = functional.cosine_similarity(found.float(), expected, dim=-1)
    assert near.min() > 0.995


@pytest.mark.parametrize("kind", [kind for kind in KINDS if NAMES[kind]])
def test_name_and_tag_give_the_tower_of_the_file(kind, tmp_path, monkeypatch):
    file = VisionSource(**write_tower(kind, tmp_path))
    named = file.model_copy(update={"path": ""})
    own, expected = tiny_visual(kind), loaded(kind, tmp_path)

    def create_model(name, pretrained, **more):
        assert (name, pretrained) == (NAMES[kind], TAG)
        return SimpleNamespace(visual=own)

    monkeypatch.setattr(open_clip, "create_model", create_model)
    tower = vision_tower(load_visual(named, None, torch.float32))
    assert visual_sizes(named, None) == visual_sizes(file, Path(file.path)) == tower.sizes
    images = torch.randn(1, 3, tower.image_size, tower.image_size)
    with torch.inference_mode():
        assert torch.equal(states(tower, images)[-1], states(expected, images)[-1])


def test_a_file_has_the_fingerprint_of_before_and_another_where_it_is_computed_otherwise(
    parity_card, tmp_path
):
    file = write_tower("laion", tmp_path)["path"]

    def of(**vision):
        card = load_model_card(str(parity_card), [f"vision={json.dumps({'path': file} | vision)}"])
        return FrozenFiles(card, None, torch.float32).fingerprint

    by_openai = [
        of(), of(pretrained=""), of(name="ViT-L-14", pretrained="openai"),
        of(name="ViT-L-14-336-quickgelu", pretrained="openai"),
    ]  # fmt: skip
    others = [
        of(name="ViT-L-14", pretrained="laion2b_s32b_b82k"), of(name="ViT-H-14-quickgelu"),
        of(name="ViT-B-16-SigLIP", pretrained="webli"), of(name="tiny-laion", pretrained=TAG),
    ]  # fmt: skip
    assert len(set(by_openai)) == 1
    assert len({*by_openai, *others}) == 5


@pytest.mark.parametrize("suffix", [".bin", ".pt"])
def test_files_of_open_clips_trainer_are_read(suffix, tmp_path):
    source = VisionSource(**write_tower("siglip", tmp_path))
    state = {f"module.{name}": tensor for name, tensor in load_file(source.path).items()}
    file = tmp_path / f"epoch_1{suffix}"
    torch.save({"epoch": 1, "name": "run", "state_dict": state}, file)
    found, expected = (load_visual(source, p, torch.float32) for p in (file, Path(source.path)))
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "tag", "sizes", "statistics"),
    [
        ("ViT-B-16-SigLIP", "webli", (768, 12, 196, False), "inception"),
        ("ViT-SO400M-14-SigLIP-384", "webli", (1152, 27, 729, False), "inception"),
        ("ViT-SO400M-16-SigLIP2-384", "webli", (1152, 27, 576, False), "inception"),
        ("ViT-L-14-336-quickgelu", "openai", (1024, 24, 576, True), "clip"),
        ("ViT-H-14-378-quickgelu", "dfn5b", (1280, 32, 729, True), "clip"),
        ("ViT-L-14", "datacomp_xl_s13b_b90k", (1024, 24, 256, True), "clip"),
    ],
)
def test_sizes_and_statistics_of_published_names(name, tag, sizes, statistics):
    source = VisionSource(name=name, pretrained=tag)
    assert visual_sizes(source, None) == TowerSizes(*sizes)
    assert pixel_statistics(source, None) == statistics
    # A file without a tag has its architecture's statistics.
    file = source.model_copy(update={"pretrained": ""})
    assert pixel_statistics(file, Path("a.bin")) == statistics


@pytest.mark.parametrize("tag", ["webli"])
@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-SO400M-16-SigLIP2-512"])
def test_siglips_pixels_are_those_of_open_clips_own_transform(name, tag, tmp_path):
    drawn = np.random.default_rng(0).integers(0, 256, (41, 97, 3), dtype=np.uint8)
    photo = Image.fromarray(drawn).resize((97, 41))
    photo.save(tmp_path / "a.png")
    trained = open_clip.get_pretrained_cfg(name, tag)
    given = {field: trained[field] for field in ("mean", "std", "interpolation", "resize_mode")}
    expected = open_clip.image_transform(56, is_train=False, **given)(photo)
    statistics = pixel_statistics(VisionSource(name=name, pretrained=tag), None)
    found = load_square(tmp_path / "a.png", 56, statistics).pixels
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_files_that_are_not_the_tower_of_the_card_are_refused(tmp_path):
    def refused(source, **more):
        source = VisionSource(**source | more)
        for read in (visual_sizes, partial(load_visual, dtype=torch.float32)):
            with pytest.raises(CheckpointError) as caught:
                read(source, Path(source.path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    laion, siglip = write_tower("laion", tmp_path), write_tower("siglip", tmp_path)
    assert "does not hold the tower tiny-siglip2 of vision.name" in refused(
        siglip, name="tiny-siglip2"
    )
    foreign = refused(laion, name="tiny-siglip")
    assert "does not hold the tower tiny-siglip of" in foreign
    assert len(foreign) < 500  # of hundreds of names, a few
    unnamed = refused(siglip, name=VisionSource().name)
    assert "is a tower that timm has made (visual.trunk.…)" in unnamed
    assert "trained with GELU or QuickGELU: open_clip has no tag 'openai' of tiny-laion" in refused(
        laion, pretrained="openai"
    )
    assert "has no architecture 'tiny-unheard-of'" in refused(laion, name="tiny-unheard-of")


@pytest.mark.parametrize(
    "held", [{"state_dict": [1]}, {"state_dict": None}, {"visual.conv1.weight": 5}, [1], None]
)
@pytest.mark.parametrize("name", [VisionSource().name, "ViT-B-16-SigLIP"])
def test_files_without_a_towers_tensors_are_refused(tmp_path, held, name):
    file, source = tmp_path / "tower.pt", VisionSource(name=name, pretrained="webli")
    torch.save(held, file)
    for read in (visual_sizes, partial(load_visual, dtype=torch.float32)):
        with pytest.raises(CheckpointError, match=r"tower\.pt (is not a CLIP|does not hold the)"):
            read(source, file)


def test_a_pipe_in_the_place_of_a_tower_is_not_opened(tmp_path, monkeypatch):
    def opened(*arguments, **options):
        raise AssertionError("it would wait for ever; /dev/zero would fill the memory")

    file = tmp_path / "tower.pt"
    os.mkfifo(file)
    monkeypatch.setattr(zipfile, "ZipFile", opened)
    for read in (visual_sizes, partial(load_visual, dtype=torch.float32)):
        with pytest.raises(OSError, match="not a regular file"):
            read(VisionSource(), file)


@pytest.mark.parametrize(
    "config", [None, "[]", "{", '{"model_cfg": 5}', '{"vision_cfg": [1]}', '{"vision_cfg": {}}']
)
def test_a_tower_that_is_not_where_its_name_says_is_refused(tmp_path, config):
    if config is not None:
        (tmp_path / "open_clip_config.json").write_text(config)
    source = VisionSource(name=f"local-dir:{tmp_path}", pretrained="")
    with pytest.raises(CheckpointError, match=r"open_clip (has no architecture|cannot make)"):
        load_visual(source, tmp_path / "tower.pt", torch.float32)


@pytest.mark.parametrize("name", ["RN50", "EVA02-B-16", "coca_ViT-B-32", "convnext_base"])
def test_towers_of_other_kinds_are_refused_by_name(name, monkeypatch):
    assert visual_sizes(VisionSource(name=name, pretrained=""), None) is None
