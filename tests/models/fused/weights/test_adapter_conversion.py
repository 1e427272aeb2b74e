"""Adapters from the published layout to ours and back."""

from __future__ import annotations

import argparse
import json
import random

import pytest
import torch

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.method import AdapterSettings
from adem_bench.models.fused.methods.adem import AdemVl
from adem_bench.models.fused.weights.adapter import read_adapter, write_adapter
from adem_bench.models.fused.weights.convert_adapter import convert_adapter
from adem_bench.models.fused.weights.published import PublishedAdapter, write_published


@pytest.fixture
def published(parity):
    return parity / "checkpoint-19.pth"


def stored(path) -> dict:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


def bits(tensors) -> dict:
    return {
        name: (tensor.dtype, tensor.shape, tensor.contiguous().flatten().view(torch.uint8).tolist())
        for name, tensor in tensors.items()
    }


def test_a_published_file_comes_back_bit_for_bit_and_in_order(published, tmp_path):
    convert_adapter(published, tmp_path / "ours")
    assert convert_adapter(tmp_path / "ours", tmp_path / "again.pth") == []
    before, after = stored(published), stored(tmp_path / "again.pth")
    assert list(after["model"]) == list(before["model"])
    assert bits(after["model"]) == bits(before["model"])
    stated = ("alpha", "beta", "drop_ratio", "down_sample_num", "no_cls", "hidden_proj")
    for name in (*stated, "adapter_dim", "llm_model", "clip"):
        assert getattr(after["args"], name) == getattr(before["args"], name), name
    assert read_adapter(tmp_path / "again.pth").settings == read_adapter(published).settings


def module_of(tensors) -> torch.nn.Module:
    """Return a module whose state has those names, with other values."""
    root = torch.nn.Module()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, torch.nn.Parameter(torch.zeros_like(tensor)))
    return root


def test_the_published_loader_reads_it_and_only_its_arguments_are_no_plain_data(
    published, tmp_path
):
    convert_adapter(published, tmp_path / "ours")
    convert_adapter(tmp_path / "ours", tmp_path / "again.pth")
    model = module_of(stored(published)["model"])
    found = torch.load(tmp_path / "again.pth", map_location="cpu", weights_only=False)
    outcome = model.load_state_dict(found["model"], strict=False)
    assert (outcome.missing_keys, outcome.unexpected_keys) == ([], [])
    assert bits(model.state_dict()) == bits(stored(published)["model"])
    assert torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "again.pth") == [
        "argparse.Namespace"
    ]
    # A state of the optimizer that never was must not be resumed from.
    assert set(found) == {"model", "args"}


def test_an_import_tells_what_of_the_file_is_left_out(published, tmp_path):
    (warning,) = convert_adapter(published, tmp_path / "ours")
    left_out = "epoch, optimizer, scaler, other arguments of the trainer"
    assert warning == f"{tmp_path / 'ours'} has no place for {left_out} of {published}"


