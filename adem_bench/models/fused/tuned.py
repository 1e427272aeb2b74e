"""One adapter in use: the network it makes with the frozen parts, and what hangs on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adem_bench.errors import CheckpointError
from adem_bench.files import file_digest
from adem_bench.models.fused.assemble import build_network
from adem_bench.models.fused.backbone import FrozenParts, is_same_language_model
from adem_bench.models.fused.decoder import FusedDecoder
from adem_bench.models.fused.image_cache import ImageReader, MemoryStore
from adem_bench.models.fused.methods.adem import NoFusion, VisualMemory
from adem_bench.models.fused.sequence import SequenceBuilder
from adem_bench.models.fused.weights.adapter import (
    SETTINGS_NAME,
    WEIGHTS_NAME,
    AdapterFile,
    AdapterSettings,
    resolve_settings,
)
from adem_bench.schemas import FusionSettings


@dataclass(frozen=True)
class TunedWeights:
    """A decoder with its adapter, or without any."""

    path: Path | None
    """None for the language model as it is."""
    decoder: FusedDecoder
    sequences: SequenceBuilder
    nothing: VisualMemory
    """Memory of rows without image."""
    memories: MemoryStore | None
    """Memories of images; None where the model cannot see."""
    settings: AdapterSettings
    trainable_parameters: int
    fingerprint: str
    warnings: tuple[str, ...] = ()


@torch.inference_mode()
def tuned(frozen: FrozenParts, adapter: AdapterFile) -> TunedWeights:
    """Return the model that an adapter makes.

    Raises:
        CheckpointError: it does not fit the frozen parts.
    """
    card = frozen.card
    _check_language_model(frozen, adapter)
    network = build_network(
        frozen.llama, frozen.visual, adapter, card.fusion, eager=card.attention == "eager"
    )
    settings = resolve_settings(card.fusion, adapter.settings)
    weights_file = adapter.path / WEIGHTS_NAME if adapter.path.is_dir() else adapter.path
    return TunedWeights(
        path=adapter.path,
        decoder=network.decoder,
        sequences=_sequences(frozen, bool(settings.cls_token)),
        nothing=network.remember_nothing(),
        memories=MemoryStore(network, ImageReader(network.vision.image_size)),
        settings=settings,
        trainable_parameters=sum(p.numel() for p in network.adapter_tensors().values()),
        fingerprint=file_digest(weights_file),
        warnings=tuple(_conflicts(card.fusion, adapter.settings)),
    )


@torch.inference_mode()
def untuned(frozen: FrozenParts) -> TunedWeights:
    """Return the language model alone: no memory, no prefix, images ignored."""
    fusion = NoFusion(frozen.llama)
    return TunedWeights(
        path=None,
        decoder=FusedDecoder(frozen.llama, fusion, frozen.card.attention == "eager"),
        sequences=_sequences(frozen, cls_token=False),
        nothing=fusion.prepare(None, frozen.dtype),
        memories=None,
        settings=AdapterSettings(),
        trainable_parameters=0,
        fingerprint="none",
    )


def _check_language_model(frozen: FrozenParts, adapter: AdapterFile) -> None:
    """Refuse an adapter that says it was tuned on other weights.

    Raises:
        CheckpointError: it does.
    """
    stated = adapter.settings.language_model_signature
    if stated is None or is_same_language_model(stated, frozen.signature):
        return
    name = adapter.settings.language_model or "another one"
    raise CheckpointError(
        f"the adapter {adapter.path} was tuned on another language model ({name}) than model "
        f"{frozen.card.name} has; choose its own model card (to use it all the same, remove "
        f"language_model_signature from its {SETTINGS_NAME})"
    )


def _sequences(frozen: FrozenParts, cls_token: bool) -> SequenceBuilder:
    card = frozen.card
    return SequenceBuilder(
        frozen.tokenizer, cls_token, card.max_sequence_length, card.overflow == "fix"
    )


def _conflicts(card: FusionSettings, stated: AdapterSettings) -> Sequence[str]:
    """Say where the card overrules what the adapter's file says of itself (Q28)."""
    return [
        f"{name}: the card's {getattr(card, name)} is used, though the adapter was tuned with "
        f"{getattr(stated, name)} (Q28)"
        for name in ("alpha", "beta", "drop_ratio", "scales", "cls_token")
        if getattr(card, name) is not None
        and getattr(stated, name) is not None
        and getattr(card, name) != getattr(stated, name)
    ]
