"""PEFT adapters: their sums are in the answers, and one that does not belong is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from adem_bench.cards import load_model_card
from adem_bench.errors import CardError, CheckpointError
from adem_bench.models.base import ModelOptions, chosen_card
from adem_bench.models.hf.model import HfModel

peft = pytest.importorskip("peft")
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def saved(folders, network, tmp_path_factory):
    """A LoRA of rank 2 on LLaVA's language model, as peft saves it."""
    folder = tmp_path_factory.mktemp("lora")
    config = peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=r".*language_model.*\.(q_proj|down_proj)"
    )
    tuned = peft.get_peft_model(network(folders["llava"]), config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(0, 0.5)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    """A copy to spoil."""
    for name in (WEIGHTS, CONFIG):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    return tmp_path


@pytest.fixture
def tuned(folders):
    """Loads LLaVA with an adapter, as `--adapter` does."""

    def load(adapter, *settings):
        card = chosen_card(f"hf:{folders['llava']}", settings, adapter=str(adapter))
        return HfModel(card, ModelOptions("cpu"))

    return load


def test_answers_are_those_of_the_summed_weights(
    tuned, saved, folders, load, llava, network, requests, tmp_path
):
    summed = network(folders["llava"])
    tensors = load_file(saved / WEIGHTS)
    for name, down in tensors.items():
        if "lora_A" in name:
            path = name.removeprefix("base_model.model.").replace(".lora_A.weight", "")
            up = tensors[name.replace("lora_A", "lora_B")]
            summed.get_submodule(path).weight.data += 4 / 2 * up @ down
    for file in folders["llava"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    summed.save_pretrained(tmp_path)
    asked = [replace(request, choices=(" A", " b c")) for request in requests]
    model = tuned(saved)
    told, expected = model.generate(asked), load(tmp_path).generate(asked)
    for one, other in zip(told, expected, strict=True):
        assert one.choice_logprobs == pytest.approx(other.choice_logprobs, abs=1e-3)
        assert one.text == other.text
    assert [r.text for r in told] != [r.text for r in llava.generate(requests)]
    assert model.fingerprint() != llava.fingerprint()
    assert model.describe()["adapter"] == saved.name
    assert tuned("none").fingerprint() == llava.fingerprint()


def test_the_fingerprint_follows_the_adapter(tuned, saved, copied):
    tensors = load_file(copied / WEIGHTS)
    name = sorted(tensors)[0]
    save_file({**tensors, name: tensors[name] + 1}, copied / WEIGHTS)
    assert tuned(copied).fingerprint() != tuned(saved).fingerprint()


def test_an_adapter_of_another_base_is_refused_unless_it_is_said_to_be_this_one(tuned, copied):
    settings = json.loads((copied / CONFIG).read_text())
    settings["base_model_name_or_path"] = "some/other-7b"
    (copied / CONFIG).write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="was tuned on some/other-7b, and the model is"):
        tuned(copied)
    tuned(copied, "options.adapter_base=some/other-7b")
    settings["base_model_name_or_path"] = None
    (copied / CONFIG).write_text(json.dumps(settings))
    assert tuned(copied).warnings() == ["the adapter does not say which model it was tuned on"]


def test_an_adapter_that_does_not_fit_is_refused(tuned, copied):
    tensors = load_file(copied / WEIGHTS)
    lacking = {name: tensor for name, tensor in tensors.items() if "layers.1" not in name}
    save_file(lacking, copied / WEIGHTS)
    with pytest.raises(CheckpointError, match="4 of its 8 tensors are missing and 0 have no place"):
        tuned(copied)
    save_file(
        {name: tensor[:, :1].contiguous() for name, tensor in tensors.items()}, copied / WEIGHTS
    )
    with pytest.raises(CheckpointError, match="does not fit the model: "):
        tuned(copied)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"exclude_modules": "*"}, "does not fit the model: nothing to repeat"),
        ({"bias": "some"}, "does not fit the model: "),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "is for Megatron"),
    ],
)
def test_settings_that_peft_stumbles_over_or_would_import_are_refused(
    tuned, copied, settings, reason
):
    known = json.loads((copied / CONFIG).read_text())
    (copied / CONFIG).write_text(json.dumps({**known, **settings}))
    with pytest.raises(CheckpointError, match=reason):
        tuned(copied)
    assert "antigravity" not in sys.modules


def test_pickled_adapters_and_other_folders_are_not_read(tuned, copied, tmp_path_factory):
    torch.save(load_file(copied / WEIGHTS), copied / "adapter_model.bin")
    (copied / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="weights in pickles"):
        tuned(copied)
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json"):
        tuned(tmp_path_factory.mktemp("empty"))
    with pytest.raises(CheckpointError, match="adapter no/such-folder does not exist"):
        tuned("no/such-folder")


def test_learned_prompts_are_refused(tuned, copied):
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    config.save_pretrained(copied)
    with pytest.raises(CheckpointError, match="puts tokens before prompts"):
        tuned(copied)


@pytest.mark.parametrize("kind", ["echo", "constant:Yes", "openai:m@http://localhost:1/v1"])
@pytest.mark.parametrize("option", ["dtype", "adapter", "quantization"])
def test_kinds_without_weights_refuse_what_would_do_nothing(kind, option):
    value = {"dtype": "float16", "adapter": "there", "quantization": "bnb-4bit"}
    with pytest.raises(CardError, match=f"--{option}: model .* has no {option}"):
        chosen_card(kind, **{option: value[option]})
    field = {"dtype": "dtype=float16", "adapter": "adapter=there", "quantization": "fusion.alpha=1"}
    with pytest.raises(CardError, match="unknown field"):
        load_model_card(kind, [field[option]])
