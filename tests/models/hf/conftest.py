from __future__ import annotations

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.generation import GenerationMixin

from adem_bench.cards import load_model_card
from adem_bench.models.base import ModelOptions
from adem_bench.models.hf.model import HfModel
from adem_bench.records import Request
from support.tiny_hf import BUILDERS


@pytest.fixture(autouse=True)
def _on_one_thread(one_thread):
    """All tests here run tiny models."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder of each architecture."""
    root = tmp_path_factory.mktemp("hf")
    for name, build in BUILDERS.items():
        build(root / name)
    return {name: root / name for name in BUILDERS}


@pytest.fixture(scope="session")
def load():
    """Loads a folder on the CPU."""

    def make(folder, *settings):
        model = HfModel(load_model_card(f"hf:{folder}", settings), ModelOptions("cpu"))
        model.load()
        return model

    return make


@pytest.fixture(scope="session", params=BUILDERS)
def folder(request, folders):
    """Each architecture's folder."""
    return folders[request.param]


@pytest.fixture(scope="session")
def model(folder, load):
    """Each architecture, loaded once."""
    return load(folder)


@pytest.fixture(scope="session")
def processor():
    """Loads the processor of a folder, as transformers' documentation does."""
    return AutoProcessor.from_pretrained


@pytest.fixture(scope="session")
def network():
    """Loads the network of a folder, as transformers' documentation does."""
    return AutoModelForImageTextToText.from_pretrained


@pytest.fixture
def generated(monkeypatch):
    """What transformers is asked to generate from: the inputs of each call."""
    calls = []
    generate = GenerationMixin.generate

    def note(network, **given):
        calls.append(given)
        return generate(network, **given)

    monkeypatch.setattr(GenerationMixin, "generate", note)
    return calls


@pytest.fixture(scope="session")
def llava(folders, load):
    """LLaVA, loaded once."""
    return load(folders["llava"])


@pytest.fixture(scope="session")
def requests(pictures):
    """Prompts of several lengths with one image, two, and none."""
    red, green, blue = pictures
    return [
        Request("Is it red?", (red,), 8),
        Request("What is the colour of the square in this picture?", (green,), 8),
        Request("Which of the two is green?", (blue, green), 8),
        Request("Why?", (), 8),
        Request("Name a colour that is not in any of the pictures.", (), 8),
        Request("Is it red?", (blue,), 8),
    ]
