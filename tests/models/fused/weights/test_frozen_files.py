"""Language models and vision towers read from the layouts people have on disk."""

from __future__ import annotations

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from adem_bench.errors import CheckpointError
from adem_bench.models.device import pick_device
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.decoder import FusedDecoder
from adem_bench.models.fused.method import LanguageModelAlone, VisualMemory
from adem_bench.models.fused.vision import vision_tower
from adem_bench.models.fused.weights.clip import load_visual
from adem_bench.models.fused.weights.llama import load_language_model
from support.llama_folders import consolidated, logits
from support.processes import Python

CPU = torch.device("cpu")


def test_any_number_of_shards_gives_the_same_model(tmp_path):
    consolidated(tmp_path / "one")
    consolidated(tmp_path / "two", shards=2)
    consolidated(tmp_path / "four", shards=4)
    one = logits(load_language_model(tmp_path / "one", torch.float32, CPU))
    for name in ("two", "four"):
        other = logits(load_language_model(tmp_path / name, torch.float32, CPU))
        torch.testing.assert_close(other, one, atol=0, rtol=0)


@pytest.mark.parametrize("groups", [4, 2])
def test_a_hugging_face_folder_gives_the_decoder_of_transformers(tmp_path, groups):
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=groups,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    llama = load_language_model(tmp_path, torch.float32, CPU)
    expected = logits(llama)
    for eager in (False, True):
        decoder = FusedDecoder(llama, LanguageModelAlone(), eager)
        assert not any(parameter.requires_grad for parameter in decoder.parameters())
        with torch.inference_mode():
            found = decoder.logits(
                decoder(decoder.embed(torch.arange(1, 20)[None]), VisualMemory())
            )
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_missing_and_misshapen_tensors_are_named(tmp_path):
    tensors = consolidated(tmp_path)
    file = tmp_path / "consolidated.00.pth"
    torch.save({n: t for n, t in tensors.items() if n != "layers.1.ffn_norm.weight"}, file)
    with pytest.raises(CheckpointError, match=r"layers\.1\.ffn_norm\.weight"):
        load_language_model(tmp_path, torch.float32, CPU)
    torch.save(tensors | {"layers.1.attention.wo.weight": torch.zeros(3, 3)}, file)
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.self_attn\.o_proj\.weight"):
        load_language_model(tmp_path, torch.float32, CPU)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"no consolidated\.00\.pth"):
        load_language_model(tmp_path, torch.float32, CPU)


def test_an_empty_folder_is_no_language_model(tmp_path):
    with pytest.raises(CheckpointError, match="no language model"):
        load_language_model(tmp_path, torch.float32, CPU)


PEAK = """
import sys, torch
from pathlib import Path
from adem_bench.models.fused.weights.llama import load_language_model
from support.memory import peak_bytes
folder = Path(sys.argv[1])
print(peak_bytes(lambda: load_language_model(folder, torch.float16, torch.device("cpu"))))
"""


@pytest.mark.slow
def test_loading_does_not_hold_two_copies(tmp_path):
    consolidated(tmp_path, shards=2, width=512, layers=10, heads=8, groups=8, hidden=1376)
    for file in tmp_path.glob("*.pth"):
        torch.save({n: t.half() for n, t in torch.load(file).items()}, file)
    weights = sum(file.stat().st_size for file in tmp_path.glob("*.pth"))
    (tmp_path / "peak.py").write_text(PEAK)
    done = Python([tmp_path / "peak.py", tmp_path], tmp_path / "peak").wait()
    assert done.returncode == 0, done.stderr
    assert weights * 0.9 < int(done.stdout) < 1.6 * weights


def vision_state(width=64, blocks=3, patch=8, side=4) -> dict[str, torch.Tensor]:
    visual = open_clip.transformer.VisionTransformer(
        image_size=patch * side, patch_size=patch, width=width, layers=blocks, heads=1,
        mlp_ratio=4.0, output_dim=32, act_layer=open_clip.transformer.QuickGELU,
    )  # fmt: skip
    return {f"visual.{name}": tensor for name, tensor in visual.state_dict().items()}


def test_the_tower_is_what_open_clip_computes_before_its_last_block(tmp_path):
    state = vision_state()
    torch.save(state, tmp_path / "clip.pt")
    visual = load_visual(VisionSource(), tmp_path / "clip.pt", torch.float32)
    images = torch.randn(2, 3, 32, 32)
    tower = vision_tower(visual)
    found = tower.final_norm(tower.block(1, tower.block(0, tower.embed(images))))
    expected = visual.forward_intermediates(
        images, indices=[1], stop_early=True, normalize_intermediates=True,
        intermediates_only=True, output_fmt="NLC", output_extra_tokens=True,
    )  # fmt: skip
    joined = torch.cat(
        [expected["image_intermediates_prefix"][0], expected["image_intermediates"][0]], dim=1
    )
    torch.testing.assert_close(found, joined, atol=1e-5, rtol=1e-5)


def test_towers_are_read_from_safetensors_and_whole_clip_files_too(tmp_path):
    state = vision_state()
    torch.save(state, tmp_path / "clip.pt")
    save_file(state, tmp_path / "clip.safetensors")
    text = {"transformer.resblocks.0.ln_1.weight": torch.ones(4), "logit_scale": torch.ones(())}
    torch.save({"state_dict": state | text}, tmp_path / "whole.pt")
    images = torch.randn(1, 3, 32, 32)
    found = [
        load_visual(VisionSource(), tmp_path / name, torch.float32)(images)
        for name in ("clip.pt", "clip.safetensors", "whole.pt")
    ]
    torch.testing.assert_close(found[0], found[1], atol=0, rtol=0)
    torch.testing.assert_close(found[0], found[2], atol=0, rtol=0)


def test_a_file_without_a_tower_is_told(tmp_path):
    torch.save({"some": torch.zeros(1)}, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match="OpenAI's layout"):
        load_visual(VisionSource(), tmp_path / "clip.pt", torch.float32)


def test_openai_weights_use_quick_gelu_whatever_open_clip_thinks():
    visual = load_visual(VisionSource(name="ViT-B-32", pretrained=""), None, torch.float32)
    assert type(visual.transformer.resblocks[0].mlp.gelu).__name__ == "GELU"
    quick = VisionSource(name="ViT-B-32-quickgelu", pretrained="")
    visual = load_visual(quick, None, torch.float32)
    assert type(visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


@pytest.mark.parametrize("name", ["nonsense", "cuda:99"])
def test_an_unknown_device_is_told(name):
    with pytest.raises(CheckpointError, match="--device"):
        pick_device(name)
