"""An end to what would otherwise hang, generous enough for any machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

DEADLINE_S = 120


@contextmanager
def deadline(seconds: int = DEADLINE_S) -> Iterator[None]:
    """Fail if what stands within does not come to an end; for the main thread."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
