from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

FAKES = Path(__file__).parent / "fakes"


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("wandb", "mlflow"):
            monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch):
    """The written contracts in place of both packages; a fresh, empty service each."""
    _forget(monkeypatch)
    monkeypatch.syspath_prepend(FAKES)
    for variable in ("WANDB_PROJECT", "WANDB_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    found = {name: importlib.import_module(name) for name in ("wandb", "mlflow")}
    yield SimpleNamespace(**found)
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("wandb", "mlflow"):
            sys.modules.pop(name)
