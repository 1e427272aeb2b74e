"""Answers in batches are those of single requests, for tiny random models of many architectures.

The whole pool is run by `make test-all`; a part of it, whose repairs are the deepest, always.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from adem_bench.errors import CheckpointError
from adem_bench.models.hf.architectures import SAFE_WITH_PADDING
from adem_bench.records import Decoding, Request
from support.hf_pool import NEED_IMAGE, ONE_IMAGE, PADDED, REFUSED, UNPADDED, blip, git, kosmos2

QUICK = (blip, git)
POOL = [
    pytest.param(build, id=build.__name__, marks=[] if build in QUICK else [pytest.mark.slow])
    for build in (*PADDED, *UNPADDED)
]
CHOICES = (" A", " b c")


@pytest.fixture(scope="module")
def sized_pictures(tmp_path_factory):
    """Noise in four sizes and shapes."""
    folder = tmp_path_factory.mktemp("noise")
    noise = torch.Generator().manual_seed(0)
    paths = []
    for width, height in ((24, 24), (40, 24), (24, 48), (64, 64)):
        pixels = torch.randint(0, 255, (height, width, 3), generator=noise, dtype=torch.uint8)
        paths.append(folder / f"{width}x{height}.png")
        Image.fromarray(pixels.numpy()).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def asked(sized_pictures):
    one, two, three, four = sized_pictures
    return [
        Request("a picture of", (one,), 6),
        Request("is there a red circle here? yes or no", (two,), 6),
        Request("what", (three,), 6),
        Request("a picture of", (four,), 6),
        Request("what has changed between both", (one, two), 6),
        Request("why is that so", (), 6),
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory, load):
    """Builds an architecture and loads it, once each."""
    known = {}

    def make(build):
        if build not in known:
            folder = tmp_path_factory.mktemp(build.__name__)
            build(folder)
            known[build] = (folder, load(folder))
        return known[build]

    return make


@pytest.mark.parametrize("build", POOL)
def test_answers_are_those_of_single_requests(build, made, asked):
    model = made(build)[1]
    asked = [replace(request, choices=CHOICES) for request in asked]
    together = model.generate(asked)
    alone = [model.generate([request])[0] for request in asked]
    assert [r.text for r in together] == [r.text for r in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.choice_logprobs == pytest.approx(other.choice_logprobs, abs=1e-3)
    errors = [response.error for response in together]
    assert errors[:4] == [None] * 4
    if build in ONE_IMAGE:
        assert errors[4] == "the model takes 1 image per prompt, the sample has 2"
    else:
        assert errors[4] is None
    if build in NEED_IMAGE:
        assert errors[5] == "the model answers about an image, and the sample has none"
    else:
        assert errors[5] is None
    assert not any(r.text.startswith(q.prompt) for q, r in zip(asked, together, strict=True))
    # The same words about two pictures.
    assert together[0].choice_logprobs != pytest.approx(together[3].choice_logprobs, abs=1e-3)


@pytest.mark.slow
def test_every_architecture_that_is_padded_is_in_the_pool(made):
    padded = {made(build)[1]._network.config.model_type for build in PADDED}
    assert padded == SAFE_WITH_PADDING


@pytest.mark.parametrize("build", REFUSED)
def test_models_without_prompts_are_refused_as_they_are_loaded(build, made):
    with pytest.raises(CheckpointError, match="which cannot be asked: it reads"):
        made(build)


@pytest.mark.parametrize("build", [blip, git, pytest.param(kosmos2, marks=pytest.mark.slow)])
def test_an_answer_is_what_the_models_own_generate_writes_behind_the_prompt(build, made, asked):
    folder, model = made(build)
    processor = AutoProcessor.from_pretrained(folder)
    network = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager")
    for request in asked[:4]:
        words = {"text": request.prompt}
        if build is git:  # as its documentation asks questions
            words = {"text": f"[CLS]{request.prompt}", "add_special_tokens": False}
        picture = Image.open(request.images[0]).convert("RGB")
        inputs = processor(images=picture, **words, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        width = inputs["input_ids"].shape[1] - (build is blip)
        written = network.generate(**inputs, do_sample=False, max_new_tokens=6)[0, width:]
        expected = processor.tokenizer.decode(written, skip_special_tokens=True)
        assert model.generate([request])[0].text == expected


def test_drawn_answers_of_a_model_with_its_own_generate_follow_the_seed(made, asked):
    model = made(blip)[1]

    def drawn(requests, seed):
        chosen = Decoding(temperature=1.5, seed=seed)
        return [r.text for r in model.generate([replace(q, decoding=chosen) for q in requests])]

    one, other = drawn(asked[:4], 1), drawn(asked[:4], 2)
    assert one == [drawn([request], 1)[0] for request in asked[:4]]
    assert one != other
