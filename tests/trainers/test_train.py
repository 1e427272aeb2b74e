"""`adem_bench.train` on the tiny published model and small data of the mini world."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import adem_bench
from adem_bench.cards import load_model_card
from adem_bench.errors import CardError, CheckpointError, DataError, DivergedError, ResultsError
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.trainers.train import NullCallback
from adem_bench.trainers.training_log import read_log
from support.run_writer import choice, write_run

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


FEW = "kind: mme\nsplit: test\nheadline: accuracy\noptions: {subtasks: [existence]}\n"


@pytest.fixture
def train(recipe_file, parity_card, small_mini, tmp_path):
    """Trains by the small recipe into `tmp_path/out`."""

    def call(**more):
        fixed = {"model": parity_card, "data_root": small_mini, "output": tmp_path / "out"}
        fixed |= {"results": tmp_path / "results"}
        return adem_bench.train(recipe_file, **{**fixed, **more})

    return call


@pytest.fixture(scope="module")
def undisturbed(once, recipe_file, parity_card, small_mini):
    """What the small recipe makes when nothing comes between, to be read."""

    def make(folder):
        adem_bench.train(recipe_file, model=parity_card, data_root=small_mini, output=folder)

    return once("undisturbed-training", make)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A task of 40 questions."""
    path = tmp_path_factory.mktemp("tasks") / "few.yaml"
    path.write_text(FEW)
    return str(path)


@pytest.fixture
def trained(undisturbed, tmp_path):
    """The same in `tmp_path/out`, to be gone on with."""
    shutil.copytree(undisturbed, tmp_path / "out")
    return tmp_path / "out"


def test_what_training_made_is_a_model_with_all_that_is_needed_to_use_it(trained, mini, tmp_path):
    adapter = read_adapter(trained / "adapter")
    settings = adapter.settings
    values = [settings.values[name] for name in ("alpha", "scales", "adapter_dim")]
    assert values == [0.2, (256, 16), 6]
    assert settings.prompts["scienceqa"] == {"prompt_format": "CQM-A", "captions": False}
    assert settings.prompts["instruction"] == {"prompt_format": "instruction"}
    assert (settings.language_model, settings.vision) == ("tiny", "clip_tiny.pt")
    assert settings.language_model_architecture == "llama, 4 layers of width 64"
    assert settings.vision_architecture == "4 blocks of width 128, 256 patches"
    assert len(settings.language_model_signature) == len(settings.vision_signature) == 16
    (result,) = adem_bench.evaluate(
        trained, ["mini_mme"], data_root=mini, results=tmp_path / "results",
        options=adem_bench.RunOptions(limit=4),
    )  # fmt: skip
    assert result.result.scored == 4
    assert "undisturbed-training" in str(result.folder)  # what its output was called


def test_the_log_the_curve_and_the_manifest_tell_of_every_step(undisturbed):
    out = undisturbed
    log = read_log(out / "log.jsonl")
    assert [line["step"] for line in log] == list(range(1, 9))
    assert {"loss", "learning_rate", "grad_norm", "samples_per_second", "memory"} <= set(log[0])
    told = [line.split(" ", 2)[1:] for line in (out / "run.log").read_text().splitlines()]
    assert [level for level, _ in told] == ["INFO"] * 4
    assert told[1][1].startswith("recipe ")
    assert told[2][1].startswith("begins: 16 samples, 2 epochs of 4 steps, ")
    assert told[3][1].startswith(f"step 8 of 8 (100%), loss {log[-1]['loss']:.4f}, ")
    with Image.open(out / "loss.png") as curve:
        assert curve.width > 400
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["steps"]["total"] == 8
    share = manifest["parameters"]
    assert share["share"] == pytest.approx(share["trainable"] / share["total"])
    # Q1: what the recipe asks and what the evaluation asks are both kept.
    prompts = manifest["prompts"]["0 mini_sqa train"]
    assert prompts["training"]["prompt_format"] == "CQM-A"
    assert prompts["evaluation"]["prompt_format"] == "QCM-A"
    assert manifest["prompts"]["1 mini_instruction all"]["evaluation"] is None
    assert manifest["data"]["samples"] == 16
    assert any((out / "tensorboard").iterdir())


