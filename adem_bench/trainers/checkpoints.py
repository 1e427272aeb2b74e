"""Training checkpoints: folders that appear whole or not at all; nothing in them is pickled.

`checkpoints/step-00000400/` is an adapter folder (`--adapter` takes it) that also holds
`optimizer.safetensors` and `state.json`. No random state is in it: see
`batch_sampler.derived_seed`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from adem_bench.errors import CheckpointError, ResultsError
from adem_bench.files import disk_error, open_bytes, read_json, write_atomically, write_json
from adem_bench.models.fused.method import AdapterSettings
from adem_bench.models.fused.weights.adapter import read_adapter, write_adapter
from adem_bench.models.weight_files import check_file
from adem_bench.records import Json
from adem_bench.results.run_folder import read_run_file
from adem_bench.results.run_schema import problems
from adem_bench.trainers.batch_sampler import Position

FOLDER, OPTIMIZER_NAME, STATE_NAME = "checkpoints", "optimizer.safetensors", "state.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened since training began."""

    skipped_steps: int = 0
    """Optimizer steps left out because a gradient was not finite."""
    nan_losses: int = 0
    """Micro-batches whose loss was not a number."""
    unreadable_images: int = 0
    """Samples left out in each epoch because their image could not be read."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """All that a training run goes on from."""

    position: Position
    adapter: Mapping[str, Tensor]
    """Float32, under the published names."""
    optimizer: Mapping[str, Tensor]
    """AdamW's moments and step counts."""
    scaler: Mapping[str, Json] = field(default_factory=dict)
    counts: Counts = Counts()
    evaluations: tuple[Mapping[str, Json], ...] = ()
    """Figures of the evaluations so far."""


Natural = Annotated[int, Field(ge=0, lt=2**63)]


class StateFile(BaseModel):
    """`state.json`, as it is read: with a value of another kind training would end much later."""

    model_config = ConfigDict(strict=True)

    position: dict[str, Natural]
    scaler: dict[str, FiniteFloat]
    counts: dict[str, Natural]
    evaluations: list[dict[str, FiniteFloat | None]]


class Checkpoints:
    """The checkpoints of one training output."""

    def __init__(self, output: Path, settings: AdapterSettings, keep: int) -> None:
        """Name the folder; nothing is written yet.

        Args:
            output: The training output; checkpoints go below `checkpoints/`.
            settings: What each checkpoint's adapter says of itself.
            keep: Number of the latest checkpoints that stay.
        """
        self._root = output / FOLDER
        self._settings = settings
        self._keep = keep

    def save(self, state: TrainingState, step: int, drop: bool = True) -> Path:
        """Write a checkpoint; return its folder.

        Args:
            state: What to keep.
            step: Optimizer steps done, which names the folder.
            drop: Whether the oldest ones are removed, so that as many stay as are to be kept.

        Raises:
            ResultsError: no space is left, or the folder cannot be written; the checkpoint
                before is intact.
        """
        target = self._root / f"step-{step:08d}"
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=self._root, prefix=".partial-"))
        except OSError as error:
            raise self._explained(target, error) from error
        try:
            self._write(partial, state)
            partial.replace(target)
            _sync_folder(self._root)
        except (OSError, ResultsError) as error:
            # Files are written one by one below another name; the user knows the checkpoint's.
            reason = error.__cause__ if isinstance(error.__cause__, OSError) else error
            raise self._explained(target, reason) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for old in self.folders()[: -self._keep] if drop else ():
            _remove(old)
        return target

    def _write(self, folder: Path, state: TrainingState) -> None:
        folder.chmod(0o755)
        write_adapter(folder, state.adapter, self._settings)
        optimizer = {name: tensor.detach().cpu() for name, tensor in state.optimizer.items()}
        write_atomically(folder / OPTIMIZER_NAME, save(optimizer))
        write_json(
            folder / STATE_NAME,
            {
                "schema": SCHEMA,
                "position": asdict(state.position),
                "scaler": dict(state.scaler),
                "counts": asdict(state.counts),
                "evaluations": [dict(evaluation) for evaluation in state.evaluations],
            },
        )

    def note(self, folder: Path, evaluations: Sequence[Mapping[str, Json]]) -> None:
        """Add the figures of evaluations to a checkpoint that is already there."""
        state = read_json(folder / STATE_NAME)
        state["evaluations"] = [dict(evaluation) for evaluation in evaluations]
        write_json(folder / STATE_NAME, state)

    def folders(self) -> list[Path]:
        """Return the whole checkpoints, oldest first."""
        return sorted(self._root.glob("step-*"))

    def folder_until(self, step: int) -> Path | None:
        """Return the last checkpoint made after at most so many steps; None without any."""
        early = [folder for folder in self.folders() if folder.name <= f"step-{step:08d}"]
        return early[-1] if early else None

    def latest(self) -> TrainingState | None:
        """Return the newest checkpoint's state, or None without any.

        Raises:
            CheckpointError: it cannot be read.
        """
        for leftover in self._root.glob(".partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        folders = self.folders()
        return _read(folders[-1]) if folders else None

    def _explained(self, target: Path, error: Exception) -> ResultsError:
        reason = disk_error(target, error) if isinstance(error, OSError) else error
        return ResultsError(f"{reason}; {self._intact()}")

    def _intact(self) -> str:
        folders = self.folders()
        if not folders:
            return "there is no earlier checkpoint"
        return f"the checkpoint {folders[-1].name} is intact, and training goes on from there"


def _read(folder: Path) -> TrainingState:
    try:
        data: dict[str, Any] = read_run_file(folder / STATE_NAME)
        schema = data["schema"] if "schema" in data else None  # noqa: SIM401 - it may be a list
        if schema != SCHEMA:
            raise ValueError(f"it has schema {schema}, this version reads {SCHEMA}")
        if wrong := next(problems(StateFile, data), None):
            raise ValueError(wrong)
        if any(figures.get("epoch") is None for figures in data["evaluations"]):
            raise ValueError("an evaluation lacks its epoch")
        return TrainingState(
            position=Position(**data["position"]),
            adapter=read_adapter(folder).tensors,
            optimizer=_optimizer(folder / OPTIMIZER_NAME),
            scaler=data["scaler"],
            counts=Counts(**data["counts"]),
            evaluations=tuple(data["evaluations"]),
        )
    except (
        *(CheckpointError, ResultsError, SafetensorError),
        *(OSError, ValueError, LookupError, TypeError),
    ) as error:
        raise unreadable(folder, error) from error


def unreadable(folder: Path, error: Exception) -> CheckpointError:
    """Return the error of a checkpoint from which no training can go on."""
    return CheckpointError(
        f"the checkpoint {folder} cannot be read ({error}); remove it to go on from the one "
        "before, or start from scratch with --overwrite"
    )


def _optimizer(path: Path) -> dict[str, Tensor]:
    """Return tensors that are read to their end: the file may be removed while they are in use."""
    try:
        check_file(path)
    except CheckpointError as error:
        raise ValueError(f"{path.name} is not a whole file of tensors") from error
    with open_bytes(path) as stream:
        return load(stream.read())


def _remove(folder: Path) -> None:
    """Remove a checkpoint; under another name first, so that no kill leaves half of one.

    What cannot be removed (a file held open on a network disk) is tried again by `latest`.
    """
    doomed = folder.with_name(f".partial-{folder.name}")
    with contextlib.suppress(OSError):
        folder.replace(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
