"""Adapters on disk: the published `.pth` and our safetensors with its JSON settings.

Both hold the published tensor names (`Method.adapter_tensors`); no pickled code is run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from adem_bench.digests import stable_names
from adem_bench.errors import MOST_SAID, CheckpointError
from adem_bench.files import MISSING, read_json, why_missing, write_atomically, write_json
from adem_bench.models.fused.card import FusionSettings
from adem_bench.models.fused.method import AdapterSettings, Method
from adem_bench.models.fused.weights.published import plain_copy, read_published
from adem_bench.models.weight_files import load_tensors
from adem_bench.records import Json
from adem_bench.registry import METHODS
from adem_bench.schemas import DEFAULT_METHOD, MethodSettings

WEIGHTS_NAME, SETTINGS_NAME = "adapter.safetensors", "adapter.json"
SCHEMA = 1
FORMATS = (
    f"an adapter is a folder with {WEIGHTS_NAME} and {SETTINGS_NAME}, as `adem-bench train` writes "
    "it, or a .pth of the published trainers, with a dict of tensors under 'model'"
)
LATER_FACTS = ("language_model_architecture", "vision_architecture", "vision_signature")
"""What adapters say of their base since they name the tower too."""


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter read from disk."""

    path: Path
    tensors: dict[str, Tensor]
    settings: AdapterSettings
    """As the file states them, shapes included."""
    also_holds: tuple[str, ...] = ()
    """What else a published file holds, which no adapter needs (`optimizer`, …)."""

    @property
    def method(self) -> type[Method]:
        """The class of its method."""
        found: type[Method] = METHODS.load(self.settings.method)
        return found


def read_adapter(path: Path) -> AdapterFile:
    """Read an adapter: a folder of ours, or a published `.pth`.

    Raises:
        CheckpointError: missing, of an unknown format or method, or holding other than plain data.
    """
    if not path.exists():
        raise CheckpointError(f"adapter {path} does not exist; {FORMATS}")
    folder = adapter_folder(path)
    if folder is not None:
        tensors, data = _read_folder(folder)
        # Folders that do not say are older than other methods.
        stated = str(data.get("method") or DEFAULT_METHOD)
        METHODS.load(stated)
        settings = _settings_of(folder / SETTINGS_NAME, data, stated)
        return AdapterFile(path, tensors, _with_shapes(path, tensors, settings))
    published = read_published(path, f"; {FORMATS}")
    name = _recognised(path, published.tensors)
    method: type[Method] = METHODS.load(name)
    settings = replace(method.from_arguments(published.arguments), method=name)
    unknown = published.arguments.keys() - method.known_arguments()
    others = ("other arguments of the trainer",) if unknown else ()
    settings = _with_shapes(path, published.tensors, settings)
    return AdapterFile(path, published.tensors, settings, published.also_holds + others)


def adapter_folder(path: Path) -> Path | None:
    """Return the folder of ours that a path means, itself or by its weights; else None."""
    if path.is_dir():
        return path
    return path.parent if path.suffix == ".safetensors" else None


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], settings: AdapterSettings) -> None:
    """Write an adapter folder; the settings come last, so a torn write has no settings file.

    Args:
        folder: Where to.
        tensors: Under their published names.
        settings: What the adapter says of itself.

    Raises:
        ResultsError: no space is left, or the folder cannot be written.
    """
    plain = {name: plain_copy(tensor) for name, tensor in tensors.items()}
    write_atomically(folder / WEIGHTS_NAME, save(plain, metadata={"format": "pt"}))
    write_json(
        folder / SETTINGS_NAME, {"schema": SCHEMA} | _facts(settings, settings.values.keys())
    )


def stated_facts(settings: AdapterSettings) -> dict[str, Any]:
    """Return what an adapter says of itself as JSON data, null where it does not say.

    A model's fingerprint rests on it, so that the default method, and what a method gained later
    and has at its default, is left out (`digests.py`).
    """
    fields: type[MethodSettings] = METHODS.load(settings.method).settings
    defaults = fields().values()
    given = {name: value for name, value in settings.values.items() if value is not None}
    return _facts(settings, stable_names(defaults | given, defaults, fields.FIRST_FIELDS))


def _facts(settings: AdapterSettings, stated: Collection[str]) -> dict[str, Any]:
    """Return all that an adapter says, of its method's settings those that are named and first."""
    fields: type[MethodSettings] = METHODS.load(settings.method).settings
    names = [name for name in fields.model_fields if name in {*stated, *fields.FIRST_FIELDS}]
    method = {} if settings.method == DEFAULT_METHOD else {"method": settings.method}
    # Files of before have none of these, and keep their fingerprints.
    later = {name: getattr(settings, name) for name in LATER_FACTS}
    return {
        **method,
        **{name: settings.values.get(name) for name in names if name != "kind"},
        "language_model": settings.language_model,
        "vision": settings.vision,
        "prompts": {kind: dict(prompts) for kind, prompts in settings.prompts.items()},
        "language_model_signature": settings.language_model_signature,
        **{name: value for name, value in later.items() if value is not None},
    }


