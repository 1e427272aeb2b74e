"""LLaMA weights from the published layout to Hugging Face's and back."""

from __future__ import annotations

import json
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig

from adem_bench.errors import CheckpointError, ResultsError
from adem_bench.models.fused.weights.convert_llama import convert_llama
from adem_bench.models.fused.weights.llama import load_language_model
from adem_bench.models.fused.weights.llama_layout import (
    params_of,
    to_half_rotation,
    to_interleaved_rotation,
)
from support.llama_folders import consolidated, logits
from support.processes import Python

CPU = torch.device("cpu")


def from_transformers(folder) -> torch.Tensor:
    """Return what transformers computes with a folder of its layout."""
    return logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def from_ours(folder) -> torch.Tensor:
    return logits(load_language_model(folder, torch.float32, CPU))


def hugging_face(folder, **changes):
    """Write random weights with transformers."""
    torch.manual_seed(1)
    sizes = {
        "vocab_size": 50,
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    LlamaForCausalLM(LlamaConfig(**sizes | changes)).save_pretrained(folder)


def same(one, other) -> None:
    """Check that two dicts hold the same names, precisions and bits."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor.view(torch.uint8), other[name].view(torch.uint8)), name


def stored(folder) -> dict[str, torch.Tensor]:
    """Return the tensors of a folder in either layout that has one weight file."""
    file = folder / "model.safetensors"
    return load_file(file) if file.exists() else torch.load(folder / "consolidated.00.pth")


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("groups", [4, 2])
def test_from_consolidated_and_back(tmp_path, shards, groups):
    tensors = consolidated(tmp_path / "meta", shards=shards, groups=groups)
    (warning,) = convert_llama(tmp_path / "meta", tmp_path / "hf")
    assert "has no tokenizer.model in it or next to it" in warning
    expected = from_ours(tmp_path / "meta")
    torch.testing.assert_close(from_transformers(tmp_path / "hf"), expected, atol=0, rtol=0)
    convert_llama(tmp_path / "hf", tmp_path / "back")
    same(stored(tmp_path / "back"), tensors)
    torch.testing.assert_close(from_ours(tmp_path / "back"), expected, atol=0, rtol=0)
    convert_llama(tmp_path / "back", tmp_path / "again")
    same(stored(tmp_path / "again"), stored(tmp_path / "hf"))
    for name in ("config.json", "generation_config.json"):
        one, other = ((tmp_path / f / name).read_text() for f in ("hf", "again"))
        if name == "config.json":
            one, other = ({**json.loads(text), "multiple_of": 0} for text in (one, other))
            other.pop("ffn_dim_multiplier")  # 96 is not a width that LLaMA's rule makes of 64
        assert one == other


@pytest.mark.parametrize("groups", [4, 2])
def test_from_hugging_face_and_back(tmp_path, groups):
    hugging_face(tmp_path / "hf", num_key_value_heads=groups)
    convert_llama(tmp_path / "hf", tmp_path / "meta")
    expected = from_transformers(tmp_path / "hf")
    torch.testing.assert_close(from_ours(tmp_path / "meta"), expected, atol=0, rtol=0)
    convert_llama(tmp_path / "meta", tmp_path / "back")
    same(stored(tmp_path / "back"), stored(tmp_path / "hf"))
    torch.testing.assert_close(from_transformers(tmp_path / "back"), expected, atol=0, rtol=0)
    before, after = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("hf", "back")
    )
    assert after == before | {"multiple_of": 192}


def test_the_published_folder_comes_back_as_it_was(parity, tmp_path):
    tiny = parity / "weights" / "tiny"
    assert convert_llama(tiny, tmp_path / "hf") == []
    assert convert_llama(tmp_path / "hf", tmp_path / "back") == []
    weights = stored(tiny)
    weights.pop("rope.freqs")  # a table that every code computes for itself
    same(stored(tmp_path / "back"), weights)
    params = [json.loads((f / "params.json").read_text()) for f in (tiny, tmp_path / "back")]
    assert params[0] == params[1]
    for folder in ("hf", "back"):  # it is next to the published folder
        copied = (tmp_path / folder / "tokenizer.model").read_bytes()
        assert copied == (parity / "weights" / "tokenizer.model").read_bytes()


def test_shared_embeddings_are_written_twice_and_told(tmp_path):
    hugging_face(tmp_path / "hf", tie_word_embeddings=True)
    lost, _ = convert_llama(tmp_path / "hf", tmp_path / "meta")
    assert "has no place for tie_word_embeddings True of" in lost
    expected = from_transformers(tmp_path / "hf")
    torch.testing.assert_close(from_ours(tmp_path / "meta"), expected, atol=0, rtol=0)
    convert_llama(tmp_path / "meta", tmp_path / "back")
    torch.testing.assert_close(from_transformers(tmp_path / "back"), expected, atol=0, rtol=0)


def test_large_weights_are_written_in_several_files_with_an_index(tmp_path):
    tensors = consolidated(tmp_path / "meta", shards=2)
    convert_llama(tmp_path / "meta", tmp_path / "hf", shard_bytes=60_000)
    files = sorted(file.name for file in (tmp_path / "hf").glob("*.safetensors"))
    assert len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert all((tmp_path / "hf" / file).stat().st_size < 62_000 for file in files)
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(4 * t.numel() for t in tensors.values())
    torch.testing.assert_close(
        from_transformers(tmp_path / "hf"), from_ours(tmp_path / "meta"), atol=0, rtol=0
    )
    convert_llama(tmp_path / "hf", tmp_path / "back")
    same(stored(tmp_path / "back"), tensors)
    (tmp_path / "hf" / files[1]).unlink()
    with pytest.raises(CheckpointError, match=f"{files[1]} is missing"):
        convert_llama(tmp_path / "hf", tmp_path / "other")


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd"])
def test_an_index_that_leaves_its_folder_is_refused(tmp_path, name):
    consolidated(tmp_path / "meta")
    convert_llama(tmp_path / "meta", tmp_path / "hf", shard_bytes=60_000)
    index = tmp_path / "hf" / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    first = next(iter(data["weight_map"]))
    index.write_text(json.dumps(data | {"weight_map": data["weight_map"] | {first: name}}))
    with pytest.raises(CheckpointError, match="is not the name of a file next to it"):
        convert_llama(tmp_path / "hf", tmp_path / "other")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precision_is_as_stored_unless_it_is_chosen(tmp_path, dtype):
    tensors = {name: t.to(dtype) for name, t in consolidated(tmp_path / "meta").items()}
    torch.save(tensors, tmp_path / "meta" / "consolidated.00.pth")
    convert_llama(tmp_path / "meta", tmp_path / "hf")
    assert LlamaConfig.from_pretrained(tmp_path / "hf").dtype == dtype
    convert_llama(tmp_path / "hf", tmp_path / "back")
    same(stored(tmp_path / "back"), tensors)
    convert_llama(tmp_path / "meta", tmp_path / "half", dtype=torch.float16)
    assert LlamaConfig.from_pretrained(tmp_path / "half").dtype == torch.float16
    convert_llama(tmp_path / "hf", tmp_path / "half back", dtype=torch.float16)
    same(stored(tmp_path / "half back"), {name: t.half() for name, t in tensors.items()})


@pytest.mark.parametrize(("rows", "head_size"), [(8, 8), (16, 4), (6, 2), (256, 128)])
def test_the_two_orders_of_rotary_rows_undo_each_other(rows, head_size):
    weight = torch.arange(rows * 3.0).view(rows, 3)
    half = to_half_rotation(weight, head_size)
    assert torch.equal(to_interleaved_rotation(half, head_size), weight)
    assert torch.equal(
        to_half_rotation(to_interleaved_rotation(weight, head_size), head_size), weight
    )
    # Pairs (0, 1), (2, 3), … become the first members of all pairs, then the second ones.
    assert half[: head_size // 2, 0].tolist() == weight[:head_size:2, 0].tolist()


META_7B = {"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-06}
META_13B = {"dim": 5120, "multiple_of": 256, "n_heads": 40, "n_layers": 40, "norm_eps": 1e-06}


@pytest.mark.parametrize(("params", "width"), [(META_7B, 11008), (META_13B, 13824)])
def test_the_published_sizes_get_the_published_params(params, width):
    config = LlamaConfig(
        hidden_size=params["dim"],
        intermediate_size=width,
        num_attention_heads=params["n_heads"],
        num_hidden_layers=params["n_layers"],
        rms_norm_eps=1e-6,
    )
    assert params_of(config, -1) == params | {"vocab_size": -1}


@pytest.mark.parametrize("width", [11008, 28672, 14336, 12000, 9001, 10922, 10921, 96])
def test_params_make_the_feed_forward_width_by_the_published_rule(width):
    params = params_of(LlamaConfig(hidden_size=4096, intermediate_size=width), 50)
    hidden = int(2 * (4 * 4096) / 3)
    hidden = int(params.get("ffn_dim_multiplier", 1) * hidden)
    multiple = params["multiple_of"]
    assert multiple * ((hidden + multiple - 1) // multiple) == width
    assert ("ffn_dim_multiplier" in params) == (width < 10922)


def test_params_name_what_later_models_added():
    config = LlamaConfig(
        num_key_value_heads=8, rope_parameters={"rope_type": "default", "rope_theta": 1e6}
    )
    params = params_of(config, 32016)
    assert (params["n_kv_heads"], params["rope_theta"], params["vocab_size"]) == (8, 1e6, 32016)


def damage_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_bias": True}, "its attention_bias is True, not False"),
        ({"hidden_act": "gelu"}, "its hidden_act is 'gelu', not 'silu'"),
        ({"head_dim": 32}, "its heads are 32 wide"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "scaled"),
        ({"model_type": "opt"}, "model of type 'opt'"),
        ({"hidden_size": 65}, "does not describe a model"),
        ({"num_hidden_layers": 3}, r"missing: model\.layers\.2"),
        ({"num_hidden_layers": 1}, r"unexpected: model\.layers\.1"),
        ({"intermediate_size": 64}, r"of another shape: model\.layers\.0\.mlp\.down_proj"),
    ],
)
def test_a_model_without_a_consolidated_form_is_told(tmp_path, changes, message):
    hugging_face(tmp_path / "hf")
    damage_config(tmp_path / "hf", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert_llama(tmp_path / "hf", tmp_path / "meta")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_mistral_is_told_to_be_no_llama(tmp_path):
    MistralConfig().save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "params.json").write_text("{}")  # as its publisher's own folders have
    message = "model of type 'mistral'; only LLaMA .* a model card can name the folder as it is"
    with pytest.raises(CheckpointError, match=message):
        convert_llama(tmp_path / "hf", tmp_path / "meta")


def test_rotary_tables_of_old_files_are_no_surprise(tmp_path):
    hugging_face(tmp_path / "hf")
    weights = stored(tmp_path / "hf")
    table = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    save_file(weights | table, tmp_path / "hf" / "model.safetensors", metadata={"format": "pt"})
    convert_llama(tmp_path / "hf", tmp_path / "meta")
    assert "rope" not in " ".join(stored(tmp_path / "meta"))


@pytest.mark.parametrize("damage", ["weights", "config", "list", "index", "none", "both"])
def test_a_damaged_hugging_face_folder_is_told(tmp_path, damage):
    folder = tmp_path / "hf"
    hugging_face(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    message = {
        "weights": "is not a safetensors file",
        "config": r"config\.json is not JSON",
        "list": "does not hold a JSON object",
        "index": "has no weight_map",
        "none": r"has neither model\.safetensors nor .*transformers loads and saves",
        "both": "is in neither layout",
    }[damage]
    if damage == "weights":
        weights.write_bytes(weights.read_bytes()[:-50])
    elif damage in ("config", "list"):
        config.write_text("[" if damage == "config" else "[]")
    elif damage == "index":
        (folder / "model.safetensors.index.json").write_text("{}")
    else:
        (weights if damage == "none" else config).unlink()
    with pytest.raises(CheckpointError, match=message):
        convert_llama(folder, tmp_path / "meta")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("zip", "not a readable torch file"),
        ("pickle", "may run code"),
        ("list", "does not hold a dict of tensors"),
        ("missing", r"tensor or parameter 'layers\.1\.ffn_norm\.weight' is missing"),
        ("unknown", r"holds layers\.2\.wq, which a LLaMA of its size does not"),
        ("shape", r"o_proj\.weight has shape \(3, 3\)"),
        ("scaled", "use_scaled_rope"),
        ("params", r"params\.json is not JSON"),
        ("heads", r"params\.json does not describe a model"),
        ("no params", "is in neither layout"),
        ("shards", "do not fit together"),
    ],
)
def test_a_damaged_consolidated_folder_is_told(tmp_path, damage, message):
    folder = tmp_path / "meta"
    tensors = consolidated(folder)
    file, params = folder / "consolidated.00.pth", folder / "params.json"
    settings = json.loads(params.read_text())
    if damage == "zip":
        file.write_bytes(file.read_bytes()[:-1000])
    elif damage == "pickle":
        torch.save({"tok_embeddings.weight": CheckpointError("x")}, file)
    elif damage == "list":
        torch.save([1], file)
    elif damage == "missing":
        torch.save({n: t for n, t in tensors.items() if n != "layers.1.ffn_norm.weight"}, file)
    elif damage == "unknown":
        torch.save(tensors | {"layers.2.wq": torch.zeros(1)}, file)
    elif damage == "shape":
        torch.save(tensors | {"layers.1.attention.wo.weight": torch.zeros(3, 3)}, file)
    elif damage == "shards":
        consolidated(folder, shards=2)
        file = folder / "consolidated.01.pth"
        torch.save(torch.load(file) | {"layers.0.attention.wo.weight": torch.zeros(3, 3)}, file)
    elif damage == "no params":
        params.unlink()
    else:
        changed = {"scaled": {"use_scaled_rope": True}, "heads": {"n_heads": 0}}.get(damage, {})
        params.write_text(json.dumps(settings | changed) if changed else "{")
    with pytest.raises(CheckpointError, match=message) as caught:
        convert_llama(folder, tmp_path / "hf")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["meta"]


def test_sources_and_targets_that_cannot_be_are_told(tmp_path):
    consolidated(tmp_path / "meta")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        convert_llama(tmp_path / "nowhere", tmp_path / "hf")
    with pytest.raises(CheckpointError, match="file is a file; give the folder"):
        convert_llama(tmp_path / "file", tmp_path / "hf")
    with pytest.raises(CheckpointError, match="one contains the other"):
        convert_llama(tmp_path / "meta", tmp_path / "meta" / "hf")
    with pytest.raises(CheckpointError, match="is a file, and the result is a folder"):
        convert_llama(tmp_path / "meta", tmp_path / "file")


def test_only_an_earlier_result_is_replaced(tmp_path):
    consolidated(tmp_path / "meta")
    convert_llama(tmp_path / "meta", tmp_path / "hf", shard_bytes=60_000)
    with pytest.raises(CheckpointError, match="exists"):
        convert_llama(tmp_path / "meta", tmp_path / "hf")
    convert_llama(tmp_path / "meta", tmp_path / "hf", overwrite=True)
    assert {file.name for file in (tmp_path / "hf").iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors",
    }  # fmt: skip
    (tmp_path / "hf" / "notes.md").touch()
    with pytest.raises(CheckpointError, match=r"also holds notes\.md"):
        convert_llama(tmp_path / "meta", tmp_path / "hf", overwrite=True)


@pytest.fixture
def small_files():
    """No file of this process may pass 60 kB: the system refuses, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("layout", ["meta", "hf"])
def test_a_write_that_the_system_refuses_is_told_and_leaves_nothing(tmp_path, layout, request):
    if layout == "meta":
        consolidated(tmp_path / layout)
    else:
        hugging_face(tmp_path / layout)
    request.getfixturevalue("small_files")
    with pytest.raises(ResultsError, match=r"cannot write .*target: File too large"):
        convert_llama(tmp_path / layout, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == [layout]


PEAK = """
import sys
from pathlib import Path
from adem_bench.models.fused.weights.convert_llama import convert_llama
from support.memory import peak_bytes
source, target = map(Path, sys.argv[1:3])
print(peak_bytes(lambda: convert_llama(source, target, shard_bytes=int(sys.argv[3]))))
"""


@pytest.mark.slow
def test_converting_holds_a_part_of_the_weights_at_a_time(tmp_path):
    consolidated(tmp_path / "meta", width=512, layers=10, heads=8, groups=8, hidden=1376)
    weights = (tmp_path / "meta" / "consolidated.00.pth").stat().st_size
    (tmp_path / "peak.py").write_text(PEAK)
    for source, target in (("meta", "hf"), ("hf", "back")):
        folders = (tmp_path / source, tmp_path / target)
        done = Python([tmp_path / "peak.py", *folders, weights // 8], tmp_path / "peak").wait()
        assert done.returncode == 0, done.stderr
        assert 0.1 < int(done.stdout) / weights < 0.5
    shutil.rmtree(tmp_path)
