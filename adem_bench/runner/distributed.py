"""Several processes, one run: work is drawn from a shared counter, through torchrun's store.

Each process plans the same units and answers those whose number it draws, so that no
process waits for a slow one. No tensor travels: records are merged from files.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

from adem_bench.runner.batching import Unit

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

# A process waits for the slowest one's last unit; torchrun ends the wait if one dies.
PATIENCE = timedelta(days=7)


_JOINED = count()
"""Numbers the calls of `_join_store` in this process."""


class Processes:
    """The processes that share a run; a single one, unless started by torchrun."""

    def __init__(self) -> None:
        """Join the store that torchrun's environment variables name."""
        self.rank = int(os.environ.get("RANK", "0"))
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.store = _join_store() if self.world_size > 1 else None
        """What the processes share; None for a single one."""
        self._runs = count()

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def own_device(self, device: str) -> str:
        """Return `device`, or the GPU of this process for `auto` where several share a machine."""
        import torch

        if device == "auto" and self.world_size > 1 and torch.cuda.is_available():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return device

    def new_run(self) -> SharedRun:
        """Return the counter and the barriers of the next run; all processes call it alike."""
        return SharedRun(self.store, self.world_size, f"run{next(self._runs)}")


class SharedRun:
    """One run's unit counter, sums and barriers."""

    def __init__(self, store: Store | None, world_size: int, name: str) -> None:
        """Begin a run.

        Args:
            store: What the processes share; None for a single process.
            world_size: Number of processes.
            name: With which all keys of this run begin.
        """
        self._store = store
        self._world_size = world_size
        self._name = name
        self._sums: Counter[str] = Counter()

    def drawn(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """Yield the units that this process is to answer."""
        if self._store is None:
            yield from units
            return
        number = self._draw()
        for unit in units:
            if unit.index == number:
                yield unit
                number = self._draw()

    def _draw(self) -> int:
        assert self._store is not None
        return int(self._store.add(f"{self._name}/units", 1)) - 1

    def add(self, name: str, count: int) -> int:
        """Add to a number that all processes share; return what it is then."""
        if self._store is None:
            self._sums[name] += count
            return self._sums[name]
        return int(self._store.add(f"{self._name}/sum/{name}", count))

    def barrier(self, name: str) -> None:
        """Wait until every process has come to the barrier of this name."""
        if self._store is None:
            return
        key = f"{self._name}/{name}"
        if self._store.add(f"{key}/arrived", 1) == self._world_size:
            self._store.set(f"{key}/open", "1")
        self._store.wait([f"{key}/open"], PATIENCE)


def _join_store() -> Store:
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store: Store = next(iter(rendezvous("env://")))[0]
    # All processes call alike, so the n-th call of each meets the n-th of the others, and no call
    # finds what an earlier one left in the store.
    return PrefixStore(f"call{next(_JOINED)}", store)
