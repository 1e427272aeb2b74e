"""What does not go together is refused in a line before the language model is loaded."""

from __future__ import annotations

import shutil

import pytest
import torch

from adem_bench.cards import load_model_card
from adem_bench.errors import AdemBenchError, CheckpointError
from adem_bench.models.fused.fit import check_method, frozen_sizes
from adem_bench.models.fused.methods.lavin import LavinSettings
from adem_bench.models.fused.methods.memvp import MemvpSettings
from adem_bench.models.fused.weights.adapter import read_adapter, write_adapter
from adem_bench.models.fused.weights.published import load_plain_data
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.trainers.prepare import TrainingJob
from adem_bench.trainers.train import train
from support.fused import FIXTURES

ADAPTERS = {
    "adem": FIXTURES / "parity" / "checkpoint-19.pth",
    "memvp": FIXTURES / "parity_memvp" / "checkpoint-19.pth",
    "lavin": FIXTURES / "parity_lavin" / "checkpoint-19.pth",
}
LAVIN_CLIP = FIXTURES / "parity_lavin" / "weights" / "clip_tiny.pt"


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """Loading a language model is an error."""

    def load(*given, **more):
        raise AssertionError("the language model was loaded")

    monkeypatch.setattr("adem_bench.models.fused.backbone.load_language_model", load)


@pytest.fixture
def run(parity_card, mini, tmp_path):
    def call(*settings, **more):
        given = {"data_root": mini, "results": tmp_path, "overrides": settings} | more
        with pytest.raises(AdemBenchError) as caught:
            list(evaluate(Evaluation(str(parity_card), ("mini_mme",), **given)))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return call


@pytest.mark.parametrize(
    ("card", "file"),
    [(card, file) for card in ADAPTERS for file in ADAPTERS if card != file],
)
def test_each_method_s_file_is_recognised_and_refused_by_the_others(run, card, file):
    message = run(f"fusion={{kind: {card}}}", adapter=str(ADAPTERS[file]))
    assert f"is of the method {file!r}, and model parity uses {card!r}" in message
    assert f"set fusion.kind={file}" in message


def test_an_adapter_of_another_base_is_refused_with_the_sizes_and_the_remedy(run):
    # LaVIN's tiny file is for another tower: 8 blocks of width 64.
    message = run("fusion={kind: lavin}", adapter=str(ADAPTERS["lavin"]))
    assert message.endswith("and 19 more)")
    assert "resblocks.4.adapter_attn" in message
    assert (
        "with a vision tower that it does not name, and model parity has tiny (llama, 4 layers of "
        "width 64) with clip_tiny.pt (4 blocks of width 128, 256 patches); choose its own model "
        "card (the adapter " in message
    )


def test_a_missing_adapter_is_named_with_its_place(run):
    assert "adapter 'gone.pth' of model parity is not on disk" in run("adapter=gone.pth")
    assert "names no adapter for mini_mme; add `default`" in run("adapters={}")


def test_a_tower_without_what_a_method_needs(run, tmp_path):
    tower = torch.load(LAVIN_CLIP, weights_only=True)
    torch.save({n: t for n, t in tower.items() if "class_embedding" not in n}, tmp_path / "c.pt")
    lavin = {"adapter": str(ADAPTERS["lavin"])}
    message = run("fusion={kind: lavin}", f"vision.path={tmp_path / 'c.pt'}", **lavin)
    assert "c.pt has no class token (visual.class_embedding), which a tower in OpenAI's" in message
    few = run("fusion={kind: lavin, read_every: 9}", f"vision.path={LAVIN_CLIP}", **lavin)
    assert "read_every 9 reads no class token of a vision tower with 8 blocks; choose" in few
    torch.save({"visual.proj": torch.ones(2)}, tmp_path / "c.pt")
    message = run(f"vision.path={tmp_path / 'c.pt'}")
    assert "c.pt is not a CLIP vision transformer in OpenAI's layout" in message


