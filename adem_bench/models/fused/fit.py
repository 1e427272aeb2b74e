"""Whether a method or an adapter fits a model's frozen parts, found out before these are loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adem_bench.errors import CheckpointError
from adem_bench.files import file_state, open_bytes
from adem_bench.models.fused.backbone import (
    FrozenFiles,
    Identity,
    is_same_model,
    language_architecture,
)
from adem_bench.models.fused.card import AdapterSource, FusedCard
from adem_bench.models.fused.decoder import check_architecture, projection_sizes
from adem_bench.models.fused.method import FrozenSizes, Method
from adem_bench.models.fused.weights.adapter import (
    SETTINGS_NAME,
    WEIGHTS_NAME,
    AdapterFile,
    adapter_folder,
    read_adapter,
    resolve_settings,
)
from adem_bench.models.fused.weights.clip import visual_sizes
from adem_bench.models.fused.weights.llama import language_config
from adem_bench.models.places import NO_ADAPTER, weights_path
from adem_bench.registry import METHODS
from adem_bench.schemas import MethodSettings

PARTS = {"language_model": "language model", "vision": "vision tower"}


def check_method(card: FusedCard, settings: MethodSettings, data_root: Path | None) -> None:
    """Refuse a method whose settings do not suit a model's frozen parts; no weight is read.

    Args:
        card: The model's.
        settings: Of the method that their `kind` names.
        data_root: Folder below which `weights/` is looked for.

    Raises:
        CheckpointError: they do not, or the frozen parts are missing.
    """
    sizes = frozen_sizes(card, data_root)
    if sizes is not None:
        _made(METHODS.load(settings.kind), settings, sizes)


def check_adapter(card: FusedCard, source: AdapterSource, data_root: Path | None) -> None:
    """Refuse an adapter that is missing, of another method, or does not fit the frozen parts.

    Args:
        card: The model's.
        source: One of its adapters.
        data_root: Folder below which `weights/` is looked for.

    Raises:
        CheckpointError: it is one of these.
    """
    if source.path == NO_ADAPTER:
        return
    path = weights_path(source.path, card, data_root)
    if path is None:
        raise CheckpointError(card.missing(source.path, data_root))
    found, key = _fitted(card, path, data_root), _key(card, path, data_root)
    if len(_checked) < MOST_KEPT or key in _checked:
        _checked[key] = found


@dataclass(frozen=True, slots=True)
class FittedAdapter:
    """An adapter as it will be next to a model's frozen parts."""

    file: AdapterFile
    sizes: FrozenSizes | None
    """Of the frozen parts; None where the tower's name does not say them."""
    method: Method | None
    """With the adapter's weights, on the CPU; None where the sizes are not known."""


MOST_KEPT = 4
_checked: dict[tuple[str, ...], FittedAdapter] = {}
"""What was checked and not yet taken. A run checks its adapters before it loads anything, and what
has been read then is not read again."""


def fitted_adapter(card: FusedCard, path: Path, data_root: Path | None) -> FittedAdapter:
    """Return an adapter that fits a model's frozen parts, for one model to use.

    Args:
        card: Of the model that is to use it.
        path: Where it is.
        data_root: Folder below which `weights/` is looked for.

    Raises:
        CheckpointError: the adapter cannot be read, is of another method, or does not fit the
            frozen parts, or these are missing.
    """
    known = checked_adapter(card, path, data_root)
    return known or _fitted(card, path, data_root)


def checked_adapter(card: FusedCard, path: Path, data_root: Path | None) -> FittedAdapter | None:
    """Return an adapter that `check_adapter` has read, once; None if its files are others now.

    Args:
        card: Of the model that is to use it.
        path: Where it is.
        data_root: Folder below which `weights/` is looked for.
    """
    return _checked.pop(_key(card, path, data_root), None)


def _key(card: FusedCard, path: Path, data_root: Path | None) -> tuple[str, ...]:
    """Return what an adapter's fit hangs on: the model's card, and the files as they are."""
    folder = adapter_folder(path)
    files = [path] if folder is None else [folder / WEIGHTS_NAME, folder / SETTINGS_NAME]
    states = [file_state(file) for file in files if file.is_file()]
    return (card.digest(), str(card.path), str(data_root), str(path.absolute()), str(states))


def _fitted(card: FusedCard, path: Path, data_root: Path | None) -> FittedAdapter:
    adapter = read_adapter(path)
    check_kind(card, adapter)
    sizes, identities = _frozen(card, FrozenFiles(card, data_root, torch.float32))
    check_base(card, adapter, identities)
    if sizes is None:
        return FittedAdapter(adapter, None, None)
    method = _made(adapter.method, resolve_settings(card.fusion, adapter.settings), sizes)
    try:
        method.load_adapter(adapter.tensors, str(adapter.path))
    except CheckpointError as error:
        raise _other_base(card, adapter, identities, str(error)) from error
    return FittedAdapter(adapter, sizes, method)