def resolve_settings(card: FusionSettings, adapter: AdapterSettings) -> MethodSettings:
    """Return the settings to use: the card's, else the checkpoint's, else the paper's (Q28).

    Raises:
        CheckpointError: they do not go together.
    """
    stated = {name: value for name, value in adapter.values.items() if value is not None}
    fields: type[MethodSettings] = METHODS.load(adapter.method).settings
    try:
        return fields.model_validate({**stated, **card.values(), "kind": adapter.method})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"the adapter's setting {name} cannot be {first['input']!r:.{MOST_SAID}}: "
            f"{first['msg'].lower()}"
        ) from error


def _recognised(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Return the name of the method whose published files have such tensors.

    Raises:
        CheckpointError: no known method's have.
    """
    methods: dict[str, type[Method]] = {name: METHODS.load(name) for name in METHODS.table()}
    found = next((name for name, method in methods.items() if method.recognises(tensors)), None)
    if found is None:
        described = [f"{name} has {method.recognised_by}" for name, method in methods.items()]
        raise CheckpointError(
            f"{path} is not an adapter of a known method ({'; '.join(described)}): it has "
            f"{', '.join(list(tensors)[:4]) or 'nothing'}, …"
        )
    return found


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    weights, settings_file = folder / WEIGHTS_NAME, folder / SETTINGS_NAME
    for file in (weights, settings_file):
        if not file.is_file():
            found = why_missing(file)
            if found != MISSING:
                raise CheckpointError(f"{file} {found}; {FORMATS}")
            raise CheckpointError(
                f"adapter folder {folder} has no {file.name}{_hint(folder) or f'; {FORMATS}'}"
            )
    try:
        data = read_json(settings_file)
        if not isinstance(data, dict):
            raise CheckpointError(f"{settings_file}: expected an object of settings")
        if (schema := data.get("schema", SCHEMA)) != SCHEMA:
            raise CheckpointError(
                f"{settings_file} has schema {schema!r:.{MOST_SAID}}, this version reads {SCHEMA}"
            )
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{settings_file}: {error}") from error
    return load_tensors(weights), data


def _settings_of(file: Path, data: Mapping[str, Any], method: str) -> AdapterSettings:
    """Return the settings that `adapter.json` states, values that people edited included."""
    stated = {name: value for name, value in data.items() if name not in ("schema", "method")}
    known: dict[str, Any] = {}
    for name, read in JSON_READERS.items():
        value = stated.pop(name, None)
        try:
            known |= {} if value is None else {name: read(value)}
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise CheckpointError(
                f"{file}: {name} cannot be {value!r:.{MOST_SAID}}: {error}"
            ) from error
    try:
        fields: type[MethodSettings] = METHODS.load(method).settings
        given = {name: value for name, value in stated.items() if value is not None}
        checked = fields.model_validate({**given, "kind": method})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        found = (
            "" if first["type"] == "extra_forbidden" else f", found {first['input']!r:.{MOST_SAID}}"
        )
        raise CheckpointError(f"{file}: {name}: {first['msg'].lower()}{found}") from error
    values = {name: getattr(checked, name) for name in given}
    return replace(AdapterSettings(method=method, values=values), **known)


def _with_shapes(
    path: Path, tensors: Mapping[str, Tensor], settings: AdapterSettings
) -> AdapterSettings:
    """Fill in what tensor shapes say, which outranks any stated value (Q3)."""
    method: type[Method] = METHODS.load(settings.method)
    try:
        return replace(settings, values=method.settings_from(tensors, settings.values))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _hint(folder: Path) -> str:
    """Return which adapter further down was meant: a training's final one, or its latest."""
    found = [*folder.glob(f"*/{WEIGHTS_NAME}"), *folder.glob(f"checkpoints/*/{WEIGHTS_NAME}")]
    places = sorted(file.parent for file in found)
    final = [place for place in places if place.name == "adapter"]
    return f"; did you mean {(final or places)[-1]}?" if places else ""


def _prompts(value: Mapping[str, Mapping[str, Json]]) -> dict[str, dict[str, Json]]:
    return {kind: dict(prompts.items()) for kind, prompts in value.items()}


def _signature(numbers: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(number) for number in numbers)


JSON_READERS: dict[str, Callable[[Any], Any]] = {
    "language_model": str,
    "language_model_architecture": str,
    "vision": str,
    "vision_architecture": str,
    "prompts": _prompts,
    "language_model_signature": _signature,
    "vision_signature": _signature,
}
"""How to read what `adapter.json` says besides the method's settings."""