class StopError(Exception):
    pass


class StopsAt:
    """A callback that ends training at a step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step_to_stop = step
        self.warnings: list[str] = []
        self.begun_after = 0

    def begins(self, prepared, output, steps_done) -> None:
        self.warnings = list(prepared.warnings())
        self.begun_after = steps_done

    def step(self, report) -> None:
        if report.step == self.step_to_stop:
            raise StopError

    def evaluated(self, evaluation) -> None:
        pass

    def warned(self, message) -> None:
        raise AssertionError(message)


def test_a_training_that_is_called_as_an_earlier_one_says_so_before_it_begins(train, tmp_path):
    results = tmp_path / "results"
    write_run(results / "out" / "mini_sqa" / "test", [choice(0, 0)], model="out")
    said = (
        f"{results / 'out'} has runs of an earlier training called out; tables will tell the two "
        "apart by their fingerprints, --name by a name"
    )
    with pytest.raises(AssertionError, match=re.escape(said)):
        train(results=results, callback=StopsAt(1))
    assert not (tmp_path / "out" / "log.jsonl").exists()


# The first kill leaves no checkpoint, the second those of two epochs; all steps: test_loop.py.
@pytest.mark.parametrize("step", [3, 7])
def test_an_interrupted_training_ends_on_the_same_bits(train, undisturbed, tmp_path, step):
    with pytest.raises(StopError):
        train(settings={"checkpoint_steps": 3}, callback=StopsAt(step))
    outcome = train(settings={"checkpoint_steps": 3})
    assert (outcome.steps, outcome.resumed_from) == (8, {3: 0, 7: 6}[step])
    whole, resumed = undisturbed, tmp_path / "out"
    assert [x["loss"] for x in read_log(whole / "log.jsonl")] == [
        x["loss"] for x in read_log(resumed / "log.jsonl")
    ]
    first, second = (
        load_file(path / "adapter" / "adapter.safetensors") for path in (whole, resumed)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


class Signals(StopsAt):
    """A scheduler that takes the machine away during a step."""

    def step(self, report) -> None:
        if report.step == self.step_to_stop:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_training_that_is_asked_to_end_first_writes_a_checkpoint(train, undisturbed, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        train(settings={"checkpoint_steps": 100}, callback=Signals(2))
    assert signal.getsignal(signal.SIGTERM) == before
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-00000003"]
    assert train(settings={"checkpoint_steps": 100}).resumed_from == 3
    first, second = (
        load_file(path / "adapter" / "adapter.safetensors")
        for path in (undisturbed, tmp_path / "out")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_callbacks_former_name_is_still_taken(train):
    with pytest.raises(StopError):
        train(watcher=StopsAt(1))


@pytest.mark.parametrize("name", ["optimizer.safetensors", "adapter.safetensors"])
def test_a_checkpoint_that_does_not_fit_is_named_with_what_to_do(train, trained, name):
    folder = trained / "checkpoints" / "step-00000008"
    tensors = load_file(folder / name)
    first = min(tensors)
    save_file({("other" if key == first else key): tensors[key] for key in tensors}, folder / name)
    with pytest.raises(CheckpointError, match=rf"{folder} cannot be read \(.*{first}.*; remove it"):
        train()


def test_a_finished_training_is_not_done_again(train, trained):
    before = (trained / "manifest.json").read_bytes()
    outcome = train()
    assert (outcome.loss, outcome.resumed_from) == (None, 8)
    assert (trained / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_evaluations_are_made_at_epoch_ends_and_the_best_adapter_stays(train, few, tmp_path):
    outcome = train(tasks=[few])
    assert [figures["epoch"] for figures in outcome.evaluations] == [1, 2]
    name = "few accuracy"
    best = json.loads((tmp_path / "out" / "best" / "evaluation.json").read_text())
    assert best[name] == max(figures[name] for figures in outcome.evaluations)
    (final,) = outcome.outcomes
    assert final.folder.is_relative_to(tmp_path / "results" / "out")
    assert final.result.complete
    ran = json.loads((final.folder / "manifest.json").read_text())
    assert ran["model"]["adapter"] == "adapter"  # the final one, not a checkpoint that may go
    logged = [line for line in read_log(tmp_path / "out" / "log.jsonl") if name in line]
    assert [line[name] for line in logged] == [f[name] for f in outcome.evaluations]


@pytest.mark.slow
def test_an_evaluation_that_was_interrupted_is_made_up_for(train, few, monkeypatch):
    from adem_bench.trainers import train as module

    def fail(*given):
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate_model", fail)
        with pytest.raises(StopError):
            train(tasks=[few])
    outcome = train(tasks=[few])
    assert outcome.resumed_from == 4
    assert [figures["epoch"] for figures in outcome.evaluations] == [1, 2]


def test_where_training_asks_otherwise_than_evaluation_it_says_so(train):
    callback = StopsAt(1)
    with pytest.raises(StopError):
        train(callback=callback)
    assert any("prompt_format CQM-A here, QCM-A in evaluation (Q1)" in w for w in callback.warnings)


def test_samples_without_room_for_an_answer_are_left_out_counted_and_named(train):
    callback = StopsAt(1)
    with pytest.raises(StopError):
        train(settings={"data.0.max_sequence_length": 60}, callback=callback)
    (warning,) = [w for w in callback.warnings if "left out" in w]
    assert "samples are left out because their prompt leaves no token to learn" in warning
    with pytest.raises(DataError, match=r"nothing to train on: .* samples are left out"):
        train(
            settings={"data.0.max_sequence_length": 8, "data.1.max_sequence_length": 8},
            overwrite=True,
        )


def test_another_recipe_does_not_touch_the_folder(train, trained):
    before = (trained / "adapter" / "adapter.safetensors").read_bytes()
    with pytest.raises(ResultsError, match=r"epochs is 2 there, 1 here"):
        train(settings={"epochs": 1})
    assert (trained / "adapter" / "adapter.safetensors").read_bytes() == before
    assert train(settings={"epochs": 1}, overwrite=True).steps == 4


def test_an_adapter_is_refused_on_another_language_model_of_its_shape(
    trained, parity_card, parity, mini, tmp_path
):
    other = tmp_path / "llama"
    (other / "7B").mkdir(parents=True)
    weights = torch.load(parity / "weights/tiny/consolidated.00.pth", weights_only=True)
    weights["tok_embeddings.weight"] = weights["tok_embeddings.weight"].flip(0)
    torch.save(weights, other / "7B" / "consolidated.00.pth")
    for name in ("tiny/params.json", "tokenizer.model"):
        (other / "7B" / Path(name).name).write_bytes((parity / "weights" / name).read_bytes())
    card = yaml.safe_load(parity_card.read_text())
    card["language_model"]["path"] = str(other / "7B")
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(CheckpointError, match="was tuned on another language model"):
        adem_bench.evaluate(
            tmp_path / "other.yaml", ["mini_mme"], data_root=mini,
            adapter=str(trained / "adapter"), results=tmp_path / "results",
        )  # fmt: skip


def test_mistakes_are_told_before_anything_is_written(train, tmp_path):
    cases = [
        ({"settings": {"epcohs": 3}}, CardError, "did you mean: epochs"),
        ({"settings": {"batch_size": 3}}, CardError, "effective_batch 4 is not a multiple"),
        ({"settings": {"shard_frozen_weights": True}}, CardError, "start with torchrun"),
        ({"settings": {"effective_batch": 64}}, CardError, "make no optimizer step of 64"),
        ({"settings": {"data.0.task": "mini_mme"}}, CardError, "no training data"),
        ({"settings": {"data.0.split": "tset"}}, CardError, "unknown split"),
        ({"settings": {"method.scales": [60]}}, CheckpointError, "does not suit a vision tower"),
        ({"tasks": ["mini_mem"]}, CardError, "did you mean: mini_mme"),
        ({"model": "adem-8b"}, CardError, "did you mean"),
    ]
    for arguments, error, message in cases:
        with pytest.raises(error, match=message):
            train(**arguments)
    assert not (tmp_path / "out").exists()


def test_the_output_is_a_model_wherever_it_is_used_from(
    train, parity_card, parity, mini, tmp_path, monkeypatch
):
    (tmp_path / "DATA").mkdir()
    for place in (*mini.iterdir(), parity / "weights"):
        (tmp_path / "DATA" / place.name).symlink_to(place)
    card = {
        "language_model": {"path": "tiny"}, "vision": {"path": "clip_tiny.pt", "pretrained": ""},
        "dtype": "float32",
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(card))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADEM_BENCH_DATA", "DATA")
    recipe = {"data": [{"task": "mini_sqa", "split": "test", "limit": 8}], "epochs": 1}
    recipe |= {"workers": 0, "effective_batch": 8, "batch_size": 8, "method": {"scales": [256]}}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(recipe))
    adem_bench.train("short.yaml", model="mine.yaml", data_root="DATA", output="out")
    made = yaml.safe_load((tmp_path / "out" / "model.yaml").read_text())
    assert Path(made["language_model"]["path"]).is_absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (outcome,) = adem_bench.evaluate(
        tmp_path / "out", ["mini_mme"], data_root=mini, results=tmp_path / "results",
        options=adem_bench.RunOptions(limit=2),
    )  # fmt: skip
    assert outcome.result.scored == 2


@pytest.mark.slow
def test_a_cards_own_fusion_settings_do_not_reach_the_evaluation(
    train, parity_card, few, tmp_path, monkeypatch
):
    from adem_bench.trainers import train as module

    card = yaml.safe_load(parity_card.read_text()) | {"fusion": {"alpha": 0.7, "scales": [64]}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(card))
    used = []
    evaluate = module.evaluate_model

    def record(model, *more):
        for outcome in evaluate(model, *more):
            used.append(model.tuning.settings.values["alpha"])
            yield outcome

    monkeypatch.setattr(module, "evaluate_model", record)
    train(model=tmp_path / "own.yaml", tasks=[few])
    assert used == [0.2, 0.2]  # the recipe's
    made = yaml.safe_load((tmp_path / "out" / "model.yaml").read_text())
    assert "fusion" not in made
    assert "dtype" not in made  # `auto`, as the base model has it


def test_sources_of_one_kind_that_differ_leave_the_prompts_unsaid(train, tmp_path):
    train(settings={"epochs": 1, "data.1": {"task": "mini_sqa", "prompt_format": "QCM-A"}})
    settings = read_adapter(tmp_path / "out" / "adapter").settings
    assert "scienceqa" not in settings.prompts
    identity = json.loads((tmp_path / "out" / "training.json").read_text())
    assert list(identity["data"]) == ["0 mini_sqa train", "1 mini_sqa train"]


def test_another_evaluation_of_a_finished_training_is_made(train, trained, few):
    outcome = train(tasks=[few])
    assert [list(figures) for figures in outcome.evaluations] == [["step", "epoch", "few accuracy"]]
    assert outcome.loss is None


def test_a_training_that_diverged_ends_and_keeps_what_was_good_before(train, tmp_path, monkeypatch):
    from adem_bench.trainers import train as module
    from adem_bench.trainers.optimizer import AdapterOptimizer

    monkeypatch.setattr(module, "MAX_SKIPPED", 5)
    step, made = AdapterOptimizer.step, []

    class KeepsTheMethod(NullCallback):
        def begins(self, prepared, output, steps_done):
            self.method = prepared.network.method

    callback = KeepsTheMethod()

    def breaks_after_three(optimizer, rate, figures):
        made.append(rate)
        if len(made) > 3:
            for tensor in callback.method.adapter_tensors().values():
                tensor.grad = torch.full_like(tensor, torch.nan)
        return step(optimizer, rate, figures)

    monkeypatch.setattr(AdapterOptimizer, "step", breaks_after_three)
    with pytest.raises(DivergedError, match="5 steps in a row were skipped") as told:
        train(settings={"checkpoint_steps": 1, "keep_checkpoints": 1}, callback=callback)
    assert "step-00000003 is from before that; lower base_learning_rate" in str(told.value)
    # Steps 4 to 8 were skipped; only the epoch's end is kept too, for where training stood.
    names = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert names == ["step-00000003", "step-00000004"]
    good = read_adapter(tmp_path / "out" / "checkpoints" / "step-00000003")
    assert all(tensor.isfinite().all() for tensor in good.tensors.values())


def test_a_training_that_made_no_step_at_all_is_no_success(train, tmp_path, monkeypatch):
    from adem_bench.trainers.optimizer import AdapterOptimizer

    step = AdapterOptimizer.step
    monkeypatch.setattr(
        AdapterOptimizer, "step", lambda *given: replace(step(*given), skipped=True)
    )
    with pytest.raises(DivergedError, match="steps in a row were skipped"):
        train(settings={"epochs": 1})
    assert not (tmp_path / "out" / "model.yaml").exists()


def test_a_folder_of_another_training_is_refused_before_the_model_is_loaded(
    train, trained, monkeypatch
):
    from adem_bench.trainers import prepare as module

    def load(*given, **more):
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(module, "FrozenParts", load)
    with pytest.raises(ResultsError, match=r"epochs is 2 there, 3 here"):
        train(settings={"epochs": 3})
    with pytest.raises(AssertionError, match="the model is loaded"):
        train()


def test_a_folder_in_which_nothing_was_made_is_given_up(train, tmp_path, monkeypatch):
    from adem_bench.trainers import prepare as module

    def fail(*given, **more):
        raise CheckpointError("the weights are torn")

    with monkeypatch.context() as patch:
        patch.setattr(module, "FrozenParts", fail)
        with pytest.raises(CheckpointError, match="torn"):
            train()
    assert not (tmp_path / "out").exists()
    with pytest.raises(StopError):
        train(callback=StopsAt(5))
    with monkeypatch.context() as patch:
        patch.setattr(module, "FrozenParts", fail)
        with pytest.raises(CheckpointError, match="torn"):
            train()
    callback = StopsAt(5)
    with pytest.raises(StopError):
        train(callback=callback)
    assert callback.begun_after == 4


def test_a_warm_up_that_outlasts_the_training_is_told(train):
    callback = StopsAt(1)
    with pytest.raises(StopError):
        train(settings={"warmup_epochs": 2}, callback=callback)
    assert any("warmup_epochs 2 is not below epochs 2" in w for w in callback.warnings)


def test_malformed_rows_are_named_with_what_is_wrong(train, small_mini, tmp_path):
    shutil.copytree(small_mini, tmp_path / "data")
    file = next((tmp_path / "data").rglob("problems.json"))
    problems = json.loads(file.read_text())
    broken = next(name for name, row in problems.items() if row["split"] == "train")
    del problems[broken]["question"]
    file.write_text(json.dumps(problems))
    callback = StopsAt(1)
    with pytest.raises(StopError):
        train(data_root=tmp_path / "data", settings={"effective_batch": 2}, callback=callback)
    (warning,) = [w for w in callback.warnings if "malformed" in w]
    assert warning.startswith(f"1 malformed rows of the data are left out: {broken} (")


def test_a_folder_of_a_training_says_which_adapter_is_meant(train, undisturbed, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(StopError):
        train(callback=StopsAt(6))
    for place in (out, out / "checkpoints"):
        with pytest.raises(CheckpointError, match=r"did you mean .*/step-00000004\?"):
            read_adapter(place)
    with pytest.raises(CardError, match=r"is not finished; .* goes on after step 4"):
        load_model_card(str(out))
    shutil.rmtree(out)
    shutil.copytree(undisturbed, out)
    with pytest.raises(CheckpointError, match=r"did you mean .*out/adapter\?"):
        read_adapter(out)
