"""Methods that others write, each in one file: trained, saved, loaded, evaluated and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import adem_bench
from adem_bench.cards import load_model_card, load_recipe_card
from adem_bench.errors import CardError, CheckpointError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.weights.adapter import read_adapter, write_adapter
from adem_bench.records import Request
from adem_bench.trainers.train import NullCallback

METHODS = {"patch_prefix": {"gain": 0.5}, "gated_tower": {"rank": 3, "strength": 0.25}}
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


@pytest.fixture(scope="module", autouse=True)
def include():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADEM_BENCH_INCLUDE", str(Path(__file__).parent / "third_party"))
        # To draw the curve takes longer than to train.
        patch.setattr("adem_bench.trainers.train.draw_loss_curve", lambda *given: None)
        yield


@pytest.fixture(scope="module")
def train(tmp_path_factory, parity_card, small_mini):
    def call(method, output, **more):
        recipe = tmp_path_factory.mktemp("recipe") / f"{method}.yaml"
        fields = {
            "data": [
                {"task": "mini_sqa", "limit": 4},
                {"task": "mini_instruction", "split": "all", "limit": 4},
            ],
            "method": {"kind": method, **METHODS[method]},
            "epochs": 1, "effective_batch": 2, "batch_size": 2, "workers": 0,
            "base_learning_rate": 0.3, "checkpoint_steps": 2,
        }  # fmt: skip
        recipe.write_text(yaml.safe_dump(fields))
        return adem_bench.train(
            recipe, model=parity_card, data_root=small_mini, output=output, **more
        )

    return call


@pytest.fixture(scope="module")
def trained(once, train):
    """What a training of a method makes when nothing comes between, to be read."""

    def make(method):
        def fill(folder):
            assert train(method, folder).steps == 4

        return once(f"seam-{method}", fill)

    return make


class StopError(Exception):
    pass


class StopsAtThree(NullCallback):
    def step(self, report):
        if report.step == 3:
            raise StopError


def evaluate(model, data, tmp_path, **more):
    options = adem_bench.RunOptions(limit=6)
    (outcome,) = adem_bench.evaluate(
        model, ["mini_mme"], data_root=data, results=tmp_path / "results", options=options, **more
    )
    return outcome


@pytest.mark.parametrize("method", METHODS)
def test_a_method_in_one_file_is_trained_saved_loaded_evaluated_and_resumed(
    train, trained, mini, tmp_path, method
):
    whole, out = trained(method), tmp_path / "out"
    with pytest.raises(StopError):
        train(method, out, callback=StopsAtThree())
    assert train(method, out).resumed_from == 2
    first, second = (load_file(f / "adapter" / "adapter.safetensors") for f in (whole, out))
    assert all(torch.equal(first[name], second[name]) for name in first)

    stated = json.loads((out / "adapter" / "adapter.json").read_text())
    assert stated["method"] == method
    assert stated.items() >= METHODS[method].items()
    assert read_adapter(out / "adapter").settings.method == method
    assert load_model_card(str(out)).fusion.kind == method

    outcome = evaluate(out, mini, tmp_path)
    assert (outcome.result.scored, outcome.resumed) == (6, 0)
    samples = outcome.folder / "samples.jsonl"
    answers = samples.read_text()
    (outcome.folder / "metrics.json").unlink()
    samples.write_text("".join(answers.splitlines(keepends=True)[:2]))
    assert evaluate(out, mini, tmp_path).resumed == 2
    assert samples.read_text() == answers


@pytest.mark.parametrize("method", METHODS)
def test_its_answers_depend_on_the_image_and_not_on_the_batch(trained, tmp_path, pictures, method):
    learned = read_adapter(trained(method) / "adapter")
    torch.manual_seed(0)
    noise = {name: 3 * torch.randn_like(tensor) for name, tensor in learned.tensors.items()}
    write_adapter(tmp_path / "noise", noise, learned.settings)
    card = load_model_card(str(trained(method)), [f"adapter={tmp_path / 'noise'}"])
    model = build_model(card, ModelOptions("cpu"))
    model.load_adapter_for("any", "any")
    images = [(), *((picture,) for picture in pictures)]
    requests = [Request(f"Question {n // 4}?", images[n % 4], 6) for n in range(8)]
    single = [model.generate([request])[0] for request in requests]
    assert model.generate(requests) == single
    assert len({response.text for response in single[:4]}) >= 3
    long = [Request("word " * 600, image, 4) for image in images[:2]]
    assert model.generate(long) == [model.generate([request])[0] for request in long]


def test_tensors_without_gradient_stay_as_they_are(trained):
    tensors = load_file(trained("gated_tower") / "adapter" / "adapter.safetensors")
    assert tensors["spare"].tolist() == [1, 1, 1]  # not decayed either
    assert (tensors["gates"] != 1).all()
    assert tensors["down.weight"].shape[0] == 3


def test_an_adapter_of_another_method_is_refused_with_both_names(trained, parity_card):
    out = trained("gated_tower")
    for card, adapter, found, wanted in (
        (parity_card, out / "adapter", "gated_tower", "adem"),
        (out, Path("tests/fixtures/parity/checkpoint-19.pth"), "adem", "gated_tower"),
    ):
        chosen = load_model_card(str(card), [f"adapter={adapter.resolve()}"])
        model = build_model(chosen, ModelOptions("cpu"))
        with pytest.raises(CheckpointError) as caught:
            model.load_adapter_for("any", "any")
        assert f"is of the method {found!r}" in str(caught.value)
        assert f"uses {wanted!r}" in str(caught.value)


def test_the_method_enters_the_fingerprint_unless_it_is_the_first(trained, parity_card):
    out = trained("patch_prefix")

    def fingerprint(card, *settings):
        model = build_model(load_model_card(str(card), settings), ModelOptions("cpu"))
        model.load_adapter_for("any", "any")
        return model.fingerprint()

    plain = fingerprint(parity_card, "adapter=none")
    assert fingerprint(parity_card, "adapter=none", "fusion.kind=adem") == plain
    assert fingerprint(parity_card, "adapter=none", "fusion.kind=patch_prefix") != plain
    trained = fingerprint(out)
    assert fingerprint(out, "fusion.gain=0.75") != trained
    assert fingerprint(out, "fusion.gain=0.5") == trained


def model(setting):
    return load_model_card("adem-7b", [setting])


def recipe(setting):
    return load_recipe_card("sqa", [setting])


@pytest.mark.parametrize(
    ("load", "setting", "message"),
    [
        (model, "fusion.kind=gated_towr", "unknown method 'gated_towr'; did you mean: gated_tower"),
        (model, "fusion={kind: gated_tower, strenght: 1}", "'fusion.strenght'; did you mean: str"),
        (model, "fusion={kind: gated_tower, rank: 1}", "unknown field 'fusion.rank'"),
        (model, "fusion={kind: patch_prefix, gain: 0}", "greater than 0"),
        (recipe, "method={kind: gated_tower, alpha: 1}", "'method.alpha' is of the method adem;"),
        (recipe, "method={kind: memvp, beta: 1}", "--set 'method={kind: memvp}' leaves out all"),
        (model, "fusion={kind: lavin, drop_ratio: 0}", "or choose fusion.kind=adem"),
        (recipe, "method.kind=memvpp", "unknown method 'memvpp'"),
    ],
)
def test_settings_are_those_of_the_method(load, setting, message):
    with pytest.raises(CardError) as caught:
        load(setting)
    assert message in str(caught.value)
