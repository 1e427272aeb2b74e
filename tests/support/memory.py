"""How much memory a piece of work holds."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATM = Path("/proc/self/statm")


def peak_bytes(work: Callable[[], Any]) -> int:
    """Run it and return the most memory that it held at any of its calls, mapped files apart.

    The system's own figure (`ru_maxrss`) would not do: it counts the pages of files, which are
    given back whenever memory is short, and begins at what the parent process held.
    """
    gc.collect()
    before = peak = _own_pages()

    def look(*event: object) -> None:
        nonlocal peak
        peak = max(peak, _own_pages())

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return (peak - before) * resource.getpagesize()


def _own_pages() -> int:
    """Resident pages of no file."""
    _, resident, shared, *_ = STATM.read_bytes().split()
    return int(resident) - int(shared)
