"""The folder that training makes: claimed by one recipe, usable as a model (`--model FOLDER`).

model.yaml       a model card that names the frozen parts and `adapter/`
adapter/         the final adapter
best/            the adapter of the best evaluation, if `--eval` asked for any
results/         runs of the evaluations between epochs
checkpoints/     what an interrupted training goes on from
log.jsonl, run.log, loss.png, manifest.json
tensorboard/, wandb/, loggers.json   what `--log-to` leaves
training.json    what the folder belongs to: recipe, model and data
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import yaml

import adem_bench
from adem_bench.cards import MODEL_CARD_NAME, as_mapping
from adem_bench.errors import ResultsError
from adem_bench.files import (
    TEMPORARY,
    disk_error,
    read_json,
    remove_temporaries,
    write_atomically,
    write_json,
)
from adem_bench.launcher import process_rank
from adem_bench.misnamed import TRAINING_NAME
from adem_bench.models.device import name_of
from adem_bench.models.fused.card import FusedCard
from adem_bench.models.quantization import stated_quantization
from adem_bench.records import Json
from adem_bench.results.run_log import LOG
from adem_bench.runner.manifest import hardware, now, peak_memory, versions
from adem_bench.schemas import RecipeCard
from adem_bench.trainers.optimizer import peak_learning_rate
from adem_bench.trainers.prepare import Prepared

TRAINED = Path("results") / "train"
"""Where outputs are that no one names."""
LOCK_NAME, ADAPTER, BEST, CHECKPOINTS = ".lock", "adapter", "best", "checkpoints"
WRITTEN = {
    ADAPTER, BEST, CHECKPOINTS, TRAINING_NAME, MODEL_CARD_NAME, "results", "tensorboard", "wandb",
    "loggers.json", "log.jsonl", LOG, "loss.png", "manifest.json",
}  # fmt: skip
"""All that training writes into its output; nothing else is ever removed."""
RUNTIME_FIELDS = {
    "name", "title", "model", "batch_size", "attention", "checkpoint_activations",
    "shard_frozen_weights", "max_unreadable_images", "checkpoint_steps", "keep_checkpoints",
    "tokens_at_once", "workers",
}  # fmt: skip
"""Fields of a recipe that may change between a run and its continuation."""

COMMAND = "command"
"""Key of `training.json`: how the training was begun, for whoever is to go on with it."""
MOST_SHOWN = 5
"""Differences from another training that are named."""
ABSENT = object()
"""In place of a value that only one of two trainings has."""


def name_of_output(output: Path) -> str:
    """Return what a model is called by its output: the path as given, or its end.

    Folders above the current one are private to a machine, and training's own folder says nothing.
    """
    path = Path(os.path.normpath(output))
    if path.is_absolute() or path.parts[:1] in ((), ("..",)):
        here, whole = Path.cwd(), path.absolute()
        inside = whole.is_relative_to(here) and whole != here
        path = whole.relative_to(here) if inside else Path(whole.resolve().name)
    if path.is_relative_to(TRAINED):
        path = path.relative_to(TRAINED)
    return path.as_posix()


class OutputFolder:
    """An output folder, held by one training at a time."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is touched before `claim`."""
        self.path = path
        self._lock = filelock.FileLock(path / LOCK_NAME)
        self._is_new = False

    def claim(self, identity: Mapping[str, Json], overwrite: bool) -> None:
        """Make the folder, or take up the one that the same training left.

        Args:
            identity: From `training_identity`.
            overwrite: Whether to start from scratch, removing what a training left here.

        Raises:
            ResultsError: it belongs to another training, holds something else, is in use, or
                cannot be written.
        """
        if self._holds_something_else():
            left = sorted(entry.name for entry in self._entries())
            raise ResultsError(
                f"{self.path} is not a training output: it holds {', '.join(left[:3])}; name "
                "another --output"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise ResultsError(f"another training is writing to {self.path}") from error
        except OSError as error:
            raise disk_error(self.path / LOCK_NAME, error) from error
        reason = self._foreign(identity)
        if reason and not overwrite:
            raise ResultsError(f"{reason}; name another --output, or remove it with --overwrite")
        if overwrite:
            self._clear()
        self._remove_temporaries()
        self._is_new = not self._entries()
        write_json(self.path / TRAINING_NAME, {**identity, **_command()})

    def _remove_temporaries(self) -> None:
        """Remove what a killed training has left of files that it was writing."""
        for entry in self.path.iterdir():
            named = TEMPORARY.fullmatch(entry.name)
            if named and named["of"] in WRITTEN:
                entry.unlink()
        for folder in (ADAPTER, BEST, CHECKPOINTS):
            remove_temporaries(self.path / folder)

    def _foreign(self, identity: Mapping[str, Json]) -> str:
        """Return why what is here is not this training's own; empty if it is, or nothing is."""
        path = self.path / TRAINING_NAME
        if not path.is_file():
            return ""
        try:
            found = read_json(path)
        except (OSError, ValueError) as error:
            return f"{path} cannot be read ({error})"
        if isinstance(found, dict):
            found.pop(COMMAND, None)
        changes = list(_changes(found, json.loads(json.dumps(identity))))
        more = [f"and {len(changes) - MOST_SHOWN} more"] if len(changes) > MOST_SHOWN else []
        said = "; ".join([*changes[:MOST_SHOWN], *more])
        return f"{self.path} was made by another training: {said}" * bool(changes)

    def _entries(self) -> list[Path]:
        """What is here, hidden files (the lock, what a kill left half written) aside."""
        if not self.path.is_dir():
            return []
        return [entry for entry in self.path.iterdir() if not entry.name.startswith(".")]

    def _holds_something_else(self) -> bool:
        return bool(self._entries()) and not (self.path / TRAINING_NAME).is_file()

    def _clear(self) -> None:
        """Remove what training wrote.

        Raises:
            ResultsError: something else lies here too; nothing is removed then.
        """
        others = sorted(entry.name for entry in self._entries() if entry.name not in WRITTEN)
        if others:
            raise ResultsError(
                f"{self.path} also holds {', '.join(others[:3])}, which training did not write; "
                "move that away, or name another --output"
            )
        for entry in self._entries():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def is_new(self, overwrite: bool) -> bool:
        """Return whether a training begins here, rather than going on.

        Args:
            overwrite: Whether what a training left is removed.
        """
        return overwrite or not (self.path / TRAINING_NAME).is_file()

    def write_model_card(
        self, base: FusedCard, name: str, files: Mapping[str, str], parameters: int
    ) -> None:
        """Write a card of the base model with this folder's adapter.

        Args:
            base: Card of the model whose frozen parts were used, its method the trained one.
            name: Of the new model, for tables.
            files: From `FrozenParts.files`.
            parameters: Number of tuned parameters.
        """
        dropped = {"published", "prompts", "adapter"}
        card = base.model_dump(mode="json", exclude=dropped, exclude_defaults=True)
        if not card.get("fusion"):  # read with the method's own fields, and none of them set
            card.pop("fusion", None)
        card |= {
            "name": name,
            "title": f"{base.title or base.name}; adapter trained as {name}",
            "trainable_parameters": parameters,
            "adapters": {"default": {"path": ADAPTER}},
        }
        for field, place in files.items():
            part, _, key = field.partition(".")
            card.setdefault(part, {})[key] = place
        text = "# Made by `adem-bench train`.\n" + yaml.safe_dump(card, sort_keys=False)
        write_atomically(self.path / MODEL_CARD_NAME, text)

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._is_new:
            self._give_up()
        self._lock.release()

    def _give_up(self) -> None:
        """Remove a folder in which an error left nothing made, so that any training may have it."""
        if {entry.name for entry in self._entries()} <= {TRAINING_NAME, LOG}:
            with contextlib.suppress(OSError):
                (self.path / LOG).unlink(missing_ok=True)
                (self.path / TRAINING_NAME).unlink()
                (self.path / LOCK_NAME).unlink()
                self.path.rmdir()


def _command() -> dict[str, str]:
    """Return the command line that trains here, if it is one, as a shell takes it."""
    if "train" not in sys.argv[1:]:
        return {}
    processes = process_rank().local_world_size
    torchrun = ["torchrun", f"--nproc-per-node={processes}", "-m", "adem_bench"]
    program = torchrun if processes > 1 else ["adem-bench"]
    return {COMMAND: shlex.join([*program, *sys.argv[1:]])}


def training_identity(
    recipe: RecipeCard, model: Mapping[str, Json], data: Mapping[str, str]
) -> dict[str, Json]:
    """Return what makes two trainings the same, so that one may continue the other.

    Args:
        recipe: With its overrides.
        model: Name and fingerprint (precision included) of the frozen parts, and what its card
            says of prompts and answers off the defaults.
        data: Fingerprint of each source.
    """
    # Buckets are filled batch by batch: there, its size decides the order.
    free = RUNTIME_FIELDS - ({"batch_size"} if recipe.bucket_by_length else set())
    fields = {name: value for name, value in recipe.stable_fields().items() if name not in free}
    return {"recipe": fields, "model": dict(model), "data": dict(data)}


def _changes(found: Any, expected: Any, where: str = "") -> Iterator[str]:
    """Yield one text for each place in which two JSON values differ."""
    if found == expected:
        return
    before, now = _parts(found), _parts(expected)
    if not before and not now:
        yield f"{_place(where)} is {_shown(found)} there, {_shown(expected)} here"
        return
    for key in dict.fromkeys([*before, *now]):
        inner = f"{where}.{key}" if where else key
        yield from _changes(before.get(key, ABSENT), now.get(key, ABSENT), inner)


def _parts(value: Any) -> Mapping[str, Any]:
    """Return the fields of an object or the places of a list; none of other values."""
    if isinstance(value, list):
        return {str(place): inner for place, inner in enumerate(value)}
    return value if isinstance(value, dict) else {}


def _place(where: str) -> str:
    """Return what a place is called: a recipe's fields as `--set` takes them."""
    part, _, rest = where.partition(".")
    if part == "data":
        return f"the data's fingerprint of {rest}"
    return rest if part == "recipe" else where


def _shown(value: Any) -> str:
    if value is ABSENT or value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


SCHEMA = 1


def training_manifest(
    prepared: Prepared, timing: Mapping[str, Json], counts: Mapping[str, Json], processes: int
) -> dict[str, Any]:
    """Return the manifest of a finished training.

    Args:
        prepared: What was trained, and on what.
        timing: Seconds of the last call, and the step that it went on from.
        counts: Skipped steps, losses that were not a number, unreadable images.
        processes: Number of processes.
    """
    facts = training_facts(prepared, processes)
    return {
        "schema": SCHEMA,
        "finished": now(),
        **facts,
        "model": facts["model"] | {"card": as_mapping(prepared.frozen.card)},
        "counts": dict(counts),
        "timing": dict(timing),
        "memory": peak_memory(),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],  # noqa: PTH119
    }


