"""Files that hold no weights, or not all, and names that training wrapped."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adem_bench.cards import load_model_card, packaged_folder
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions
from adem_bench.models.fused.backbone import FrozenParts
from adem_bench.models.fused.fit import check_adapter
from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.clip import load_visual, visual_sizes
from adem_bench.models.fused.weights.llama import load_language_model
from adem_bench.models.fused.weights.published import load_plain_data
from adem_bench.models.hf.model import HfModel
from adem_bench.models.weight_files import check_file, check_files, load_tensors, own_name
from support.tiny_hf import llava

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 251648\n"
SHARD = "model-00001-of-00002.safetensors"
PAGE = "\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"
SPOILT = {
    "pointer": (POINTER.encode(), "is a Git LFS pointer.*git lfs pull"),
    "page": (PAGE.encode(), "is a web page"),
    "empty": (b"", "is empty; fetch it again"),
}


@pytest.fixture(scope="module")
def hf(tmp_path_factory):
    """A tiny model of transformers, to be read."""
    folder = tmp_path_factory.mktemp("hf")
    llava(folder)
    return folder


def copied(hf, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(hf, tmp_path / "hf"))


@pytest.fixture(params=SPOILT)
def spoilt(request):
    """What a file holds in place of weights, and what is said of it."""
    return SPOILT[request.param]


@pytest.mark.parametrize("name", ["model.safetensors", "adapter.pth", "tokenizer.model"])
def test_what_holds_no_weights_is_named_with_its_remedy(tmp_path, spoilt, name):
    content, message = spoilt
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} {message}"):
        check_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run1.out", b"step 1 loss 2.3\n"),
        ("notes.txt", b"hello"),
        ("adapter.json", b"{}"),
        ("adapter.pth", b"ep 3"),
        ("adapter.pth", b"\x80\x02."),
        ("adapter.pth", b"PK\x03\x04 cut"),
    ],
)
def test_what_is_no_adapter_is_told_what_one_is(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_adapter(tmp_path / name)
    message = str(caught.value)
    assert "; an adapter is a folder with adapter.safetensors and adapter.json" in message
    assert "or a .pth of the published trainers" in message
    assert "pop from" not in message
    with pytest.raises(CheckpointError, match=r"has no adapter\.safetensors; an adapter is"):
        read_adapter(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist; an adapter is a folder"):
        read_adapter(tmp_path / "nowhere")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_short_says_how_long_it_should_be(tmp_path, part):
    file = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(64, 64), "bias": torch.zeros(64)}, file)
    assert load_tensors(file)["weight"].shape == (64, 64)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(CheckpointError, match=f"it has {int(part * len(whole))}.* of {len(whole)}"):
        load_tensors(file)


def test_every_reader_says_it(tmp_path, spoilt):
    content, message = spoilt
    llava(tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").write_bytes(content)
    (tmp_path / "tower.safetensors").write_bytes(content)
    (tmp_path / "adapter.pth").write_bytes(content)
    source = load_model_card("adem-tiny").vision
    readers = [
        lambda: HfModel(load_model_card(f"hf:{tmp_path / 'hf'}"), ModelOptions("cpu")),
        lambda: load_language_model(tmp_path / "hf", torch.float32, torch.device("cpu")),
        lambda: load_visual(source, tmp_path / "tower.safetensors", torch.float32),
        lambda: read_adapter(tmp_path / "adapter.pth"),
        lambda: load_plain_data(tmp_path / "adapter.pth"),
    ]
    for read in readers:
        with pytest.raises(CheckpointError, match=message):
            read()


@pytest.mark.parametrize(
    "wrapped",
    [
        "_orig_mod.layers.0.weight", "module.layers.0.weight", "module._orig_mod.layers.0.weight",
        "_orig_mod.module.layers.0.weight", "layers.0._orig_mod.weight",
        "module.module.layers.0.weight", "_fsdp_wrapped_module.layers.0.weight",
        "layers.0._checkpoint_wrapped_module.weight",
    ],
)  # fmt: skip
def test_names_are_read_without_what_training_wraps_around_modules(wrapped):
    assert own_name(wrapped) == "layers.0.weight"


def test_names_that_only_look_wrapped_stay():
    for name in ("layers.module.weight", "my_orig_mod.weight", "modules.0.weight"):
        assert own_name(name) == name


def test_an_adapter_of_a_compiled_model_is_the_same(tmp_path):
    tensors = {"adapter_emb1": torch.zeros(2, 3), "adapter_emb2": torch.ones(2, 3)}
    plain = {f"module.{name}": tensor for name, tensor in tensors.items()}
    compiled = {f"module._orig_mod.{name}": tensor for name, tensor in tensors.items()}
    both = plain | compiled
    from adem_bench.models.fused.weights.published import read_published

    found = []
    for name, content in (("plain", plain), ("compiled", compiled), ("both", both)):
        torch.save({"model": content}, tmp_path / name)
        if name == "both":
            with pytest.raises(CheckpointError, match="has the tensor adapter_emb1 twice"):
                read_published(tmp_path / name)
        else:
            found.append(read_published(tmp_path / name).tensors)
    assert found[0].keys() == found[1].keys() == tensors.keys()


@pytest.mark.parametrize(
    ("kind", "tensor"),
    [
        ("sparse", torch.zeros(2, 3).to_sparse()),
        ("sparse", torch.zeros(2, 3).to_sparse_csr()),
        ("quantized", torch.quantize_per_tensor(torch.zeros(2, 3), 0.1, 0, torch.qint8)),
        ("empty", torch.zeros(2, 3, device="meta")),
    ],
)
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"model": model}])
def test_tensors_that_are_not_dense_are_refused(tmp_path, kind, tensor, wrap):
    from adem_bench.models.fused.weights.published import load_plain_data

    held: dict[str, object] = {"adapter_emb1": torch.zeros(2), "adapter_emb2": tensor}
    held["self"] = held  # a pickle may hold itself
    torch.save(wrap(held), tmp_path / "own.pth")
    with pytest.raises(
        CheckpointError, match=rf"adapter_emb2 is a {kind} tensor; expected a dense"
    ):
        load_plain_data(tmp_path / "own.pth")


@pytest.mark.parametrize("kind", ["safetensors", "pth", "pt"])
def test_complex_numbers_are_refused(tmp_path, kind):
    file, tensors = tmp_path / f"tower.{kind}", {"visual.proj": torch.zeros(2, 2) * 1j}
    if kind == "safetensors":
        save_file(tensors, file)
    elif kind == "pth":
        torch.save({"state_dict": tensors}, file)
    else:
        module = torch.nn.Module()
        module.visual = torch.nn.Module()
        module.visual.register_buffer("proj", tensors["visual.proj"])
        module.visual.register_buffer("number", torch.zeros(2))
        torch.jit.save(torch.jit.script(module), file)
    for read in (load_visual, lambda source, file, _: visual_sizes(source, file)):
        with pytest.raises(CheckpointError, match=r"visual\.proj is a tensor of complex numbers"):
            read(load_model_card("adem-tiny").vision, file, torch.float32)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompts", 1),
        ("prompts", {"mini": 1}),
        ("vision_signature", 1),
        ("vision_signature", ["x"]),
    ],
)
def test_a_wrong_fact_of_an_adapter_is_told_with_its_field(tmp_path, field, value):
    save_file({"adapter_emb1": torch.zeros(1)}, tmp_path / "adapter.safetensors")
    (tmp_path / "adapter.json").write_text(json.dumps({field: value}))
    with pytest.raises(CheckpointError, match=rf"adapter\.json: {field} cannot be "):
        read_adapter(tmp_path)


@pytest.mark.parametrize("name", ["adapter.json", "adapter.safetensors"])
@pytest.mark.parametrize(
    ("put", "message"),
    [
        (lambda file: file.symlink_to("gone"), "is a link to gone, which is missing"),
        (os.mkfifo, "is not a regular file but a pipe"),
        (lambda file: file.mkdir(), "is a folder"),
    ],
)
def test_what_lies_in_the_place_of_an_adapters_file_is_named(tmp_path, name, put, message):
    for file in (tmp_path / "adapter.json", tmp_path / "adapter.safetensors"):
        if file.name == name:
            put(file)
        else:
            file.write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=f"{name} {message}"):
        read_adapter(tmp_path)


def test_weights_under_wrapped_names_are_never_made_up(tmp_path):
    llava(tmp_path / "hf")
    file = tmp_path / "hf" / "model.safetensors"
    tensors = {f"_orig_mod.{name}": tensor for name, tensor in load_raw(file).items()}
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack \d+ tensors.*what training wraps around"):
        HfModel(load_model_card(f"hf:{tmp_path / 'hf'}"), ModelOptions("cpu")).load()


def load_raw(file):
    from safetensors.torch import load_file

    return {name: tensor.clone() for name, tensor in load_file(file).items()}


def test_a_language_model_that_lacks_tensors_is_refused(tmp_path):
    folder = tmp_path / "language"
    shipped = load_model_card("adem-tiny")
    shutil.copytree(shipped.path.parent / shipped.language_model.path, folder)
    file = folder / "model.safetensors"
    tensors = load_raw(file)
    kept = {name: tensor for name, tensor in tensors.items() if "layers.0.mlp" not in name}
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match="lack 3 tensors of a LlamaForCausalLM"):
        load_language_model(folder, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 10**12},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": -1},
        {"vocab_size": 10**400},
        {"intermediate_size": 0},
        {"text_config": {"hidden_size": 10**12}},
        {"vision_config": {"num_layers": 10**9}},
        {"vision_config": {"depths": [2, 2, 10**9]}},
        {"num_local_experts": 10**9},
        {"num_labels": 10**9},
        {"text_config": {"num_labels": 10**6}},
    ],
)
def test_sizes_that_no_weights_have_are_refused_before_memory_is_taken(tmp_path, change):
    save_file({"weight": torch.zeros(8, 8)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"} | change))
    with pytest.raises(CheckpointError, match=r"config.json: .* does not go with the folder's"):
        check_files(tmp_path)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("vision_config", {"image_size": 80_000}),
        ("vision_config", {"image_size": 2400, "patch_size": 1}),
        ("vision_config", {"num_channels": 10**9}),
        ("text_config", {"head_dim": 10**9}),
    ],
)
def test_whatever_a_size_is_called_no_network_is_made_that_its_files_cannot_hold(
    hf, tmp_path, part, change
):
    folder = copied(hf, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config[part] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"asks for a network of .* too small to hold them"):
        HfModel(load_model_card(f"hf:{folder}"), ModelOptions("cpu"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("preprocessor_config.json", {"size": {"shortest_edge": 10**9}}),
        ("preprocessor_config.json", {"crop_size": {"height": 10**9, "width": 24}}),
        ("preprocessor_config.json", {"image_grid_pinpoints": [[336, 10**9]]}),
        ("preprocessor_config.json", {"min_pixels": 10**12, "merge_size": 2}),
        ("preprocessor_config.json", {"size": {"longest_edge": 10**10}, "merge_size": 2}),
        ("processor_config.json", {"num_additional_image_tokens": 10**9}),
        ("processor_config.json", {"image_seq_len": 10**9}),
        ("processor_config.json", {"image_processor": {"size": {"height": float("inf")}}}),
        ("processor_config.json", {"image_processor": {"size": {"height": float("nan")}}}),
    ],
)
def test_no_image_and_no_prompt_is_made_as_large_as_a_file_asks(tmp_path, name, settings):
    (tmp_path / name).write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=rf"{name}: \w+ is .*, more than any processor"):
        check_files(tmp_path)


def test_areas_of_pixels_are_no_sides(tmp_path):
    """As of Qwen2-VL, whose longest edge is a number of pixels in all."""
    settings = {"size": {"shortest_edge": 3136, "longest_edge": 12_845_056}, "merge_size": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    check_files(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "model-00002-of-00002.safetensors"}}, "lacks model-00002-of-00002"),
        ({"weight_map": {"a": "../other/model.safetensors"}}, "which is not a file next to it"),
        ({"weight_map": {"a": "/dev/zero"}}, "which is not a file next to it"),
        ({"weight_map": {"a": None}}, "lacks None"),
        ({"weight_map": ["a"]}, "has no weight_map"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": {"a": "model.safetensors.index.json"}}, "whose name is not one of weights"),
        ({"weight_map": {"a": SHARD}, "metadata": None}, "has no metadata that is an object"),
        ({"weight_map": {"a": SHARD}}, 'has no metadata .* or add `"metadata": {}`'),
        ([], "does not hold a JSON object"),
    ],
)
def test_shards_lie_next_to_their_index(tmp_path, index, message):
    save_file({"weight": torch.zeros(8, 8)}, tmp_path / SHARD)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message):
        check_files(tmp_path)


def test_pickled_shards_lie_next_to_their_index(tmp_path):
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a": "../other/pytorch_model.bin"}, "metadata": {}}')
    with pytest.raises(CheckpointError, match="which is not a file next to it"):
        check_files(tmp_path)


@pytest.mark.parametrize("text", ["[" * 3000, "null", "{", "[]"])
def test_a_configuration_is_an_object_in_json(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config.json (is not JSON|does not hold)"):
        check_files(tmp_path)


def test_a_tokenizer_of_another_model_is_refused_before_its_weights_are_loaded(tmp_path):
    shutil.copytree(packaged_folder("models") / "adem-tiny" / "language", tmp_path / "language")
    file = tmp_path / "language" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 5000}))
    card = load_model_card(
        "adem-tiny", [f"language_model.path={tmp_path / 'language'}", "adapters={}"]
    )
    with pytest.raises(CheckpointError, match=r"has \d+ tokens, and the language model 5000; name"):
        FrozenParts(card, ModelOptions())


def test_a_tokenizer_whose_pieces_are_no_text_is_damaged(tmp_path):
    whole = packaged_folder("models") / "adem-tiny" / "language" / "tokenizer.model"
    file = tmp_path / "tokenizer.model"
    file.write_bytes(whole.read_bytes().replace(b"Context", b"Con\xffext", 1))
    with pytest.raises(CheckpointError, match="is not a SentencePiece model"):
        SentencePieceTokenizer(file)


@pytest.mark.parametrize(
    "part", [{"shape": [2**32, 2**32]}, {"shape": [-1]}, {"dtype": "F4"}, {"dtype": "I64"},
             {"data_offsets": [-4, 0]}, {"data_offsets": [4, 20]}, {"data_offsets": "0-4"}],
)  # fmt: skip
def test_a_header_that_contradicts_itself_is_told_with_its_file(tmp_path, part):
    file = tmp_path / "a.safetensors"
    header = {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | part}
    said = json.dumps(header).encode()
    file.write_bytes(len(said).to_bytes(8, "little") + said + bytes(16))
    with pytest.raises(CheckpointError, match=r"a\.safetensors is not a safetensors file"):
        check_file(file)


def test_weights_that_are_a_link_to_nothing_are_told_as_such(tmp_path):
    for name in ("config.json", "consolidated.00.pth"):
        (tmp_path / name).symlink_to("blobs/gone")
    with pytest.raises(CheckpointError, match=r"config\.json is a link to blobs/gone"):
        check_files(tmp_path)
    with pytest.raises(CheckpointError, match=r"00\.pth is a link to blobs/gone"):
        load_plain_data(tmp_path / "consolidated.00.pth")


@pytest.mark.parametrize(
    "field", ["vision.path", "language_model.path", "language_model.tokenizer"]
)
def test_a_link_to_nothing_is_not_replaced_by_what_a_name_stands_for(tmp_path, field):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "part").symlink_to("gone")
    card = load_model_card("adem-tiny", [f"{field}=part"])
    with pytest.raises(CheckpointError, match=r"weights/part is a link to gone, which is missing"):
        assert FrozenParts(card, ModelOptions(data_root=tmp_path)).fingerprint


def test_a_tower_taken_in_place_of_a_missing_file_is_told_as_such(tmp_path):
    card = load_model_card("adem-tiny", [f"vision.path={tmp_path}/gone.safetensors"])
    with pytest.raises(CheckpointError, match=r"openai in place of .*gone\.safetensors, which is"):
        check_adapter(card, card.adapters["default"], tmp_path)
