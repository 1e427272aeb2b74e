"""Signals by which schedulers and terminals end a process: it ends as by Ctrl-C, and resumes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], None]
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def interrupting() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `KeyboardInterrupt`, once, with their name.

    One that is ignored (nohup) or handled already stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Who asks again does not interrupt the end.
        for one in ours:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    ours = [one for one in ENDING if signal.getsignal(one) == signal.SIG_DFL]
    with _handled(ours, interrupt):
        yield


def end_at_next() -> None:
    """Let another Ctrl-C end the process without a traceback: all is said and kept."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


class Ending:
    """Whether a process has been asked to end."""

    def __init__(self) -> None:
        """Nothing has been asked yet."""
        self.asked = ""
        """Name of the signal; empty if there was none."""
        self.at_once = False
        """Whether a signal interrupts instead of being noted."""


@contextmanager
def noted() -> Iterator[Ending]:
    """Note SIGTERM and SIGHUP instead, for work that first has something to write."""
    ending = Ending()

    def note(number: int, frame: FrameType | None) -> None:
        ending.asked = signal.Signals(number).name
        if ending.at_once:
            raise KeyboardInterrupt(ending.asked)

    with _handled([one for one in ENDING if signal.getsignal(one) != signal.SIG_IGN], note):
        yield ending


@contextmanager
def _handled(
    signals: list[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals by a function, where that can be: in a process's main thread."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {one: signal.signal(one, handler) for one in signals}
    try:
        yield
    finally:
        for one, handled in before.items():
            signal.signal(one, handled)