def training_facts(prepared: Prepared, processes: int) -> dict[str, Any]:
    """Return the part of the manifest that is known before the first step; arguments as there."""
    frozen, sampler, dataset = prepared.frozen, prepared.sampler, prepared.dataset
    tuned, total = prepared.parameters
    return {
        "adem_bench_version": adem_bench.__version__,
        "recipe": as_mapping(prepared.recipe),
        "recipe_digest": prepared.recipe.digest(),
        "model": {
            "name": frozen.card.name,
            "fingerprint": frozen.fingerprint,
            "dtype": str(frozen.dtype).removeprefix("torch."),
            **stated_quantization(frozen.card),
            "device": name_of(prepared.network.device),
        },
        "parameters": {"trainable": tuned, "total": total, "share": tuned / total},
        "data": {
            "fingerprints": dict(prepared.data),
            "samples": len(dataset),
            "with_image": dataset.with_image,
            "malformed": len(dataset.skipped.malformed),
            "unsupervised": len(dataset.skipped.unsupervised),
        },
        "prompts": {
            use.source: {
                "training": dict(use.training),
                "evaluation": None if use.evaluation is None else dict(use.evaluation),
            }
            for use in prepared.prompts
        },
        "steps": {
            "epochs": prepared.recipe.epochs,
            "per_epoch": sampler.steps,
            "total": sampler.total_steps,
            "accumulation": sampler.accumulation,
            "processes": processes,
            "peak_learning_rate": peak_learning_rate(prepared.recipe),
        },
        "hardware": hardware(),
        "versions": versions(),
    }
