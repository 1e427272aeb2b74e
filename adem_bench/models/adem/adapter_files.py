"""Adapters on disk: the published `.pth` and our safetensors with its JSON settings.

Both hold the published tensor names (`AdemNetwork.adapter_tensors`); no pickled code is run.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from adem_bench.errors import CheckpointError
from adem_bench.files import write_atomically, write_json
from adem_bench.records import Json
from adem_bench.schemas import FusionSettings

WEIGHTS_NAME, SETTINGS_NAME = "adapter.safetensors", "adapter.json"
PAPER = {"alpha": 0.1, "beta": 0.01, "drop_ratio": 0.1, "scales": (256, 64)}
"""What the paper uses, for whatever neither card nor checkpoint says."""


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """Everything needed to use an adapter; None where its file does not say."""

    alpha: float | None = None
    beta: float | None = None
    drop_ratio: float | None = None
    scales: tuple[int, ...] | None = None
    cls_token: bool | None = None
    hidden_proj: int | None = None
    adapter_dim: int | None = None
    language_model: str | None = None
    """Name of the base model it was tuned on."""
    vision: str | None = None
    prompts: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    """Task kind to the `prompt_settings` that training prompts had (Q1, Q2)."""


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter read from disk."""

    path: Path
    tensors: dict[str, Tensor]
    settings: AdapterSettings
    """As the file states them, shapes included."""


def read_adapter(path: Path) -> AdapterFile:
    """Read an adapter: a folder of ours, or a published `.pth`.

    Raises:
        CheckpointError: missing, of no known format, or holding anything but plain data.
    """
    if path.is_dir():
        tensors, settings = _read_folder(path)
    elif path.suffix == ".safetensors":
        tensors, settings = _read_folder(path.parent)
    elif path.is_file():
        tensors, settings = _read_pth(path)
    else:
        raise CheckpointError(f"adapter {path} does not exist")
    return AdapterFile(path, tensors, _with_shapes(path, tensors, settings))


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> None:
    """Write an adapter folder; the settings come last, so a torn write has no settings file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(folder / WEIGHTS_NAME, save(plain, metadata={"format": "pt"}))
    write_json(folder / SETTINGS_NAME, {"schema": 1} | asdict(settings))


def resolve_settings(card: FusionSettings, adapter: AdapterSettings) -> AdapterSettings:
    """Return the settings to use: the card's, else the checkpoint's, else the paper's (Q28).

    Raises:
        CheckpointError: the scales do not add up to the adapter's slots.
    """
    chosen: dict[str, Any] = {}
    for name, paper in PAPER.items():
        candidates = (getattr(card, name), getattr(adapter, name), paper)
        chosen[name] = next(value for value in candidates if value is not None)
    if card.cls_token is not None:
        chosen["cls_token"] = card.cls_token
    return replace(adapter, **chosen)


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], AdapterSettings]:
    weights, settings_file = folder / WEIGHTS_NAME, folder / SETTINGS_NAME
    for file in (weights, settings_file):
        if not file.is_file():
            raise CheckpointError(
                f"adapter folder {folder} has no {file.name}; expected {WEIGHTS_NAME} and "
                f"{SETTINGS_NAME}"
            )
    try:
        data = json.loads(settings_file.read_text(encoding="utf-8"))
        data.pop("schema", None)
        if data.get("scales") is not None:
            data["scales"] = tuple(data["scales"])
        return load_file(weights), AdapterSettings(**data)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{settings_file}: {error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{weights} is not a safetensors file: {error}") from error


def _read_pth(path: Path) -> tuple[dict[str, Tensor], AdapterSettings]:
    data = load_plain_data(path)
    model = data.get("model", data) if isinstance(data, dict) else None
    if not isinstance(model, dict) or not model:
        raise CheckpointError(f"{path}: expected a dict of tensors under 'model'")
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: {name} is no tensor but {type(tensor).__name__}")
        tensors[str(name).removeprefix("module.")] = tensor
    arguments = data.get("args")
    found = vars(arguments) if isinstance(arguments, argparse.Namespace) else {}
    return tensors, _settings_from_arguments(found)


def load_plain_data(path: Path, mmap: bool = False) -> Any:
    """Read a torch file of tensors and plain data onto the CPU, refusing anything else.

    `argparse.Namespace` is let in: published checkpoints hold their arguments in one, and it
    only stores attributes.

    Raises:
        CheckpointError: not a torch file, or one that would run code to load.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was not loaded: it is no torch file, or it holds pickled objects other than "
            "tensors and plain data, which may run code"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a readable torch file: {error}") from error


def _settings_from_arguments(found: Mapping[str, Any]) -> AdapterSettings:
    """Return what the published trainer's arguments say (`train.py` of ADEM-VL)."""
    scales = found.get("down_sample_num")
    scales = (scales,) if isinstance(scales, int) else scales
    prompts: dict[str, Json] = {
        ours: found[theirs]
        for ours, theirs in (("prompt_format", "prompt_format"), ("captions", "use_caption"))
        if isinstance(found.get(theirs), str | bool)
    }
    return AdapterSettings(
        alpha=_number(found.get("alpha")),
        beta=_number(found.get("beta")),
        drop_ratio=_number(found.get("drop_ratio")),
        scales=tuple(int(scale) for scale in scales) if scales else None,
        language_model=_text(found.get("llm_model")),
        vision=_text(found.get("clip")),
        prompts={"scienceqa": prompts} if prompts else {},
    )


def _with_shapes(
    path: Path, tensors: Mapping[str, Tensor], settings: AdapterSettings
) -> AdapterSettings:
    """Fill in what tensor shapes say, which outranks any stated value (Q3)."""
    try:
        hidden_proj = tensors["adapter_proj.fc1.weight"].shape[0]
        slots = tensors["adapter_emb1"].shape[1]
        adapter_dim = next(
            tensor.shape[0] for name, tensor in tensors.items() if "adapter_mlp.fc1" in name
        )
    except (KeyError, StopIteration, IndexError) as error:
        raise CheckpointError(
            f"{path} is no ADEM-VL adapter: it needs adapter_emb1, adapter_proj.fc1.weight and "
            f"….adapter_mlp.fc1.weight, and has {', '.join(list(tensors)[:4]) or 'nothing'}, …"
        ) from error
    if settings.scales is not None and sum(settings.scales) != slots:
        raise CheckpointError(
            f"{path}: scales {list(settings.scales)} make {sum(settings.scales)} memory slots, "
            f"but its adapter_emb1 has {slots}"
        )
    return replace(
        settings,
        hidden_proj=hidden_proj,
        adapter_dim=adapter_dim,
        cls_token="adapter_proj_cls.fc1.weight" in tensors,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
