"""Threads that answer in the background and never keep a program from ending."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class DaemonThreadPool(Generic[T, R]):
    """Daemon threads that are started as work comes and end when there is none.

    The standard library's pool works off its queue before a program may end, which after an
    interruption would be minutes of questions that nobody waits for. Threads that waited for work
    would outlive the model that they ask for, and keep it in memory.
    """

    def __init__(self, count: int, work: Callable[[T], R]) -> None:
        """Do `work` in at most `count` threads."""
        self._count = count
        self._work = work
        self._lock = threading.Lock()
        self._waiting: deque[tuple[T, Future[R]]] = deque()
        self._running = 0

    def submit(self, item: T) -> Future[R]:
        """Return the result to come."""
        future: Future[R] = Future()
        with self._lock:
            if self._running < self._count:
                threading.Thread(target=self._run, name="request", daemon=True).start()
                self._running += 1
            self._waiting.append((item, future))
        return future

    def _run(self) -> None:
        while waiting := self._next():
            item, future = waiting
            try:
                future.set_result(self._work(item))
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                future.set_exception(error)

    def _next(self) -> tuple[T, Future[R]] | None:
        """Return what is to be done next; None for a thread that is to end."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._running -= 1
            return None
