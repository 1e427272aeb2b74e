"""MLflow, through its own package: a store or a server, as `MLFLOW_TRACKING_URI` says."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from adem_bench.loggers.base import Ledger, LoggedRun
from adem_bench.records import Json

NAME, EXPERIMENT = "mlflow", "adem-bench"
PARAMS_AT_ONCE, MAX_VALUE_LENGTH, MAX_NAME_LENGTH = 100, 500, 250
"""Limits of its interface."""
UNNAMEABLE = re.compile(r"[^\w\-. /]")


class MLflow:
    """Scalars as one run's metrics, facts as its parameters."""

    def __init__(self, run: LoggedRun) -> None:
        """Begin a run, or go on with the one that the folder knows, if the store has it."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        self._client: Any = MlflowClient()
        ledger = Ledger(run.folder)
        known = self._found(ledger.run_id(NAME))
        self._id = known or self._begun(run)
        ledger.keep_id(NAME, self._id)
        if known:
            self._client.update_run(known, status="RUNNING")
        self._logged = run.logged if known else {}

    def _found(self, run_id: str | None) -> str | None:
        """Return the id if the store has such a run, None if it is another store."""
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return None
        try:
            is_there = self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run_id if is_there else None

    def _begun(self, run: LoggedRun) -> str:
        from mlflow.entities import Param

        began = self._client.create_run(self._experiment(), run_name=run.name)
        params = [
            Param(_key(name), str(value)[:MAX_VALUE_LENGTH]) for name, value in _flat(run.facts, "")
        ]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            part = params[start : start + PARAMS_AT_ONCE]
            self._client.log_batch(began.info.run_id, params=part)
        return str(began.info.run_id)

    def _experiment(self) -> str:
        given = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if given:
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add what was not logged before."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = [
            Metric(_key(name), value, now, step)
            for name, value in scalars.items()
            if step > self._logged.get(name, -1)
        ]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)


def _key(name: str) -> str:
    """Return a name of letters, digits and the few signs that MLflow takes."""
    return UNNAMEABLE.sub("_", name)[:MAX_NAME_LENGTH]


def _flat(facts: Mapping[str, Json], prefix: str) -> Iterator[tuple[str, Json]]:
    """Yield dotted names and values of nested facts."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