SETTINGS = AdapterSettings(
    values={"alpha": 0.3, "beta": 1 / 3, "drop_ratio": 0.0, "scales": (256, 64)},
    language_model="LLaMA-7B",
    vision="ViT-L-14-quickgelu",
    prompts={"scienceqa": {"prompt_format": "CQM-A", "captions": False}},
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("cls_token", [True, False])
def test_settings_and_precision_survive_both_ways(published, tmp_path, dtype, cls_token):
    tensors = {
        name: tensor.to(dtype)
        for name, tensor in read_adapter(published).tensors.items()
        if cls_token or not name.startswith("adapter_proj_cls.")
    }
    tensors["adapter_emb2"][0, 0, 0] = float("nan")
    write_adapter(tmp_path / "ours", tensors, SETTINGS)
    assert convert_adapter(tmp_path / "ours", tmp_path / "published.pth") == []
    assert convert_adapter(tmp_path / "published.pth", tmp_path / "again") == []
    before, after = read_adapter(tmp_path / "ours"), read_adapter(tmp_path / "again")
    assert after.settings == before.settings
    assert after.settings.values["cls_token"] == cls_token
    assert bits(after.tensors) == bits(before.tensors) == bits(dict(sorted(tensors.items())))


def test_one_scale_is_written_as_a_list_and_read_as_one(published, tmp_path):
    tensors = read_adapter(published).tensors
    settings = AdapterSettings(values={"scales": (320,)})
    write_adapter(tmp_path / "ours", tensors, settings)
    convert_adapter(tmp_path / "ours", tmp_path / "one.pth")
    assert stored(tmp_path / "one.pth")["args"].down_sample_num == [320]
    assert read_adapter(tmp_path / "one.pth").settings.values["scales"] == (320,)


def test_an_export_tells_what_a_published_file_has_no_place_for(published, tmp_path):
    prompts = {
        "scienceqa": {"prompt_format": "CQM-A", "captions": False},
        "mme": {"prompt_format": "instruction"},
    }
    signature = (1.5, 0.25)
    settings = AdapterSettings(prompts=prompts, language_model_signature=signature)
    write_adapter(tmp_path / "ours", read_adapter(published).tensors, settings)
    assert read_adapter(tmp_path / "ours").settings.language_model_signature == signature
    (warning,) = convert_adapter(tmp_path / "ours", tmp_path / "a.pth")
    assert "has no place for language_model_signature, prompts.mme of" in warning
    assert read_adapter(tmp_path / "a.pth").settings.language_model_signature is None


def test_names_are_written_in_the_order_of_the_published_model(tmp_path):
    blocks = [f"backbone.visual.transformer.resblocks.{n}.adapter_mlp" for n in range(24)]
    names = ["adapter_emb1", "adapter_emb2"]
    names += [f"{block}.{layer}.weight" for block in blocks for layer in ("fc1", "fc2")]
    for projector in ("adapter_proj", "adapter_proj_cls"):
        names += [f"{projector}.{at}" for at in ("fc1.weight", "fc1.bias")]
        names += [f"{projector}.{at}" for at in ("fc2.weight", "fc2.bias")]
    shuffled = random.Random(0).sample(names, len(names))
    assert AdemVl.published_order(shuffled) == names
    tensors = {name: torch.zeros(1) for name in names}
    write_published(tmp_path / "a.pth", PublishedAdapter(tensors, {}))
    assert list(stored(tmp_path / "a.pth")["model"]) == [f"module.{name}" for name in names]


def test_tensors_that_share_memory_are_written_without_their_neighbours(published, tmp_path):
    tensors = read_adapter(published).tensors
    joined = torch.cat([tensors[name].flatten() for name in ("adapter_emb1", "adapter_emb2")])
    joined = torch.cat([joined, torch.zeros(10**6)])
    shape = tensors["adapter_emb1"].shape
    tensors["adapter_emb1"] = joined[: shape.numel()].view(shape)
    torch.save({"model": tensors}, tmp_path / "views.pth")
    convert_adapter(tmp_path / "views.pth", tmp_path / "ours")
    convert_adapter(tmp_path / "ours", tmp_path / "again.pth")
    assert (tmp_path / "again.pth").stat().st_size < 600_000


def test_a_training_checkpoint_is_an_adapter_folder_with_more_files(published, tmp_path):
    convert_adapter(published, tmp_path / "step-00000400")
    (tmp_path / "step-00000400" / "optimizer.safetensors").write_bytes(b"not read")
    (tmp_path / "step-00000400" / "state.json").write_text("not read")
    for source in ("step-00000400", "step-00000400/adapter.safetensors"):
        convert_adapter(tmp_path / source, tmp_path / "last.pth", overwrite=True)
        assert bits(read_adapter(tmp_path / "last.pth").tensors) == bits(
            read_adapter(published).tensors
        )
    with pytest.raises(CheckpointError, match=r"also holds optimizer\.safetensors, state\.json"):
        convert_adapter(tmp_path / "last.pth", tmp_path / "step-00000400", overwrite=True)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("checkpoint", "out.pth", "becomes an adapter folder"),
        ("checkpoint", "out.safetensors", "becomes an adapter folder"),
        ("folder", "out", r"becomes a published file.*ends in \.pth, not 'out'"),
        ("folder", "folder/out.pth", "one contains the other"),
        ("nowhere", "out", "does not exist"),
        ("nowhere.safetensors", "out.pth", "does not exist"),
        ("text.pth", "out", "text.pth"),
        ("broken", "out.pth", "is not a safetensors file"),
        ("torn", "out.pth", r"adapter\.json"),
        ("wrong", "out.pth", r"adapter\.json: .*'str' object"),
        ("half", "out.pth", r"has no adapter\.json"),
        ("other.pth", "out", "is not an adapter of a known method"),
    ],
)
def test_what_cannot_be_converted_is_told_and_leaves_nothing(
    published, tmp_path, source, target, message
):
    adapter = read_adapter(published)
    for name in ("folder", "broken", "torn", "wrong", "half"):
        write_adapter(tmp_path / name, adapter.tensors, adapter.settings)
    weights = (tmp_path / "broken" / "adapter.safetensors").read_bytes()
    (tmp_path / "broken" / "adapter.safetensors").write_bytes(weights[:-100])
    (tmp_path / "torn" / "adapter.json").write_text('{"alpha": 0.1')
    (tmp_path / "wrong" / "adapter.json").write_text(json.dumps({"prompts": {"mme": "x"}}))
    (tmp_path / "half" / "adapter.json").unlink()
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"model": {"module.something": torch.zeros(2)}}, tmp_path / "other.pth")
    before = sorted(tmp_path.rglob("*"))
    chosen = published if source == "checkpoint" else tmp_path / source
    with pytest.raises(CheckpointError, match=message) as caught:
        convert_adapter(chosen, tmp_path / target)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_earlier_result_is_replaced_only_when_asked(published, tmp_path):
    convert_adapter(published, tmp_path / "ours")
    adapter = read_adapter(published)
    tensors = {name: tensor + 1 for name, tensor in adapter.tensors.items()}
    write_adapter(tmp_path / "newer", tensors, adapter.settings)
    convert_adapter(tmp_path / "newer", tmp_path / "newer.pth")
    with pytest.raises(CheckpointError, match=r"exists; name another target, or .*--overwrite"):
        convert_adapter(tmp_path / "newer.pth", tmp_path / "ours")
    assert bits(read_adapter(tmp_path / "ours").tensors) == bits(adapter.tensors)
    convert_adapter(tmp_path / "newer.pth", tmp_path / "ours", overwrite=True)
    assert bits(read_adapter(tmp_path / "ours").tensors) == bits(tensors)
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "newer", "newer.pth"}


@pytest.mark.parametrize("content", [b"", b"export A=1\n", b"PK\x03\x04", b"\x80\x02."])
def test_a_file_of_another_kind_is_no_adapter(tmp_path, content):
    (tmp_path / "adapter.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"adapter\.pth"):
        read_adapter(tmp_path / "adapter.pth")


@pytest.mark.parametrize("stated", ["256 64", [256, "64"], [], None])
def test_scales_that_a_file_states_strangely_are_not_believed(published, tmp_path, stated):
    data = stored(published)
    data["args"].down_sample_num = stated
    torch.save(data, tmp_path / "strange.pth")
    assert read_adapter(tmp_path / "strange.pth").settings.values.get("scales") is None
