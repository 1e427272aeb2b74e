"""What adem-bench calls of mlflow, with the package's own names and limits; stores are in memory.

`test_real.py` makes the same calls of the real package where that is installed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from types import SimpleNamespace

from mlflow.exceptions import MlflowException

KEY = re.compile(r"[\w\-. :/]+")


@dataclass
class Stored:
    name: str
    experiment: str
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int]] = field(default_factory=list)


STORES: dict[str, dict[str, Stored]] = {}
EXPERIMENTS: dict[str, str] = {}


class MlflowClient:
    def __init__(self) -> None:
        self.runs = STORES.setdefault(os.environ.get("MLFLOW_TRACKING_URI", ""), {})

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=EXPERIMENTS[name]) if name in EXPERIMENTS else None

    def create_experiment(self, name):
        EXPERIMENTS[name] = str(len(EXPERIMENTS) + 1)
        return EXPERIMENTS[name]

    def create_run(self, experiment_id, run_name=None):
        run_id = f"{len(STORES)}-{len(self.runs)}"
        self.runs[run_id] = Stored(run_name, experiment_id)
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def get_run(self, run_id):
        if run_id not in self.runs:
            raise MlflowException("not found", "RESOURCE_DOES_NOT_EXIST")
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id, lifecycle_stage="active"))

    def update_run(self, run_id, status=None):
        self.runs[run_id].status = status

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100
        for entry in (*metrics, *params):
            assert KEY.fullmatch(entry.key), entry.key
        run = self.runs[run_id]
        run.params |= {param.key: param.value for param in params}
        run.metrics += [(metric.key, metric.value, metric.step) for metric in metrics]

    def set_terminated(self, run_id):
        self.runs[run_id].status = "FINISHED"
