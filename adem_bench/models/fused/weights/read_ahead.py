"""Tensors of mapped files: read a little ahead of use, copied to a device, and given back.

A mapped file's pages count as the process's memory until they are given back, so that a file would
be there next to the whole model that is made of it.
"""

from __future__ import annotations

import ctypes
import mmap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
AHEAD_BYTES = 1 << 27
"""Most that is read before it is asked for, unless one tensor is larger."""
STAGED_BYTES = 1 << 26
"""Of each of the two buffers through which tensors go to a GPU."""


def read_ahead(items: Iterable[T], tensors_of: Callable[[T], Sequence[Tensor]]) -> Iterator[T]:
    """Yield items in order while the system reads the tensors of the next ones.

    Args:
        items: What will be taken.
        tensors_of: Returns the mapped tensors of an item.
    """
    waiting: deque[tuple[T, int]] = deque()
    ahead = 0
    for item in items:
        tensors = tensors_of(item)
        size = sum(tensor.nbytes for tensor in tensors)
        while waiting and ahead + size > AHEAD_BYTES:
            first, read = waiting.popleft()
            ahead -= read
            yield first
        for tensor in tensors:
            _advise(tensor, "MADV_WILLNEED")
        waiting.append((item, size))
        ahead += size
    for first, _ in waiting:
        yield first


def give_back(tensor: Tensor) -> None:
    """Let go of a mapped tensor's pages, which are read again if anyone asks.

    Args:
        tensor: Of a file that is mapped: other memory would lose what it holds.
    """
    _advise(tensor, "MADV_DONTNEED")


def _advise(tensor: Tensor, advice: str) -> None:
    """Tell the system, where it listens, what will become of the whole pages of a tensor."""
    if not hasattr(mmap, advice) or not tensor.is_contiguous():
        return
    page = mmap.PAGESIZE
    start = -(-tensor.data_ptr() // page) * page
    size = (tensor.data_ptr() + tensor.nbytes) // page * page - start
    if size > 0:
        madvise = ctypes.CDLL(None).madvise
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), getattr(mmap, advice))


class Upload:
    """Copies tensors from the host to one device, in one precision."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Make the buffers that a GPU needs: from other memory it copies in smaller pieces."""
        self._device, self._dtype = device, dtype
        stages = 2 if device.type == "cuda" else 0
        self._stages = deque(_Stage(device) for _ in range(stages))

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return a tensor of any shape on the device: itself if it is as it should be."""
        if not self._stages:
            return tensor.to(device=self._device, dtype=self._dtype)
        uploaded = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
        source, target = (x.view(-1).view(torch.uint8) for x in (tensor.contiguous(), uploaded))
        for start in range(0, len(source), STAGED_BYTES):
            end = start + STAGED_BYTES
            self._stages[0].copy(source[start:end], target[start:end])
            self._stages.rotate()
        return uploaded.to(self._dtype)


class _Stage:
    """Memory that a GPU copies from by itself, while the next piece goes into the other one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffer = torch.empty(STAGED_BYTES, dtype=torch.uint8, pin_memory=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def copy(self, piece: Tensor, place: Tensor) -> None:
        """Copy (n,) bytes from the host to the GPU, which may still be at it on return."""
        self._copied.synchronize()
        staged = self._buffer[: len(piece)]
        staged.copy_(piece)
        place.copy_(staged, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self._device))
