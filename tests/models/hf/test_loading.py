"""Folders that are not as they should be, and code that must not run."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions
from adem_bench.models.hf.loading import load as load_network
from adem_bench.models.hf.model import HfModel
from adem_bench.records import Request
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions

WEIGHTS = "model.safetensors"
JSON_FILES = [
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
]


@pytest.fixture
def copied(folders, tmp_path):
    """A copy of the LLaVA folder to spoil."""
    return shutil.copytree(folders["llava"], tmp_path / "copy")


def test_the_fingerprint_is_of_the_files_and_not_of_their_place(copied, load, llava):
    assert load(copied).fingerprint() == llava.fingerprint()
    tensors = load_file(copied / WEIGHTS)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 1
    save_file(tensors, copied / WEIGHTS, {"format": "pt"})
    changed = load(copied).fingerprint()
    assert changed != llava.fingerprint()
    (copied / "chat_template.jinja").write_text("{{ messages[0]['content'][-1]['text'] }}")
    assert load(copied).fingerprint() != changed


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16"])
def test_the_fingerprint_is_known_before_the_weights_are_read(folder, dtype):
    model = HfModel(load_model_card(f"hf:{folder}", [f"dtype={dtype}"]), ModelOptions("cpu"))
    was_loaded, early = model.is_loaded, model.fingerprint()
    model.load()
    network = model.describe()
    assert (was_loaded, model.is_loaded) == (False, True)
    assert (early, network["dtype"]) == (
        model.fingerprint(),
        "float32" if dtype == "auto" else dtype,
    )


def test_a_finished_run_reads_no_weights(folders, mini, tmp_path, monkeypatch):
    reads = []

    def noted(*given):
        reads.append(given)
        return load_network(*given)

    monkeypatch.setattr("adem_bench.models.hf.model.load", noted)

    def run(limit):
        evaluation = Evaluation(
            f"hf:{folders['llava']}",
            ("mini_mme",),
            data_root=mini,
            results=tmp_path,
            device="cpu",
            # What fails is asked again, and all that a random model says is cut.
            overrides=("model.options.cut_answers=scored", "options.max_new_tokens=4"),
            options=RunOptions(limit=limit, reuse=False),
        )
        (outcome,) = evaluate(evaluation)
        return outcome

    first = run(2)
    assert len(reads) == 1
    again = run(2)
    assert len(reads) == 1
    assert (again.folder, again.resumed, again.result) == (first.folder, 2, first.result)
    assert run(3).resumed == 0
    assert len(reads) == 2


def test_missing_weights_are_never_made_up(copied, load):
    tensors = load_file(copied / WEIGHTS)
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}
    save_file(kept, copied / WEIGHTS, {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"lack \d tensors of a LlavaForConditionalGeneration"
    ):
        load(copied)


def test_pickled_weights_are_not_read(copied, load):
    torch.save(load_file(copied / WEIGHTS), copied / "pytorch_model.bin")
    (copied / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="weights in pickles become safetensors"):
        load(copied)


def test_a_torn_file_of_weights_is_one_line(copied, load):
    (copied / WEIGHTS).write_bytes((copied / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be loaded: ") as caught:
        load(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kept", "more"), [(150, 0), (1000, 9)])
def test_the_tokenizer_of_another_model_is_refused(copied, load, kept, more):
    file = copied / "tokenizer.json"
    data = json.loads(file.read_text())
    vocabulary = data["model"]["vocab"]
    rows = len(vocabulary)
    vocabulary |= {f"word{place}": rows + place for place in range(more)}
    data["model"]["vocab"] = {word: place for word, place in vocabulary.items() if place < kept}
    file.write_text(json.dumps(data))
    with pytest.raises(
        CheckpointError, match=f"its language model {rows}; put the files of its own"
    ):
        load(copied)


def test_a_folder_without_a_model_says_what_is_expected(tmp_path, load):
    with pytest.raises(CheckpointError, match=r"has no config.json; expected a folder that"):
        load(tmp_path)


def test_a_name_that_is_nowhere_names_every_place(load, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="'org/no-such-model' is not a folder"):
        load("org/no-such-model")
    with pytest.raises(CheckpointError, match="is not a folder"):
        load("./no such/folder/at all")


def test_a_language_model_without_eyes_is_refused(tmp_path, load):
    from transformers import LlamaConfig, LlamaForCausalLM

    from support.tiny_hf import tokenizer

    words = tokenizer(())
    config = LlamaConfig(vocab_size=len(words), hidden_size=8, intermediate_size=8,
                         num_hidden_layers=1, num_attention_heads=1)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="reads no images; expected an image-text-to-text"):
        load(tmp_path)


def test_a_model_without_a_chat_template_gets_plain_prompts_and_a_warning(
    copied, load, pictures, generated, processor
):
    (copied / "chat_template.jinja").unlink()
    model = load(copied)
    assert model.warnings() == [
        "the model has no chat template: prompts were given to it as they are"
    ]
    assert model.generate([Request("a picture of", (pictures[0],), 4)])[0].error is None
    (asked,) = processor(copied).tokenizer.batch_decode(generated[0]["input_ids"])
    assert re.fullmatch("(<s>)?(<image>)+a picture of", asked)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('No system role.') }}", "refuses a message: No system role"),
        ("{% for %}", "refuses a message: Expected"),
        ("{{ messages.x.y }}", "refuses a message: 'list object' has no attribute 'x'"),
        ("{{ messages[0].content[0]['type'].__class__.mro() }}", "refuses a message: access to"),
        ("{{ 1 // 0 }}", "refuses a message: ZeroDivisionError: "),
        ("{{ messages + 'a' }}", "refuses a message: TypeError: "),
        ("{% for i in range(10 ** 9) %}a{% endfor %}", "refuses a message: OverflowError: "),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "refuses a message: RecursionError: "),
        ("{{ 'a' * 2000000 }}", "makes 2,000,000 characters of a message; put the model's own"),
    ],
)
def test_a_chat_template_that_refuses_is_one_line(copied, load, requests, template, message):
    (copied / "chat_template.jinja").write_text(template)
    model = load(copied)
    assert model.length(requests[0]) > 0
    with pytest.raises(CheckpointError, match=f"copy: the model's chat template {message}"):
        model.generate(requests)


@pytest.mark.parametrize("template", [" ", "<s><image>ANSWER:", "{{ messages[0].role }}"])
def test_a_chat_template_without_the_question_is_refused(copied, load, template):
    (copied / "chat_template.jinja").write_text(template)
    with pytest.raises(CheckpointError, match="copy: its chat template leaves out what is asked"):
        load(copied)


def test_a_processor_that_lacks_a_setting_is_one_line(copied, load, requests):
    # As in checkpoints from before transformers wanted it.
    settings = json.loads((copied / "processor_config.json").read_text())
    settings["patch_size"] = None
    (copied / "processor_config.json").write_text(json.dumps(settings))
    model = load(copied)
    assert model.length(requests[0]) > 0
    with pytest.raises(CheckpointError, match="its processor cannot be used: unsupported operand"):
        model.generate(requests)


def test_a_processor_of_another_size_is_one_line(copied, load, requests):
    settings = json.loads((copied / "processor_config.json").read_text())
    settings["num_additional_image_tokens"] = 5
    (copied / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="does not fit its network: Image features"):
        load(copied).generate(requests)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("processor_config.json", {"image_processor": "x"}, "AttributeError: 'str' object has"),
        ("processor_config.json", {"processor_class": [1]}, "TypeError: "),
        ("tokenizer_config.json", {"bos_token": 3}, "TypeError: Special token bos_token has"),
        ("tokenizer_config.json", {"model_max_length": "2048"}, "TypeError: "),
        ("tokenizer_config.json", {"model_max_length": [1]}, "TypeError: "),
        ("tokenizer_config.json", {"padding_side": "a" * 9999}, "Padding side should be selected"),
        ("config.json", {"text_config": 5}, ""),
        ("config.json", {"image_seq_length": "x"}, "Validation error .*: "),
        ("generation_config.json", {"cache_implementation": "x"}, ""),
    ],
)
def test_what_transformers_cannot_read_is_told_with_its_file(copied, load, name, value, message):
    settings = json.loads((copied / name).read_text())
    (copied / name).write_text(json.dumps(settings | value))
    with pytest.raises(CheckpointError, match=f"cannot be loaded: {message}.*{name}") as caught:
        load(copied)
    assert len(str(caught.value)) < 999


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b"[]", b"{}{}", b'{"a": "\xe9"}', b"\xef\xbb\xbf{}", "{}".encode("utf-16")],
    ids=["deep", "list", "twice", "latin-1", "mark", "utf-16"],
)
@pytest.mark.parametrize("name", [name for name in JSON_FILES if name != "config.json"])
def test_a_file_that_holds_no_object_in_json_is_the_one_that_is_named(copied, load, name, content):
    (copied / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"/{name} (is not JSON|does not hold|begins with)"):
        load(copied)


@pytest.mark.parametrize("name", JSON_FILES)
def test_what_is_in_the_place_of_a_file_is_told(copied, load, name):
    file = copied / name
    file.unlink(missing_ok=True)
    file.mkdir()
    with pytest.raises(
        CheckpointError, match=rf"is a (folder|directory) at .*/{name}|/{name} is a"
    ):
        load(copied)
    file.rmdir()
    file.symlink_to(name)
    with pytest.raises(CheckpointError, match=rf"levels of symbolic links at .*/{name}|/{name} is"):
        load(copied)


@pytest.mark.parametrize(
    "wild",
    [
        {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 1.9},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"dola_layers": "low"},
        {"prompt_lookup_num_tokens": 3, "assistant_early_exit": 1, "use_mtp": True},
        {"num_beam_groups": 2, "num_beams": 2, "diversity_penalty": 0.5, "constraints": [1]},
        {"min_new_tokens": 7, "min_length": 999, "max_time": 1e-9, "stop_strings": ["a"]},
        {"sequence_bias": [[[9], 99.0]], "encoder_repetition_penalty": 5.0, "min_p": 0.5},
        {"exponential_decay_length_penalty": [1, 9.0], "remove_invalid_values": True},
        {"return_dict_in_generate": True, "output_scores": True, "output_hidden_states": "x"},
        {"cache_implementation": "static", "guidance_scale": 3.0, "watermarking_config": {}},
    ],
    ids=lambda wild: next(iter(wild)),
)
def test_greedy_decoding_ignores_what_a_checkpoint_prefers(copied, load, llava, requests, wild):
    settings = json.loads((copied / "generation_config.json").read_text())
    (copied / "generation_config.json").write_text(json.dumps(settings | wild))
    assert load(copied).generate(requests) == llava.generate(requests)


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "pad_token_id"])
@pytest.mark.parametrize("value", [[[]], [], "2", {"id": 2}, 2.5, True, 2**63])
def test_a_setting_that_names_no_token_is_one_line(copied, load, requests, name, value):
    settings = json.loads((copied / "generation_config.json").read_text())
    (copied / "generation_config.json").write_text(json.dumps(settings | {name: value}))
    with pytest.raises(CheckpointError, match=r"^[^\n]*cannot be loaded:[^\n]*$"):
        load(copied)


CODE = """
from pathlib import Path
from transformers import LlavaConfig, LlavaForConditionalGeneration
Path(r"{told}").touch()
class OwnConfig(LlavaConfig):
    model_type = "own"
class OwnModel(LlavaForConditionalGeneration):
    config_class = OwnConfig
"""


def test_code_of_a_repository_runs_only_if_the_user_says_so(
    copied, load, tmp_path, monkeypatch, requests
):
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    monkeypatch.syspath_prepend(tmp_path / "modules")
    told = tmp_path / "it-ran"
    (copied / "own.py").write_text(CODE.format(told=told))
    tensors = load_file(copied / WEIGHTS)  # names are mapped by type, and this one has no map
    tensors["lm_head.weight"] = tensors.pop("language_model.lm_head.weight")
    save_file(tensors, copied / WEIGHTS, {"format": "pt"})
    config = json.loads((copied / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForImageTextToText": "own.OwnModel"},
    }
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"--set model.options.trust_remote_code=true"):
        load(copied)
    assert not told.exists()
    model = load(copied, "options.trust_remote_code=true")
    assert told.exists()
    assert model.generate(requests[:1])[0].error is None
    assert model.warnings() == ["Python code out of the model's repository was allowed to run"]
