"""Adapters on disk: the published `.pth` and our safetensors with its JSON settings.

Both hold the published tensor names (`AdemNetwork.adapter_tensors`); no pickled code is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from adem_bench.errors import CheckpointError
from adem_bench.files import write_atomically, write_json
from adem_bench.models.fused.weights.published import plain_copy, read_published
from adem_bench.records import Json
from adem_bench.schemas import FusionSettings

WEIGHTS_NAME, SETTINGS_NAME = "adapter.safetensors", "adapter.json"
PAPER = {"alpha": 0.1, "beta": 0.01, "drop_ratio": 0.1, "scales": (256, 64)}
"""What the paper uses, for whatever neither card nor checkpoint says."""
ARGUMENTS = {
    "alpha": "alpha",
    "beta": "beta",
    "drop_ratio": "drop_ratio",
    "scales": "down_sample_num",
    "hidden_proj": "hidden_proj",
    "adapter_dim": "adapter_dim",
    "language_model": "llm_model",
    "vision": "clip",
}
"""Our settings and the published trainer's arguments (`train.py` of ADEM-VL) of the same meaning.

`no_cls`, the opposite of `cls_token`, is the one that this table cannot hold.
"""
PROMPTED = "scienceqa"
"""The one task kind whose prompt settings the published trainer has arguments for."""
PROMPT_ARGUMENTS = {"prompt_format": "prompt_format", "captions": "use_caption"}


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """Everything needed to use an adapter; None where its file does not say."""

    FIRST_FIELDS: ClassVar = frozenset(
        {
            "alpha", "beta", "drop_ratio", "scales", "cls_token", "hidden_proj", "adapter_dim",
            "language_model", "vision", "prompts", "language_model_signature",
        }
    )  # fmt: skip
    """Always in a model's fingerprint; a later field only off its default (`digests.py`)."""

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
    language_model_signature: tuple[float, ...] | None = None
    """A few numbers of the language model it was tuned on, so that another one is noticed."""


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter read from disk."""

    path: Path
    tensors: dict[str, Tensor]
    settings: AdapterSettings
    """As the file states them, shapes included."""
    beside: tuple[str, ...] = ()
    """What else a published file holds, which no adapter needs (`optimizer`, …)."""


def read_adapter(path: Path) -> AdapterFile:
    """Read an adapter: a folder of ours, or a published `.pth`.

    Raises:
        CheckpointError: missing, of no known format, or holding anything but plain data.
    """
    if not path.exists():
        raise CheckpointError(f"adapter {path} does not exist")
    folder = adapter_folder(path)
    if folder is not None:
        tensors, settings = _read_folder(folder)
        return AdapterFile(path, tensors, _with_shapes(path, tensors, settings))
    published = read_published(path)
    settings = _with_shapes(path, published.tensors, _settings_from_arguments(published.arguments))
    known = {*ARGUMENTS.values(), *PROMPT_ARGUMENTS.values(), "no_cls"}
    others = ("other arguments of the trainer",) if published.arguments.keys() - known else ()
    return AdapterFile(path, published.tensors, settings, published.beside + others)


def adapter_folder(path: Path) -> Path | None:
    """Return the folder of ours that a path means, itself or by its weights; else None."""
    if path.is_dir():
        return path
    return path.parent if path.suffix == ".safetensors" else None


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> None:
    """Write an adapter folder; the settings come last, so a torn write has no settings file."""
    plain = {name: plain_copy(tensor) for name, tensor in tensors.items()}
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


def published_arguments(settings: AdapterSettings) -> dict[str, Any]:
    """Return settings as the published trainer's arguments; those without a place are left out."""
    stated = asdict(settings)
    if settings.scales is not None:
        stated["scales"] = list(settings.scales)
    found = {theirs: stated[ours] for ours, theirs in ARGUMENTS.items() if stated[ours] is not None}
    if settings.cls_token is not None:
        found["no_cls"] = not settings.cls_token
    prompts = settings.prompts.get(PROMPTED, {})
    return found | {
        theirs: prompts[ours] for ours, theirs in PROMPT_ARGUMENTS.items() if ours in prompts
    }


def _settings_from_arguments(found: Mapping[str, Any]) -> AdapterSettings:
    """Return what arguments say; shapes of tensors are not asked here (`_with_shapes`)."""
    ours = {name: found.get(argument) for name, argument in ARGUMENTS.items()}
    prompts: dict[str, Json] = {
        name: found[argument]
        for name, argument in PROMPT_ARGUMENTS.items()
        if isinstance(found.get(argument), str | bool)
    }
    return AdapterSettings(
        alpha=_number(ours["alpha"]),
        beta=_number(ours["beta"]),
        drop_ratio=_number(ours["drop_ratio"]),
        scales=_scales(ours["scales"]),
        language_model=_text(ours["language_model"]),
        vision=_text(ours["vision"]),
        prompts={PROMPTED: prompts} if prompts else {},
    )


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], AdapterSettings]:
    weights, settings_file = folder / WEIGHTS_NAME, folder / SETTINGS_NAME
    for file in (weights, settings_file):
        if not file.is_file():
            raise CheckpointError(
                f"adapter folder {folder} has no {file.name}; expected {WEIGHTS_NAME} and "
                f"{SETTINGS_NAME}{_hint(folder)}"
            )
    try:
        data = json.loads(settings_file.read_text(encoding="utf-8"))
        data.pop("schema", None)
        for name, read in JSON_READERS.items():
            if data.get(name) is not None:
                data[name] = read(data[name])
        return load_file(weights), AdapterSettings(**data)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{settings_file}: {error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{weights} is not a safetensors file: {error}") from error


def _hint(folder: Path) -> str:
    """Return which adapter further down was meant: a training's final one, or its latest."""
    found = [*folder.glob(f"*/{WEIGHTS_NAME}"), *folder.glob(f"checkpoints/*/{WEIGHTS_NAME}")]
    places = sorted(file.parent for file in found)
    final = [place for place in places if place.name == "adapter"]
    return f"; did you mean {(final or places)[-1]}?" if places else ""


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


def _scales(value: object) -> tuple[int, ...] | None:
    """Return patch counts; the published trainer stores a single one as a number.

    Source: docs/method.md, section 7.5.
    """
    counts = [value] if isinstance(value, int) else value
    if not isinstance(counts, list | tuple) or not all(isinstance(n, int) for n in counts):
        return None
    return tuple(counts) or None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _mappings(value: Mapping[str, Mapping[str, Json]]) -> dict[str, dict[str, Json]]:
    return {kind: dict(prompts.items()) for kind, prompts in value.items()}


JSON_READERS: dict[str, Callable[[Any], Any]] = {
    "alpha": float,
    "beta": float,
    "drop_ratio": float,
    "scales": lambda scales: tuple(int(scale) for scale in scales),
    "prompts": _mappings,
    "language_model_signature": lambda norms: tuple(float(norm) for norm in norms),
}
"""How to read the values of `adapter.json` that JSON has no type for, or that people edit."""