def test_a_language_model_with_fewer_layers(run, tmp_path):
    published = read_adapter(ADAPTERS["lavin"])
    tensors = {n: t for n, t in published.tensors.items() if not n.startswith("layers.3.")}
    write_adapter(tmp_path / "three", tensors, published.settings)
    settings = ("fusion={kind: lavin}", f"vision.path={LAVIN_CLIP}")
    message = run(*settings, adapter=str(tmp_path / "three"))
    assert "missing: layers.3.adapter_attn.conv_A.weight" in message
    assert "(llama, 4 layers of width 64) with clip_tiny.pt (8 blocks of width 64, " in message


def test_a_damaged_base_is_told_before_anything_is_loaded(run, parity, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(parity / "weights" / "tiny", base)
    (base / "params.json").write_text("{}")
    assert "base: tensor or parameter 'n_layers' is missing" in run(f"language_model.path={base}")


def test_sizes_are_those_of_the_files_and_of_names(parity_card):
    found = frozen_sizes(load_model_card(str(parity_card)), None)
    assert (found.language_width, found.language_layers) == (64, 4)
    assert (found.vision_width, found.vision_blocks, found.patches) == (128, 4, 256)
    large = load_model_card(str(parity_card), ["vision={path: ''}"])
    found = frozen_sizes(large, None)
    assert (found.vision_width, found.vision_blocks, found.patches) == (1024, 24, 256)
    convolutions = load_model_card(str(parity_card), ["vision={path: '', name: RN50}"])
    assert frozen_sizes(convolutions, None) is None


def test_files_are_read_for_their_sizes_once_until_they_change(
    parity_card, parity, tmp_path, monkeypatch
):
    read = []
    for part in ("llama", "clip"):
        name = f"adem_bench.models.fused.weights.{part}.load_plain_data"
        monkeypatch.setattr(
            name, lambda file, **more: read.append(file.name) or load_plain_data(file, **more)
        )
    shutil.copytree(parity / "weights" / "tiny", tmp_path / "base")
    tower = shutil.copy(parity / "weights" / "clip_tiny.pt", tmp_path / "tower.pt")
    settings = [f"language_model.path={tmp_path / 'base'}", f"vision.path={tower}"]
    card = load_model_card(str(parity_card), settings)
    first = frozen_sizes(card, None)
    assert frozen_sizes(card, None) == first
    assert sorted(read) == ["consolidated.00.pth", "tower.pt"]
    shutil.copy(LAVIN_CLIP, tower)
    assert frozen_sizes(card, None).vision_blocks == 8 != first.vision_blocks
    (tmp_path / "base" / "params.json").write_text("{}")
    with pytest.raises(CheckpointError, match="'n_layers' is missing"):
        frozen_sizes(card, None)


def test_sizes_use_up_no_random_numbers(parity_card):
    card = load_model_card(str(parity_card))
    torch.manual_seed(3)
    check_method(card, MemvpSettings(), None)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (MemvpSettings(slots=64), "64 slots do not hold the 256 patches of an image; MemVP needs"),
        (LavinSettings(read_every=5), "read_every 5 reads no class token of a vision tower with 4"),
    ],
)
def test_a_method_that_the_base_cannot_serve(parity_card, settings, message):
    with pytest.raises(CheckpointError, match=message):
        check_method(load_model_card(str(parity_card)), settings, None)


def test_a_training_with_such_a_method_leaves_nothing_behind(parity_card, small_mini, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "data: [{task: mini_sqa}]\nmethod: {kind: memvp, slots: 64}\nepochs: 1\n"
    )
    job = TrainingJob(
        str(tmp_path / "mine.yaml"), str(parity_card), small_mini, output=tmp_path / "out"
    )
    with pytest.raises(CheckpointError, match="64 slots do not hold"):
        train(job)
    assert not (tmp_path / "out").exists()
