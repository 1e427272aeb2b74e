"""What is wrong with a file of weights, said with its cause and remedy; no weight is read twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor

from adem_bench.errors import AdemBenchError, CheckpointError, OutOfMemoryError, lacks_memory
from adem_bench.files import is_utf8, read_json
from adem_bench.models.device import is_memory_error

T = TypeVar("T")
CONFIG_NAME = "config.json"
SIZES = ("hidden_size", "intermediate_size", "vocab_size", "n_embd", "d_model", "dim", "ffn_dim")
LAYERS, MOST_LAYERS = "num_hidden_layers", 1024
MOST_PACKED = 16
"""Numbers that a byte of a file may stand for, where weights are packed, and then some."""
BEGINNING = 512
"""Bytes by which a file that holds no weights is known."""
LFS_POINTER = b"version https://git-lfs"
PAGES = (b"<!doctype html", b"<html")
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, FSDP and checkpointed activations put into names, before any part."""
WRAPPED = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(WRAPPERS)})\.")
DISTRIBUTED = "module."
"""What distributed training puts before every name."""


def check_file(path: Path) -> None:
    """Refuse a file that holds no weights, or not all of them.

    Raises:
        CheckpointError: it is a pointer, a web page, empty or cut short.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        beginning = stream.read(BEGINNING)
    if not beginning:
        raise CheckpointError(f"{path} is empty; fetch it again")
    if beginning.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, which stands for a file and does not hold it; run `git "
            "lfs pull` in its repository, or fetch the file itself"
        )
    if beginning.lstrip().lower().startswith(PAGES):
        raise CheckpointError(
            f"{path} is a web page, to which its download led instead of the file; fetch it again, "
            "signed in if the page asks for that"
        )
    if path.suffix == ".safetensors":
        _check_size(path, size)


def check_files(folder: Path) -> None:
    """Refuse a folder in which a file of weights or of a tokenizer is not what it seems.

    Raises:
        CheckpointError: as for `check_file`.
    """
    for pattern in ("*.safetensors", "*.json", "*.model"):
        for file in sorted(folder.glob(pattern)):
            check_file(file)
    check_config(folder)


def check_config(folder: Path) -> None:
    """Refuse a `config.json` that asks for more than its folder's files can hold.

    Networks are made as their configuration says, before a weight is read.

    Raises:
        CheckpointError: it does, or is no object in JSON.
    """
    file = folder / CONFIG_NAME
    if not file.is_file():
        return
    try:
        config = read_json(file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} does not hold a JSON object")
    weights = [f for glob in ("*.safetensors", "*.pth", "*.bin") for f in folder.glob(glob)]
    most = MOST_PACKED * sum(file.stat().st_size for file in weights)
    for name, value in _numbers(config):
        limit = MOST_LAYERS if name == LAYERS else most if name in SIZES and weights else None
        if limit is not None and not 1 <= value <= limit:
            raise CheckpointError(
                f"{file}: {name} is {value:.6g}, which does not go with the folder's weights; "
                "fetch it again"
            )


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a configuration and of the parts in it, by their names."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, min(value, 1 << 63)


@contextmanager
def foreign_reader(
    error_of: Callable[[str], CheckpointError], advice: Callable[[str], str] = lambda message: ""
) -> Iterator[None]:
    """Turn what another package raises over broken files into an error of ours.

    Such readers raise nearly anything. What is said of a lack of memory stays.

    Args:
        error_of: Makes the error of a reason.
        advice: What to say behind the reason, from the whole message.

    Raises:
        CheckpointError: something was raised.
    """
    try:
        yield
    except (AdemBenchError, OutOfMemoryError):
        raise
    except Exception as error:
        if is_memory_error(error) or lacks_memory(error):
            raise
        lines = str(error).strip().splitlines()
        reason = lines[0].strip() if lines else type(error).__name__
        raise error_of(reason + advice(str(error))) from error


def lacking(missing: Collection[str], unexpected: Collection[str], network: object) -> str:
    """Return what is wrong with weights that lack tensors of a network.

    Args:
        missing: Names of what is lacking.
        unexpected: Names of what is there, and is none of the network's.
        network: The network.
    """
    first = min(missing)
    said = f"its weights lack {len(missing)} tensors of a {type(network).__name__}, {first} first"
    wrapped = next((name for name in sorted(unexpected) if own_name(name) != name), None)
    if wrapped is None:
        return f"{said}; a download may have been broken off"
    return (
        f"{said}; they were saved with what training wraps around a model ({wrapped}): save the "
        "model that torch.compile or distributed training holds (`_orig_mod`, `module`) again"
    )


def _check_size(path: Path, size: int) -> None:
    """Refuse a safetensors file that is shorter than its header says."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        whole = 8 + length
        if whole <= size:
            try:
                header = json.loads(stream.read(length))
                ends = [
                    part["data_offsets"][1] for name, part in header.items() if name[:2] != "__"
                ]
                whole += max(ends, default=0)
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                return  # its reader says what is wrong
    if size < whole:
        shown = f"{size} of {whole} bytes" if whole < 1 << 50 else f"{size} bytes"
        raise CheckpointError(
            f"{path} is not a safetensors file, or cut short: it has {shown}; fetch it again"
        )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return a safetensors file's tensors, mapped, under their own names.

    Raises:
        CheckpointError: it is no such file, or not a whole one.
    """
    check_file(path)
    try:
        # Of itself, safetensors opens no path that is not UTF-8.
        tensors = load_file(path) if is_utf8(path) else load(path.read_bytes())
        return unwrapped(tensors, path)
    except (SafetensorError, ValueError, RuntimeError, LookupError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def own_name(name: str) -> str:
    """Return a tensor's name without what training wrapped around modules.

    A model that was compiled, sharded or trained by several processes is saved with it.
    """
    name = WRAPPED.sub("", name)
    while name.startswith(DISTRIBUTED):
        name = WRAPPED.sub("", name.removeprefix(DISTRIBUTED))
    return name


def unwrapped(tensors: Mapping[str, T], path: Path) -> dict[str, T]:
    """Return tensors under their own names, in order.

    Args:
        tensors: As a file names them.
        path: The file, for the message.

    Raises:
        CheckpointError: two would have the same name.
    """
    found: dict[str, T] = {}
    for name, tensor in tensors.items():
        own = own_name(str(name))
        if own in found:
            raise CheckpointError(
                f"{path} has the tensor {own} twice, as {name} too; save the model's own "
                "state_dict, without wrappers"
            )
        found[own] = tensor
    return found
