"""The real packages, offline, where they are installed: what the written contracts stand for."""

from __future__ import annotations

import inspect
import os

import pytest

from adem_bench.loggers.base import Ledger, LoggedRun
from adem_bench.loggers.multi import Loggers


def refuse(message: str) -> None:
    raise AssertionError(message)


def log_twice(name: str, folder) -> None:
    facts = {"recipe": {"epochs": 2, "scales": [64, 16]}}
    first = LoggedRun(folder, "mine", facts)
    again = LoggedRun(folder, "mine", facts, steps_done=2, logged={"loss": 3})
    for run, steps in ((first, (1, 2, 3)), (again, (3, 4))):
        loggers = Loggers([name], run, refuse)
        for step in steps:
            loggers.log(step, {"loss": 1.0 / step, "existence.acc+": float("nan")})
        loggers.close()


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", exc_type=ImportError)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    log_twice("wandb", tmp_path)
    files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    known = Ledger(tmp_path).run_id("wandb")
    assert [file.stem for file in files] == [f"run-{known}"] * 2
    assert os.fsencode(tmp_path) not in b"".join(file.read_bytes() for file in files)
    taken = inspect.signature(wandb.init).parameters
    used = {"project", "dir", "id", "resume", "name", "config", "allow_val_change", "reinit"}
    assert used | {"settings"} <= set(taken)


def test_mlflow_in_a_file_of_sqlite(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", exc_type=ImportError)
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    log_twice("mlflow", tmp_path)
    client, run_id = mlflow.MlflowClient(), Ledger(tmp_path).run_id("mlflow")
    found = client.get_run(run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "mine")
    assert found.data.params["recipe.scales"] == "[64, 16]"
    steps = [metric.step for metric in client.get_metric_history(run_id, "loss")]
    assert sorted(steps) == [1, 2, 3, 4]
