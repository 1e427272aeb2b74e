from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
import torch

from adem_bench.errors import CheckpointError, ResultsError
from adem_bench.models.fused.method import AdapterSettings
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.trainers.batch_sampler import Position
from adem_bench.trainers.checkpoints import Checkpoints, Counts, TrainingState

SETTINGS = AdapterSettings(
    values={"alpha": 0.1, "beta": 0.01, "drop_ratio": 0.1, "scales": (4,), "cls_token": True}
)


def state(step: int) -> TrainingState:
    adapter = {
        "adapter_emb1": torch.full((1, 4, 5), float(step)),
        "adapter_proj.fc1.weight": torch.ones(3, 6),
        "adapter_proj_cls.fc1.weight": torch.ones(3, 6),
        "backbone.visual.transformer.resblocks.0.adapter_mlp.fc1.weight": torch.ones(2, 6),
    }
    moment = torch.ones(1, 4, 5)
    optimizer = {"adapter_emb1.exp_avg": moment, "adapter_emb1.step": torch.tensor(7.0)}
    return TrainingState(Position(1, step), adapter, optimizer, {"scale": 2.0}, Counts(1, 2, 3))


def test_a_checkpoint_comes_back_whole_and_is_an_adapter(tmp_path):
    checkpoints = Checkpoints(tmp_path, SETTINGS, keep=2)
    assert checkpoints.latest() is None
    folder = checkpoints.save(state(5), 5)
    found = checkpoints.latest()
    assert (found.position, found.counts, found.scaler) == (
        Position(1, 5), Counts(1, 2, 3), {"scale": 2.0},
    )  # fmt: skip
    assert torch.equal(found.adapter["adapter_emb1"], state(5).adapter["adapter_emb1"])
    assert torch.equal(found.optimizer["adapter_emb1.step"], torch.tensor(7.0))
    assert read_adapter(folder).settings.values["scales"] == (4,)


def test_the_last_ones_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, SETTINGS, keep=2)
    for step in (9, 10, 11):
        checkpoints.save(state(step), step)
    assert [folder.name for folder in checkpoints.folders()] == ["step-00000010", "step-00000011"]
    assert checkpoints.latest().position.step == 11


def test_evaluations_are_noted_in_a_checkpoint_that_is_there(tmp_path):
    checkpoints = Checkpoints(tmp_path, SETTINGS, keep=1)
    folder = checkpoints.save(state(1), 1)
    checkpoints.note(folder, [{"epoch": 1, "sqa average": 0.5}])
    assert checkpoints.latest().evaluations == ({"epoch": 1, "sqa average": 0.5},)
    assert checkpoints.latest().position == Position(1, 1)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, SETTINGS, keep=1)
    checkpoints.save(state(1), 1)

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    told = r"no space left to write \S+step-00000002;.*step-00000001 is intact"
    with pytest.raises(ResultsError, match=told):
        checkpoints.save(state(2), 2)
    monkeypatch.undo()
    assert [entry.name for entry in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert checkpoints.latest().position.step == 1


def test_what_a_kill_left_half_written_is_not_a_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, SETTINGS, keep=2)
    folder = checkpoints.save(state(1), 1)
    shutil.copytree(folder, folder.with_name(".partial-x"))
    (folder.with_name(".partial-x") / "state.json").unlink()
    assert checkpoints.latest().position.step == 1
    assert not folder.with_name(".partial-x").exists()


@pytest.mark.parametrize(
    "name", ["state.json", "optimizer.safetensors", "adapter.safetensors", "adapter.json"]
)
@pytest.mark.parametrize("damage", ["torn", "folder", "link", "gone"])
def test_a_broken_checkpoint_is_named_with_what_to_do(tmp_path, name, damage):
    checkpoints = Checkpoints(tmp_path, SETTINGS, keep=2)
    file = checkpoints.save(state(1), 1) / name
    whole = file.read_bytes()
    file.unlink()
    if damage == "torn":
        file.write_bytes(whole[:-30])
    elif damage == "folder":
        file.mkdir()
    elif damage == "link":
        file.symlink_to("nowhere")
    words = rf"step-00000001 cannot be read \(.*{name}.*; remove it to go on from the one before"
    with pytest.raises(CheckpointError, match=words):
        checkpoints.latest()


@pytest.mark.parametrize(
    "change",
    [{"position": {"epoch": 0.5, "step": 1}}, {"position": {"epoch": 0, "step": 10**400}},
     {"position": []}, {"scaler": "/dev/zero"}, {"counts": {"skipped_steps": -1}},
     {"counts": {"other": 1}}, {"evaluations": [7]}, {"evaluations": [{"step": 1}]},
     {"evaluations": [{"epoch": 1, "mini_mme acc": {}}]}, {"schema": None}],
)  # fmt: skip
def test_an_edited_checkpoint_is_a_broken_one(tmp_path, change):
    checkpoints = Checkpoints(tmp_path, SETTINGS, keep=2)
    file = checkpoints.save(state(1), 1) / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match="step-00000001"):
        checkpoints.latest()


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, SETTINGS, keep=2)
    folder = checkpoints.save(state(1), 1)
    data = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(data | {"schema": 99}))
    with pytest.raises(CheckpointError, match="schema 99, this version reads 1"):
        checkpoints.latest()
