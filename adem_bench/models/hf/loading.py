"""Processor and model out of a folder; no code of the folder's runs unless the user says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor

from adem_bench.errors import CheckpointError
from adem_bench.models.device import without_progress_bars
from adem_bench.models.hf.settings import HfCard, HfFiles, HfOptions

UNLOADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    StrictDataclassError,
    SafetensorError,
)
"""What transformers raises over folders that are not as it expects."""
PLAIN = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "temperature": None,
    "top_p": None,
    "top_k": None,
}
"""Plain greedy decoding: penalties on repetition would count the prompt and its padding."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be asked."""

    processor: Any
    network: Any


def load(card: HfCard, files: HfFiles, options: HfOptions, device: torch.device) -> LoadedModel:
    """Load processor and model, the model in evaluation mode on its device.

    Args:
        card: Precision and attention, and the name for messages.
        files: Where the files are.
        options: The card's.
        device: Where the model goes.

    Raises:
        CheckpointError: files are missing or of another kind, weights are missing or do not fit,
            or the model needs code of its own that the user has not allowed.
    """
    folder, trusted = str(files.folder), options.trust_remote_code
    processor = _tried(
        card,
        lambda: AutoProcessor.from_pretrained(
            folder, trust_remote_code=trusted, **options.processor
        ),
    )
    if not hasattr(processor, "image_processor"):
        raise CheckpointError(
            f"model {card.name}: its processor reads no images; expected an image-text-to-text "
            "model of transformers with the files of its processor"
        )
    with _quietly(), without_progress_bars():
        network, report = _tried(
            card,
            lambda: AutoModelForImageTextToText.from_pretrained(
                folder,
                trust_remote_code=trusted,
                dtype=_dtype(card, device),
                attn_implementation=card.attention,
                # Pickles can run code as they are read.
                use_safetensors=True,
                output_loading_info=True,
            ),
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"model {card.name}: the weights' files lack {len(missing)} tensors of a "
            f"{type(network).__name__}, {missing[0]} first; a download may have been broken off"
        )
    _decode_plainly(network, processor.tokenizer)
    try:
        network.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise CheckpointError(
            f"model {card.name} does not fit on {device}; use a smaller --dtype (bfloat16) or "
            "another --device"
        ) from error
    return LoadedModel(processor, network)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from printing a table of tensors: what is wrong with them, we say."""
    messages = transformers.utils.logging
    before = messages.get_verbosity()
    messages.set_verbosity_error()
    try:
        yield
    finally:
        messages.set_verbosity(before)


def _dtype(card: HfCard, device: torch.device) -> torch.dtype | str:
    """Return the precision: `auto` is the checkpoint's own on a GPU, and float32 on the CPU."""
    if card.dtype == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    dtype: torch.dtype = getattr(torch, card.dtype)
    return dtype


def _decode_plainly(network: Any, tokenizer: Any) -> None:
    """Take what a checkpoint prefers in decoding out of its settings, and pad on the left."""
    for name, value in PLAIN.items():
        setattr(network.generation_config, name, value)
    ends = network.generation_config.eos_token_id
    first_end = ends[0] if isinstance(ends, list) else ends
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id if first_end is None else first_end
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    tokenizer.padding_side = "left"


def _tried(card: HfCard, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except UNLOADABLE as error:
        lines = str(error).strip().splitlines()
        reason = lines[0].strip() if lines else type(error).__name__
        raise CheckpointError(
            f"model {card.name} cannot be loaded: {reason}{_advice(str(error))}"
        ) from error


def _advice(message: str) -> str:
    if "trust_remote_code" in message:
        return (
            "; it needs Python code out of its repository: read that code, then allow it with "
            "--set model.options.trust_remote_code=true"
        )
    if "scaled_dot_product_attention" in message or "attn_implementation" in message:
        return "; try --set model.attention=eager"
    if ".bin" in message or "safetensors" in message:
        return "; weights in pickles become safetensors when transformers loads and saves them"
    return ""
