"""Today's language models through the commands: trained, interrupted, shared, run and shown."""

from __future__ import annotations

import json

import pytest
import torch
import torch.distributed as dist
import yaml
from safetensors.torch import load_file

import adem_bench
from adem_bench.cli import main
from adem_bench.errors import ResultsError
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.network import build_network, collate
from adem_bench.models.fused.sequence import TrainingRow
from adem_bench.models.fused.weights.clip import load_visual
from adem_bench.registry import METHODS
from adem_bench.trainers.distributed import shard_language_model
from adem_bench.trainers.train import NullCallback
from adem_bench.trainers.training_log import read_log
from support.bases import BASES, tiny_base
from support.fused import WEIGHTS
from support.processes import several

SETTINGS = {
    "adem": {"scales": [9, 4]},
    "memvp": {"kind": "memvp", "slots": 20},
    "lavin": {"kind": "lavin", "read_every": 2},
    "llava": {"kind": "llava"},
}


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe of six optimizer steps by a method."""

    def write(method):
        fields = {
            "data": [
                {"task": "mini_sqa", "limit": 12},
                {"task": "mini_instruction", "split": "all", "limit": 12},
            ],
            "method": SETTINGS[method],
            "epochs": 1, "effective_batch": 4, "batch_size": 2, "workers": 0,
            "checkpoint_steps": 2, "base_learning_rate": 0.3,
        }  # fmt: skip
        path = tmp_path / f"{method}.yaml"
        path.write_text(yaml.safe_dump(fields))
        return path

    return write


class StopError(Exception):
    pass


class StopsAt(NullCallback):
    """Ends a training at a step, as a kill would."""

    def __init__(self, last):
        self.last = last

    def step(self, report):
        if report.step == self.last:
            raise StopError


def call(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert not stop.value.code


def losses(folder):
    return [line["loss"] for line in read_log(folder / "log.jsonl")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "tower", "method"),
    [
        ("llama-1", "siglip", "adem"),
        ("llama-2", "openai", "memvp"),
        ("llama-3", "laion", "lavin"),
        ("mistral", "siglip", "memvp"),
        ("qwen2", "laion", "adem"),
        ("qwen2.5", "openai", "llava"),
        ("qwen3", "siglip", "lavin"),
        ("qwen3-tied", "laion", "llava"),
    ],
)
def test_an_interrupted_training_ends_on_the_same_bits_and_its_model_is_run_and_shown(
    recipe, pool_card, small_mini, mini, tmp_path, monkeypatch, base, tower, method
):
    monkeypatch.chdir(tmp_path)
    given = {"model": pool_card(base, tower), "data_root": small_mini, "loggers": ()}
    whole = adem_bench.train(recipe(method), output=tmp_path / "whole", **given)
    with pytest.raises(StopError):
        adem_bench.train(recipe(method), output=tmp_path / "stopped", callback=StopsAt(3), **given)
    outcome = adem_bench.train(recipe(method), output=tmp_path / "stopped", **given)
    assert (whole.steps, outcome.steps, outcome.resumed_from) == (6, 6, 2)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    weights = "adapter/adapter.safetensors"
    assert (tmp_path / "stopped" / weights).read_bytes() == (
        tmp_path / "whole" / weights
    ).read_bytes()

    options = adem_bench.RunOptions(limit=4)
    (ran,) = adem_bench.evaluate(whole.output, ["mini_mme"], data_root=mini, options=options)
    assert ran.result.scored == 4
    manifest = json.loads((ran.folder / "manifest.json").read_text())
    assert (manifest["model"]["method"], manifest["model"]["adapter"]) == (method, "adapter")
    call("report", str(ran.folder), "--output", "page.html")
    assert "whole" in (tmp_path / "page.html").read_text()  # as the output is called
    call("leaderboard", "--output", "board.csv")
    assert "whole" in (tmp_path / "board.csv").read_text()


def test_a_training_is_not_gone_on_with_other_tokens_around_its_prompts(
    recipe, pool_card, small_mini, tmp_path
):
    path = tmp_path / "base.yaml"
    path.write_text(pool_card("qwen2.5", "openai").read_text())
    given = {"model": path, "data_root": small_mini, "output": tmp_path / "out", "loggers": ()}
    with pytest.raises(StopError):
        adem_bench.train(recipe("llava"), callback=StopsAt(1), **given)
    card = yaml.safe_load(path.read_text())
    card["language_model"]["chat_template"] = True
    path.write_text(yaml.safe_dump(card))
    with pytest.raises(ResultsError, match=r"chat_template is not set there, true here"):
        adem_bench.train(recipe("llava"), **given)


@pytest.mark.slow
@pytest.mark.parametrize(("base", "method"), [("qwen2.5", "adem"), ("llama-3", "llava")])
def test_two_processes_that_share_a_base_are_one(
    recipe, pool_card, small_mini, tmp_path, base, method
):
    one, two = tmp_path / "one", tmp_path / "two"
    card = pool_card(base, "openai")
    adem_bench.train(
        recipe(method), model=card, data_root=small_mini, output=one, loggers=(),
        settings={"tokens_at_once": 0},
    )  # fmt: skip
    options = {"--recipe": recipe(method), "--model": card, "--data-root": small_mini}
    options |= {"--output": two, "--log-to": "none", "--set": "shard_frozen_weights=true"}
    arguments = [part for pair in options.items() for part in pair]
    for process in several(2, ["-m", "adem_bench", "train", *arguments], tmp_path / "of-two"):
        done = process.wait()
        assert done.returncode == 0, done.stderr[-2000:]
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    alone, together = (load_file(p / "adapter" / "adapter.safetensors") for p in (one, two))
    assert alone.keys() == together.keys()
    for key, tensor in alone.items():
        torch.testing.assert_close(together[key], tensor, atol=1e-4, rtol=0)


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("base", BASES)
def test_a_sharded_base_has_the_loss_and_the_gradients_of_a_whole_one(base):
    def network():
        visual = load_visual(VisionSource(), WEIGHTS / "clip_tiny.pt", torch.float32)
        method = METHODS.load("memvp")
        torch.manual_seed(1)
        return build_network(tiny_base(base), visual, method, method.settings()).eval()

    whole, sharded = network(), network()
    shard_language_model(sharded, torch.device("cpu"))
    ids = torch.randint(3, 600, (2, 12), generator=torch.Generator().manual_seed(2)).tolist()
    image = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(3))
    batch = collate([TrainingRow(row, 8) for row in ids], [image], [1, 0])
    losses = [one.loss(batch, 1) for one in (whole, sharded)]
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-6)
    for loss in losses:
        loss.backward()
    tensors = sharded.method.adapter_tensors()
    for name, tensor in whole.method.adapter_tensors().items():
        if tensor.grad is not None:
            torch.testing.assert_close(tensors[name].grad, tensor.grad, atol=1e-6, rtol=0)
