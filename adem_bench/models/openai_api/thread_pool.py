"""Threads that answer in the background and never keep a program from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class DaemonThreadPool(Generic[T, R]):
    """A pool of daemon threads.

    The standard library's pool works off its queue before a program may end, which after an
    interruption would be minutes of questions that nobody waits for.
    """

    def __init__(self, count: int, work: Callable[[T], R]) -> None:
        """Start `count` threads that do `work`."""
        self._work = work
        self._queue: SimpleQueue[tuple[T, Future[R]]] = SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._run, name=f"request-{number}", daemon=True).start()

    def submit(self, item: T) -> Future[R]:
        """Return the result to come."""
        future: Future[R] = Future()
        self._queue.put((item, future))
        return future

    def _run(self) -> None:
        while True:
            item, future = self._queue.get()
            try:
                future.set_result(self._work(item))
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                future.set_exception(error)
