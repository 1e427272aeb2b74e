"""Where a model computes, and what the models that run here have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from adem_bench.errors import CheckpointError, OutOfMemoryError


def count_parameters(module: nn.Module) -> int:
    """Return the number of a module's weights."""
    return sum(weight.numel() for weight in module.parameters())


def pick_device(name: str) -> torch.device:
    """Return the device for `auto` or a torch device string.

    Raises:
        CheckpointError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(
            f"--device {name} is not a device; use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def name_of(device: torch.device) -> str:
    """Return a device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(device)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn every way in which memory runs out into one error.

    Raises:
        OutOfMemoryError: a tensor did not fit.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        torch.cuda.empty_cache()
        raise OutOfMemoryError(str(error)) from error
    except RuntimeError as error:
        # The CPU allocator has no exception type of its own.
        if "can't allocate memory" in str(error):
            raise OutOfMemoryError(str(error)) from error
        raise
