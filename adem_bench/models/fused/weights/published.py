"""Files of the published code: torch archives of tensors and plain data; no pickled code is run."""

from __future__ import annotations

import argparse
import io
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adem_bench.errors import CheckpointError
from adem_bench.files import is_utf8, open_bytes, write_atomically
from adem_bench.models.weight_files import DISTRIBUTED, check_file, complex_numbers, unwrapped


@dataclass(frozen=True, slots=True)
class PublishedAdapter:
    """What a checkpoint of the published trainer says of an adapter."""

    tensors: dict[str, Tensor]
    """Under their names without what training wrapped around them, in the file's order."""
    arguments: Mapping[str, Any]
    """The trainer's arguments; empty if the file has none."""
    also_holds: tuple[str, ...] = ()
    """What else is in the file, such as `optimizer`."""


def load_plain_data(path: Path, mmap: bool = False, instead: str = "") -> Any:
    """Read a torch file of tensors and plain data onto the CPU, refusing anything else.

    `argparse.Namespace` is let in: published checkpoints hold their arguments in one, and it
    only stores attributes.

    Args:
        path: The file.
        mmap: Whether tensors stay on disk until they are read.
        instead: What may be given besides a torch file, for messages.

    Raises:
        CheckpointError: not a torch file, not a whole one, or one that would run code to load; a
            tensor is not dense, or of complex numbers.
    """
    check_file(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            data = torch.load(
                path, map_location="cpu", weights_only=True, mmap=mmap and is_utf8(path)
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was not loaded: it is not a torch file, or it holds pickled objects other "
            f"than tensors and plain data, which may run code{instead}"
        ) from error
    except Exception as error:  # broken files raise nearly anything in PyTorch's reader
        # Of what is no file of its own, that says nothing ("pop from empty list").
        said = f": {error}" if _is_archive(path) else ""
        raise CheckpointError(f"{path} is not a readable torch file{said}{instead}") from error
    for name, tensor in _tensors(data):
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            kind = "quantized" if tensor.is_quantized else "sparse"
            kind = "empty" if tensor.is_meta else kind
            raise CheckpointError(f"{path}: {name} is a {kind} tensor; expected a dense one")
        if tensor.is_complex():
            raise complex_numbers(path, name)
    return data


def _tensors(data: Any) -> Iterator[tuple[object, Tensor]]:
    """Yield the tensors of a dictionary, and of those directly in it, with their names."""
    parts = [data, *data.values()] if isinstance(data, dict) else []
    for part in parts:
        if isinstance(part, dict):
            yield from ((name, value) for name, value in part.items() if isinstance(value, Tensor))


def _is_archive(path: Path) -> bool:
    """Return whether a file begins as torch's do since 1.6."""
    with open_bytes(path) as stream:
        return stream.read(2) == b"PK"


def read_published(path: Path, instead: str = "") -> PublishedAdapter:
    """Read a checkpoint as the published trainer writes it, or a bare dict of tensors.

    Args:
        path: The file.
        instead: What may be given besides such a file, for messages.

    Raises:
        CheckpointError: neither, or holding anything but plain data.
    """
    data = load_plain_data(path, instead=instead)
    model = data.get("model", data) if isinstance(data, dict) else None
    if not isinstance(model, dict) or not model:
        raise CheckpointError(f"{path}: expected a dict of tensors under 'model'{instead}")
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: {name} is a {type(tensor).__name__}, not a tensor")
        tensors[str(name)] = tensor
    tensors = unwrapped(tensors, path)
    if model is data:
        return PublishedAdapter(tensors, {})
    arguments = data.get("args")
    found = vars(arguments) if isinstance(arguments, argparse.Namespace) else {}
    others = tuple(str(name) for name in data if name not in ("model", "args"))
    return PublishedAdapter(tensors, found, others)


def write_published(path: Path, adapter: PublishedAdapter) -> None:
    """Write a checkpoint that the published evaluation reads: `model` and `args`.

    The tensors keep their order, under `module.` names. `optimizer`, `epoch` and
    `scaler`, from which the published trainer resumes, are left out: evaluation reads `model`
    alone, and an invented state would be resumed from as if training had been there.

    Raises:
        ResultsError: no space is left, or the folder cannot be written.
    """
    model = {DISTRIBUTED + name: plain_copy(tensor) for name, tensor in adapter.tensors.items()}
    content = io.BytesIO()
    torch.save({"model": model, "args": argparse.Namespace(**adapter.arguments)}, content)
    write_atomically(path, content.getvalue())


def plain_copy(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU that shares no storage, which would go to disk with it."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
