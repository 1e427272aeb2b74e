"""Weights & Biases, through its own package; its environment variables hold (`WANDB_MODE`, …)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

from adem_bench.loggers.base import Ledger, LoggedRun

NAME, PROJECT = "wandb", "adem-bench"


class WeightsAndBiases:
    """Scalars as one W&B run, over `step`, an axis of its own: W&B's only ever moves forward."""

    def __init__(self, run: LoggedRun) -> None:
        """Begin a run, or go on with the one that the folder knows."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        ledger = Ledger(run.folder)
        known = ledger.run_id(NAME)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            dir=os.environ.get("WANDB_DIR") or str(run.folder),
            id=known or secrets.token_hex(8),
            resume="allow",
            name=run.name,
            config=dict(run.facts),
            allow_val_change=True,
            reinit="create_new",  # a caller's own run is left alone
            # Left to itself, it sends the console, the command line and the working folder.
            settings=wandb.Settings(
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
            ),
        )
        ledger.keep_id(NAME, self._run.id)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        self._logged = run.logged if known else {}

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a row with what was not logged before."""
        new = {name: value for name, value in scalars.items() if step > self._logged.get(name, -1)}
        if new:
            self._run.log({"step": step, **new})

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()