def check_base(card: FusedCard, adapter: AdapterFile, identities: Sequence[Identity]) -> None:
    """Refuse an adapter that says it was tuned on another language model or tower.

    Args:
        card: Of the model that is to use it.
        adapter: Those of before name no sizes and no tower, and say less.
        identities: What the model's frozen parts are, as far as it is known.

    Raises:
        CheckpointError: it does.
    """
    stated = adapter.settings
    for own in identities:
        architecture = getattr(stated, f"{own.field}_architecture")
        if architecture and own.architecture and architecture != own.architecture:
            raise _other_base(card, adapter, identities)
        field = f"{own.field}_signature"
        signature = getattr(stated, field)
        if signature and own.signature and not is_same_model(signature, own.signature):
            raise CheckpointError(
                f"the adapter {adapter.path} was tuned on another {PARTS[own.field]} "
                f"({getattr(stated, own.field) or 'it does not say which'}) than model {card.name} "
                f"has ({own.name}, of the same sizes); choose its own model card (to use it all "
                f"the same, remove {field} from its {SETTINGS_NAME})"
            )


def _other_base(
    card: FusedCard, adapter: AdapterFile, identities: Sequence[Identity], reason: str = ""
) -> CheckpointError:
    stated = adapter.settings
    theirs = [
        _described(
            own.field, getattr(stated, own.field), getattr(stated, f"{own.field}_architecture")
        )
        for own in identities
    ]
    ours = [_described(own.field, own.name, own.architecture) for own in identities]
    return CheckpointError(
        f"the adapter {adapter.path} was tuned on {' with '.join(theirs)}, and model {card.name} "
        f"has {' with '.join(ours)}; choose its own model card{reason and f' ({reason})'}"
    )


def _described(field: str, name: str | None, architecture: str | None) -> str:
    named = name or f"a {PARTS[field]} that it does not name"
    return f"{named} ({architecture})" if architecture else named


def check_kind(card: FusedCard, adapter: AdapterFile) -> None:
    """Refuse an adapter of another method than the card's.

    Raises:
        CheckpointError: it is.
    """
    stated = adapter.settings.method
    if stated != card.fusion.kind:
        raise CheckpointError(
            f"the adapter {adapter.path} is of the method {stated!r}, and model {card.name} uses "
            f"{card.fusion.kind!r}; choose another adapter, or set fusion.kind={stated}"
        )


def frozen_sizes(card: FusedCard, data_root: Path | None) -> FrozenSizes | None:
    """Return the sizes of a model's frozen parts; None where the tower's name does not say them.

    Raises:
        CheckpointError: a part is missing, does not say its sizes, or is of no use here.
    """
    return _frozen(card, FrozenFiles(card, data_root, torch.float32))[0]


def _frozen(card: FusedCard, files: FrozenFiles) -> tuple[FrozenSizes | None, tuple[Identity, ...]]:
    """Return the sizes of a model's frozen parts, and what they are without their weights.

    Raises:
        CheckpointError: as for `frozen_sizes`.
    """
    visual = visual_sizes(card.vision, files.vision)
    config = language_config(files.language_model)
    check_architecture(config, card.max_sequence_length)
    is_replaced = card.vision.path and files.vision is None
    instead = f" in place of {card.vision.path}, which is missing" if is_replaced else ""
    identities = (
        Identity("language_model", card.base_name, language_architecture(config)),
        Identity("vision", files.vision_name + instead, visual.described if visual else None),
    )
    if visual is None:
        return None, identities
    sizes = FrozenSizes(
        vision_width=visual.width,
        vision_blocks=visual.blocks,
        patches=visual.patches,
        language_width=config.hidden_size,
        language_layers=config.num_hidden_layers,
        projections=projection_sizes(config),
        class_token=visual.class_token,
    )
    return sizes, identities


def _made(method: type[Method], settings: MethodSettings, sizes: FrozenSizes) -> Method:
    """Return the method with untrained parameters, of which no random number is used up."""
    with torch.random.fork_rng(devices=[]):
        return method(settings, sizes)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an adapter's file turned out to be."""

    facts: str
    problems: tuple[str, ...]
    """In what it is not as the card says."""


def inspect_adapter(card: FusedCard, source: AdapterSource, path: Path) -> Inspection:
    """Return what an adapter on disk is, and in what it is not as the card says.

    Args:
        card: The model's.
        source: One of its adapters.
        path: Where that is.

    Raises:
        CheckpointError: it cannot be read.
    """
    adapter = read_adapter(path)
    values = sum(tensor.numel() for tensor in adapter.tensors.values())
    kind = adapter.settings.method
    facts = [kind, f"{len(adapter.tensors)} tensors", f"{values:,} values"]
    compared = [("method", kind, card.fusion.kind), ("values", values, card.trainable_parameters)]
    if path.is_file():
        size = path.stat().st_size
        with open_bytes(path) as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        facts += [f"{size:,} bytes", f"sha256 {sha256}"]
        compared += [("bytes", size, source.size), ("sha256", sha256, source.sha256 or None)]
    problems = [
        f"{name} {found}, and the card says {stated}"
        for name, found, stated in compared
        if stated is not None and found != stated
    ]
    return Inspection(", ".join(facts), tuple(problems))
