"""LLaMA weights in a Hugging Face folder, memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import LlamaConfig

from adem_bench.errors import CheckpointError
from adem_bench.files import read_json
from adem_bench.models.weight_files import load_tensors

CONFIG_NAME = "config.json"
WEIGHTS_NAME, INDEX_NAME = "model.safetensors", "model.safetensors.index.json"


def is_hugging_face(folder: Path) -> bool:
    """Return whether a folder is in the layout of transformers."""
    return (folder / CONFIG_NAME).is_file()


def read_config(folder: Path) -> LlamaConfig:
    """Return the configuration of a LLaMA.

    Raises:
        CheckpointError: it cannot be read, or is of another architecture.
    """
    found = _read_object(folder / CONFIG_NAME).get("model_type")
    if found != "llama":
        raise CheckpointError(
            f"{folder} is a model of type {found!r}; only LLaMA (type 'llama') has a consolidated "
            "layout; a model card can name the folder as it is"
        )
    try:
        return LlamaConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError, StrictDataclassError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(
            f"{folder / CONFIG_NAME} does not describe a model: {reason}"
        ) from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return a folder's tensors, mapped: memory is used once their values are.

    Raises:
        CheckpointError: files are missing or broken.
    """
    tensors: dict[str, Tensor] = {}
    for name in _weight_files(folder):
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing, though {INDEX_NAME} names it")
        tensors |= load_tensors(file)
    return tensors


def _weight_files(folder: Path) -> list[str]:
    index = folder / INDEX_NAME
    if index.is_file():
        files = _read_object(index).get("weight_map")
        if not isinstance(files, dict):
            raise CheckpointError(f"{index} has no weight_map")
        names = sorted({str(file) for file in files.values()})
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise CheckpointError(f"{index}: {outside[0]!r} is not the name of a file next to it")
        return names
    if (folder / WEIGHTS_NAME).is_file():
        return [WEIGHTS_NAME]
    raise CheckpointError(
        f"{folder} has neither {WEIGHTS_NAME} nor {INDEX_NAME}; weights in "
        "*.bin become safetensors when transformers loads and saves them"
    )


def _read_object(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} does not hold a JSON object")
    return found
