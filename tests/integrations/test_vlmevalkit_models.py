"""The other way: VLMEvalKit's models as models of ours."""

from __future__ import annotations

import importlib.util
import os
from functools import partial

import pytest
import torch
from PIL import Image

from adem_bench.cards import load_model_card
from adem_bench.errors import CardError, CheckpointError, OutOfMemoryError
from adem_bench.models import vlmevalkit
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.records import Request, Response


@pytest.fixture
def parrot(vlmeval, monkeypatch) -> str:
    """A model that is registered in whichever VLMEvalKit there is."""
    from vlmeval.config import supported_VLM
    from vlmeval.vlm.base import BaseModel

    class Parrot(BaseModel):
        def __init__(self, word):
            super().__init__()
            assert "WORLD_SIZE" not in os.environ
            if word is None:
                raise OSError("no weights")
            self.word = word

        def generate_inner(self, message, dataset=None):
            assert not torch.is_grad_enabled()
            kinds = "".join(item["type"][0] for item in message)
            text = message[-1]["value"]
            if text == "crash":
                raise ValueError("crashed")
            if text == "too much":
                raise torch.OutOfMemoryError("full")
            if text == "fail":
                return "Failed to obtain answer via API."
            return f"{self.word} {dataset} {kinds} {text}"

    monkeypatch.setitem(supported_VLM, "parrot", partial(Parrot, word="polly"))
    torch.set_grad_enabled(True)
    return "parrot"


def built(name: str, *settings: str):
    return build_model(load_model_card(f"vlmevalkit:{name}", settings), ModelOptions("cpu"))


def test_a_registered_model_answers(parrot, pictures):
    model = built(parrot)
    requests = [Request("Which?", (pictures[0], pictures[1])), Request("Why?")]
    assert model.generate(requests) == [
        Response("polly None iit Which?"),
        Response("polly None t Why?"),
    ]
    assert model.generate([Request("Wh\ud83dy?")]) == [Response("polly None t Wh?y?")]
    assert torch.is_grad_enabled()
    assert model.budget().rows == 1


def test_a_model_is_given_the_image_that_is_shown(vlmeval, monkeypatch, pictures, tmp_path):
    from vlmeval.config import supported_VLM
    from vlmeval.vlm.base import BaseModel

    class Sizes(BaseModel):
        def generate_inner(self, message, dataset=None):
            sizes = []
            for item in message[:-1]:
                with Image.open(item["value"]) as image:
                    sizes.append(image.size)
            given.append([item["value"] for item in message[:-1]])
            return str(sizes)

    given = []
    monkeypatch.setitem(supported_VLM, "sizes", Sizes)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, missing = tmp_path / "turned.jpg", tmp_path / "missing.jpg"
    Image.new("RGB", (30, 20)).save(turned, exif=exif)
    images = (turned, pictures[0], turned)
    good, bad = built("sizes").generate([Request("?", images), Request("?", (missing,))])
    with Image.open(pictures[0]) as image:
        assert good.text == f"[(20, 30), {image.size}, (20, 30)]"
    assert given[0][1] == str(pictures[0])
    assert bad == Response("", error=f"image {missing} does not exist")


def test_options_name_a_data_set_and_arguments(parrot):
    model = built(parrot, "options.dataset=MME", "options.arguments.word=jacko")
    assert model.generate([Request("Why?")])[0].text == "jacko MME t Why?"
    assert model.fingerprint() != built(parrot, "options.dataset=MME").fingerprint()
    assert model.describe()["arguments"] == {"word": "jacko"}
    with pytest.raises(CardError, match="unknown option 'datset'; did you mean: dataset"):
        built(parrot, "options.datset=MME")


def test_what_is_no_answer_is_an_error(parrot):
    crashed, failed = built(parrot).generate([Request("crash"), Request("fail")])
    assert crashed == Response("", error="ValueError: crashed")
    assert failed == Response("", error="Failed to obtain answer via API.")
    with pytest.raises(OutOfMemoryError):
        built(parrot).generate([Request("too much")])


def test_the_model_does_not_see_how_many_processes_there_are(parrot, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    built(parrot)
    assert os.environ["WORLD_SIZE"] == "2"


def test_models_that_cannot_be_had(parrot):
    with pytest.raises(CardError, match="VLMEvalKit has no model 'parot'; did you mean: parrot"):
        built("parot")
    with pytest.raises(CheckpointError, match="cannot load parrot"):
        built(parrot, "options.arguments.word=null")


def test_the_import_leaves_the_process_as_it_was(unchanged, contract):
    (response,) = built("parrot").generate([Request("Who are you?")])
    assert (response.error, response.text) == (None, "polly None t Who are you?")


def test_without_the_package_it_says_where_to_get_it():
    if importlib.util.find_spec("vlmeval"):
        pytest.skip("VLMEvalKit is installed")
    with pytest.raises(CheckpointError, match="needs VLMEvalKit: `pip install ms-vlmeval`"):
        built("llava_v1.5_7b")


def test_the_version_is_the_packages_or_the_checkouts(contract, monkeypatch, tmp_path):
    assert vlmevalkit._version() == "ms-vlmeval 0.0.20"

    class Elsewhere:
        version = "0.0.20"

        def locate_file(self, name):
            return tmp_path / name

    monkeypatch.setattr(vlmevalkit.metadata, "distribution", lambda name: Elsewhere())
    assert vlmevalkit._version() == "01234567"
