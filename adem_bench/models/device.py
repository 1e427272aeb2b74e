"""Where a model computes, how much memory there is, and errors of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from adem_bench.errors import CheckpointError, OutOfMemoryError
from adem_bench.models.base import Budget

HAS_TRITON = find_spec("triton") is not None


def count_parameters(module: nn.Module) -> int:
    """Return the number of a module's weights, however they are kept."""
    return sum(_size(weight).numel() for weight in module.parameters())


def _size(weight: Any) -> torch.Size:
    # Weights of 4 bits are stored two to a byte; their quantization state has their shape.
    state = getattr(weight, "quant_state", None)
    return torch.Size(weight.shape if state is None else state.shape)


def pick_device(name: str) -> torch.device:
    """Return the device for `auto` or a torch device string.

    Raises:
        CheckpointError: no such device here.
    """
    if name == "auto":
        name = _best_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(
            f"--device {name} is not a device; use auto, cpu, cuda, cuda:N or mps"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise CheckpointError(f"--device {name}: only Macs with Apple's own GPU have it")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def name_of(device: torch.device) -> str:
    """Return a device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(device)


def kernels_for(x: Tensor) -> Any:
    """Return the module of kernels for what is computed with a tensor; None where there are none.

    They are for GPUs of NVIDIA, and pass no gradient.
    """
    if not x.is_cuda or torch.is_grad_enabled() or not HAS_TRITON:
        return None
    from adem_bench.models import triton_kernels

    return triton_kernels


def attention_kernels(device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which attention is computed for batches of ever new shapes.

    cuDNN's kernels, which PyTorch prefers on recent GPUs, are planned anew for each shape: for
    each new token, that takes longer than the token.
    """
    if device.type != "cuda":
        return nullcontext()
    kernels = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
    return sdpa_kernel(list(kernels))


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers and its hub from drawing bars, even into files, for a second's work.

    What the caller had switched on or off is as before afterwards.
    """
    import transformers
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    bars = transformers.utils.logging
    were_drawn, hub_was_quiet = bars.is_progress_bar_enabled(), are_progress_bars_disabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if were_drawn:
            bars.enable_progress_bar()
        # Switching transformers' bars switches the hub's too.
        (disable_progress_bars if hub_was_quiet else enable_progress_bars)()


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn every way in which memory runs out into one error.

    Raises:
        OutOfMemoryError: a tensor did not fit.
    """
    try:
        yield
    except Exception as error:
        if not is_memory_error(error):
            raise
        torch.cuda.empty_cache()
        raise OutOfMemoryError(str(error)) from error


def is_memory_error(error: BaseException) -> bool:
    """Return whether an exception says that memory has run out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The allocators of CPU and MPS have no exception type of their own.
    said = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


MAX_ROWS = 64
MAX_TOKENS = {"cpu": 4096, "cuda": 65536, "mps": 8192}
SHARE = 0.5
"""Of what is free; the rest is for images, for what allocators waste, and for errors of this."""
MIN_TOKENS = 512
IMAGE_FACTOR = 4
"""Patches of the image tower for each token that they become."""


def batch_budget(config: Any, device: torch.device, bytes_per_number: int) -> Budget:
    """Return the budget of a loaded model.

    Args:
        config: Transformers' configuration of the model.
        device: Where it is loaded; half of its free memory is used.
        bytes_per_number: Of the weights' precision.
    """
    free = free_bytes(device) * SHARE
    fits = int(free / token_bytes(config, bytes_per_number))
    limit = MAX_TOKENS.get(device.type, MAX_TOKENS["cuda"])
    return Budget(tokens=max(MIN_TOKENS, min(limit, fits)), rows=MAX_ROWS)


def token_bytes(config: Any, bytes_per_number: int) -> int:
    """Return about how many bytes one token of a prompt takes.

    Keys and values of every layer stay; of one layer's intermediate values, some are there
    together.
    """
    text = config.get_text_config()
    width = int(text.hidden_size)
    heads = int(getattr(text, "num_attention_heads", 1))
    kept_heads = int(getattr(text, "num_key_value_heads", None) or heads)
    head = int(getattr(text, "head_dim", None) or width // heads)
    layers = int(getattr(text, "num_hidden_layers", 1))
    inner = int(getattr(text, "intermediate_size", None) or 4 * width)
    cache = 2 * layers * kept_heads * head
    working = IMAGE_FACTOR * (4 * width + 3 * inner)
    return (cache + working) * bytes_per_number


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on every system
        return 4 << 30
