"""PEFT adapters on a model of transformers: LoRA and its kin, out of safetensors alone."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adem_bench.errors import CheckpointError
from adem_bench.files import file_digest, read_json
from adem_bench.models.weight_files import foreign_reader, load_tensors

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
SHOWN = 3
"""Names of tensors in a message."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's files on this machine."""

    folder: Path
    base: str
    """The model that it says it was tuned on; empty if it does not say."""

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits over its settings and weights."""
        parts = [
            f"{name} {file_digest(self.folder / name)}" for name in (CONFIG_NAME, WEIGHTS_NAME)
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def find_adapter(folder: Path, names: Collection[str]) -> Adapter:
    """Return the adapter in a folder, once it is clear that it can be used.

    Args:
        folder: As `save_pretrained` of peft wrote it.
        names: What the model it is for is called: hub id, folder.

    Raises:
        CheckpointError: peft is missing, it is no adapter, or one of another model.
    """
    if find_spec("peft") is None:
        raise CheckpointError(
            "--adapter needs peft, which is not installed; `pip install 'adem-bench[lora]'` brings "
            "it"
        )
    if not (folder / CONFIG_NAME).is_file():
        raise CheckpointError(
            f"adapter {folder} has no {CONFIG_NAME}; expected a folder that save_pretrained of a "
            "peft model wrote"
        )
    if not (folder / WEIGHTS_NAME).is_file():
        raise CheckpointError(
            f"adapter {folder} has no {WEIGHTS_NAME}; weights in pickles (*.bin) become "
            "safetensors when peft loads and saves them"
        )
    try:
        settings = read_json(folder / CONFIG_NAME)
        base = str(settings.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / CONFIG_NAME} is not an adapter's: {error}") from error
    if base and not any(_is_same(base, name) for name in names):
        raise CheckpointError(
            f"adapter {folder} was tuned on {base}, and the model is {' or '.join(sorted(names))}; "
            "choose that model, or, if it is the same under another name, say so with --set "
            f"model.options.adapter_base={base}"
        )
    return Adapter(folder, base)


def _is_same(base: str, name: str) -> bool:
    """Return whether two names may mean one model: equal, or a hub id and a folder of its name."""
    one, other = base.rstrip("/").lower(), name.rstrip("/").lower()
    if one == other:
        return True
    both_ids = all(text.count("/") == 1 and text[0] not in "./~" for text in (one, other))
    return not both_ids and one.rpartition("/")[2] == other.rpartition("/")[2]


def attach(network: Any, adapter: Adapter) -> None:
    """Put an adapter into a network, in evaluation, in the network's precision.

    Args:
        network: Its layers are changed in place.
        adapter: Of a kind that adds to layers; prompts that are learned are not.

    Raises:
        CheckpointError: it does not fit the network.
    """
    from peft import (
        PeftConfig,
        PeftModel,
        get_peft_model_state_dict,
        set_peft_model_state_dict,
    )

    tensors = load_tensors(adapter.folder / WEIGHTS_NAME)
    dtype, before = network.dtype, set(map(id, network.parameters()))

    def misfit(reason: str) -> CheckpointError:
        return CheckpointError(f"adapter {adapter.folder} does not fit the model: {reason}")

    with foreign_reader(misfit):
        config = PeftConfig.from_pretrained(str(adapter.folder))
        if config.is_prompt_learning:
            raise CheckpointError(
                f"adapter {adapter.folder} is of kind {config.peft_type.value}, which puts tokens "
                "before prompts; only those that add to layers, such as LoRA, can be used here"
            )
        if getattr(config, "megatron_config", None):
            # peft would import whatever module its `megatron_core` names.
            raise CheckpointError(f"adapter {adapter.folder} is for Megatron, not for transformers")
        config.inference_mode = True
        wrapped = PeftModel(network, config, autocast_adapter_dtype=False)
        expected = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
        lacking, foreign = expected - tensors.keys(), tensors.keys() - expected
        if lacking or foreign:
            first = ", ".join(sorted(lacking or foreign)[:SHOWN])
            raise CheckpointError(
                f"adapter {adapter.folder} does not fit the model: {len(lacking)} of its "
                f"{len(expected)} tensors are missing and {len(foreign)} have no place ({first}); "
                "it may be of another model, or of another version of transformers"
            )
        set_peft_model_state_dict(wrapped, tensors)
    for weight in network.parameters():
        if id(weight) not in before:
            weight.data = weight.data.to(dtype)
