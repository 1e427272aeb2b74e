"""What a card says of devices, processor and decoding has an effect, or is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from adem_bench.cards import load_model_card
from adem_bench.errors import CardError, CheckpointError
from adem_bench.models.base import ModelOptions
from adem_bench.models.device import pick_device
from adem_bench.models.hf.model import HfModel
from adem_bench.records import Decoding, Request
from support.hf_pool import blip


def test_layers_can_be_spread_over_devices(folders, llava, requests):
    settings = ["options.device_map=auto", "options.max_memory={cpu: 1GiB}"]
    card = load_model_card(f"hf:{folders['llava']}", settings)
    model = HfModel(card, ModelOptions("auto"))
    assert model.fingerprint() == llava.fingerprint()
    assert [r.text for r in model.generate(requests)] == [r.text for r in llava.generate(requests)]
    small = load_model_card(
        f"hf:{folders['llava']}", [settings[0], "options.max_memory={cpu: 100KiB}"]
    )
    with pytest.raises(CheckpointError, match=r"memory of all devices|cannot be loaded"):
        HfModel(small, ModelOptions("auto"))


@pytest.mark.parametrize("size", ["", "20", "20 apples", "-1GB", "1e400GB", "[1]"])
def test_a_size_of_memory_that_is_none_is_told_by_its_option(folders, size):
    settings = ["options.device_map=auto", f"options.max_memory={{cpu: {size}}}"]
    with pytest.raises(CardError, match=r"option 'max_memory\.cpu' cannot be"):
        HfModel(load_model_card(f"hf:{folders['llava']}", settings), ModelOptions("auto"))


@pytest.mark.parametrize("setting", ["size: null", "patch_size: {a: 1}", "crop_size: {1: 2, a: 3}"])
def test_settings_of_a_card_are_named_where_its_processor_fails(folders, load, requests, setting):
    with pytest.raises(CheckpointError, match=r"options\.processor, which is set, may be"):
        load(folders["llava"], f"options.processor={{{setting}}}").generate(requests)


@pytest.mark.parametrize(
    ("settings", "device", "message"),
    [
        (["options.device_map=auto"], "cpu", "--device cpu: .* is spread by options.device_map"),
        (["options.device_map=auto", "quantization=int8-cpu"], "auto", "is for one CPU"),
        (["options.max_memory={0: 1GiB}"], "cpu", "no effect without options.device_map=auto"),
        (["options.adapter_base=a/b"], "cpu", "no effect without an adapter"),
        (["options.revision=main"], "cpu", "options.revision has no effect on the folder"),
        (["options.processor={max_pixel: 4}"], "cpu", "'max_pixel' has no effect on a Qwen2VLP"),
        (["options.processor={padding_side: right}"], "cpu", "'padding_side' has no effect"),
        (["adapter=here", "quantization=int8-cpu"], "cpu", "choose another --quantization"),
    ],
)
def test_settings_without_an_effect_are_refused(folders, settings, device, message):
    card = load_model_card(f"hf:{folders['qwen2_vl']}", settings)
    with pytest.raises(CardError, match=message):
        HfModel(card, ModelOptions(device))


def test_a_system_message_needs_a_template(tmp_path, load):
    blip(tmp_path)
    with pytest.raises(CardError, match=r"options\.system has no effect"):
        load(tmp_path, "options.system=Be brief.")


def test_pixel_limits_reach_the_processor(folders, load, requests):
    few = load(folders["qwen2_vl"], "options.processor={min_pixels: 64, max_pixels: 256}")
    assert few.length(requests[0]) < load(folders["qwen2_vl"]).length(requests[0])


def test_an_attention_that_is_not_there_is_one_line(folders, load):
    with pytest.raises(CheckpointError, match=r"cannot be loaded: .*[Ff]lash"):
        load(folders["llava"], "attention=flash_attention_2")


def test_auto_is_the_gpu_of_a_mac(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(CheckpointError, match="--device mps: only Macs"):
        pick_device("mps")


def test_beams_are_those_of_generate_and_go_before_the_card(llava, folders, network, requests):
    def beams(requests, **decoding):
        asked = [replace(r, decoding=Decoding(**decoding)) for r in requests]
        return [r.text for r in llava.generate(asked)]

    three = beams(requests, num_beams=3)
    assert three == [beams([request], num_beams=3)[0] for request in requests]
    assert three != beams(requests)
    assert beams(requests, num_beams=1) == beams(requests)
    inputs = llava._prompts.inputs([llava._prompts.render(requests[3].prompt, 0)], [[]])
    written = network(folders["llava"]).generate(**inputs, num_beams=3, max_new_tokens=8)
    new = written[0, inputs["input_ids"].shape[1] :]
    assert three[3] == llava._tokenizer.decode(new, skip_special_tokens=True)
    with pytest.raises(CardError, match="drawn or beams searched, not both"):
        beams(requests, num_beams=3, temperature=1.0)
    card = load_model_card(f"hf:{folders['llava']}", ["decoding.num_beams=3"])
    model = HfModel(card, ModelOptions("cpu"))
    assert model.decoding(Decoding()) == Decoding(num_beams=3)
    assert model.decoding(Decoding(num_beams=1)) == Decoding(num_beams=1)
    assert model.decoding(Decoding(temperature=1.0)) == Decoding(temperature=1.0, seed=0)
    assert model.generate(requests[:1])[0].text == three[0]


@pytest.mark.parametrize("name", ["blip-base-coco", "blip-large-coco"])
def test_blips_cards_ask_as_it_was_published(name, tmp_path, pictures):
    blip(tmp_path)
    card = load_model_card(name, [f"options.source={tmp_path}"])
    # The tiny tower has its own size.
    pixels = card.options["processor"] | {"size": {"height": 24, "width": 24}}
    card = card.model_copy(update={"options": {**card.options, "processor": pixels}})
    model = HfModel(card, ModelOptions("cpu"))
    requests = [Request("a picture of", (path,), 20) for path in pictures]
    told = [r.text for r in model.generate(requests)]
    processor = AutoProcessor.from_pretrained(tmp_path, backend="pil")
    network = AutoModelForImageTextToText.from_pretrained(tmp_path, attn_implementation="eager")
    for path, text in zip(pictures, told, strict=True):
        image = Image.open(path).convert("RGB")
        inputs = processor(images=image, text="a picture of ", return_tensors="pt")
        written = network.generate(**inputs, num_beams=3, min_length=5, max_length=20)[0]
        assert len(written) <= 20
        # [DEC] and the prompt's three words, here of letters.
        new = written[inputs["input_ids"].shape[1] - 1 :]
        assert text == processor.tokenizer.decode(new, skip_special_tokens=True)
    plain = load_model_card(f"hf:{tmp_path}")
    assert HfModel(plain, ModelOptions("cpu")).fingerprint() != model.fingerprint()


def test_blips_pixels_are_pillows(tmp_path):
    blip(tmp_path)
    noise = torch.randint(0, 255, (60, 90, 3), dtype=torch.uint8)
    image = Image.fromarray(noise.numpy())
    processor = AutoProcessor.from_pretrained(
        tmp_path, **load_model_card("blip-base-coco").options["processor"]
    )
    seen = processor(images=image, text="a", return_tensors="pt")["pixel_values"][0]
    resized = image.resize((384, 384), Image.Resampling.BICUBIC)
    plain = torch.tensor(list(resized.getdata())).view(384, 384, 3).permute(2, 0, 1) / 255
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    assert torch.allclose(seen, (plain - mean) / std, atol=1e-4)
