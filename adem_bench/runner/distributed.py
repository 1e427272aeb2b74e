"""Several processes, one run: work is drawn from a shared counter, through torchrun's store.

Each process plans the same units and answers those whose number it draws, so that no
process waits for a slow one. No tensor travels: records are merged from files. Who dies is missed,
and the others answer what it has left.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.errors import AdemBenchError
from adem_bench.launcher import LAUNCHED, RENDEZVOUS, process_rank
from adem_bench.runner.batching import Unit

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import Store

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, which may load a model or score."""
MEETING_S = 15.0
"""After what time a process says that it waits for the first of them."""
BEAT_S, SILENT_S = 2.0, 60.0
"""How often a process says that it lives, and after what silence it counts as dead."""
LOOK_S = 0.02
"""How often one that waits looks; a store on another machine is asked as often."""
LINGER_S = 10.0
"""How long the last one waits for others to have read that they may go."""
GRACE_S = 30.0
"""What a process without its launcher may take to end by itself."""

_LOG = logging.getLogger(__name__)
_JOINED = count()
"""Numbers the calls of `_join_store` in this process."""


class SharedRunError(AdemBenchError):
    """Processes of a shared run have lost each other; the same command resumes it."""

    exit_code = 3


class Processes:
    """The processes that share a run; a single one, unless started by torchrun."""

    def __init__(self, patience: timedelta = PATIENCE) -> None:
        """Join the store that torchrun's environment variables name.

        Args:
            patience: How long a barrier waits for a process that lives.

        Raises:
            LaunchError: they are missing, or do not go together.
            SharedRunError: it cannot be reached.
        """
        place = process_rank()
        self.rank, self.world_size = place.rank, place.world_size
        self.local_rank, self.local_world_size = place.local_rank, place.local_world_size
        if LAUNCHED in os.environ:
            _end_with_launcher()
        self.store = _join_store() if self.world_size > 1 else None
        """What the processes share; None for a single one."""
        self._living = _Living(self.store, self.rank, self.world_size) if self.store else None
        self._patience = patience
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

    def new_run(self, folder: str = "") -> SharedRun:
        """Return the counter and the barriers of the next run; all processes call it alike.

        Args:
            folder: The run's: else each would answer a part of a run of its own.

        Raises:
            SharedRunError: another process has another folder.
        """
        run = SharedRun(self.store, self._living, f"run{next(self._runs)}", self._patience)
        run.agree("run folder", folder)
        return run


class SharedRun:
    """One run's unit counter, sums and barriers."""

    def __init__(
        self, store: Store | None, living: _Living | None, name: str, patience: timedelta
    ) -> None:
        """Begin a run.

        Args:
            store: What the processes share; None for a single process.
            living: Knows which of them live; None for a single process.
            name: With which all keys of this run begin.
            patience: How long a barrier waits for a process that lives.
        """
        self._store = store
        self._living = living
        self._name = name
        self._patience = patience
        self._sums: Counter[str] = Counter()
        self.dead: frozenset[int] = frozenset()
        """Processes that had died by the last barrier; all that live say the same."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the first of those that lived at the last barrier."""
        return self._living is None or self._living.rank == min(
            set(range(self._living.world_size)) - self.dead
        )

    def drawn(self, units: Iterable[Unit], attempt: int = 0) -> Iterator[Unit]:
        """Yield the units that this process is to answer.

        Args:
            units: As every process has planned them.
            attempt: How often units were planned anew, after a process had died.
        """
        if self._store is None:
            yield from units
            return
        number = self._draw(attempt)
        for unit in units:
            if unit.index == number:
                yield unit
                number = self._draw(attempt)

    def _draw(self, attempt: int) -> int:
        assert self._store is not None
        with reaching_the_others():
            return int(self._store.add(f"{self._name}/units{attempt}", 1)) - 1

    def add(self, name: str, count: int) -> int:
        """Add to a number that all processes share; return what it is then."""
        if self._store is None:
            self._sums[name] += count
            return self._sums[name]
        with reaching_the_others():
            return int(self._store.add(f"{self._name}/sum/{name}", count))

    def agree(self, name: str, value: str) -> None:
        """See to it that all processes have the same value; who comes first says which.

        Args:
            name: What it is, for messages.
            value: This process's.

        Raises:
            SharedRunError: another process has another.
        """
        if self._store is None or self._living is None:
            return
        with reaching_the_others():
            said = self._store.compare_set(f"{self._name}/{name}", "", value).decode()
        if said != value:
            raise SharedRunError(
                f"process {self._living.rank} of {self._living.world_size} has another {name} "
                f"({value}) than one that came before ({said}); code, data and settings must be "
                "the same for all"
            )

    def barrier(self, name: str) -> None:
        """Wait until every process that lives has come to the barrier of this name.

        Raises:
            SharedRunError: the store is gone, or a process has not come in time.
        """
        if self._store is None or self._living is None:
            return
        store, living, key = self._store, self._living, f"{self._name}/{name}"
        deadline = time.monotonic() + self._patience.total_seconds()
        with reaching_the_others():
            store.set(f"{key}/arrived/{living.rank}", "1")
            while not store.check([f"{key}/open"]):
                dead = living.dead()
                away = [
                    rank
                    for rank in range(living.world_size)
                    if rank not in dead and not store.check([f"{key}/arrived/{rank}"])
                ]
                if not away:
                    store.compare_set(f"{key}/open", "", json.dumps(sorted(dead)))
                elif time.monotonic() > deadline:
                    raise SharedRunError(
                        f"process {away[0]} of {living.world_size} has not come to {name!r} in "
                        f"{self._patience}; what was answered is kept, and the same command resumes"
                    )
                else:
                    time.sleep(LOOK_S)
            self.dead = frozenset(json.loads(store.get(f"{key}/open")))

    def leave(self) -> None:
        """End the run; the first process, in whose memory the store may be, goes last."""
        if self._store is None or self._living is None:
            return
        others = self._living.world_size - len(self.dead) - 1
        deadline = time.monotonic() + LINGER_S
        if not self.is_first:
            self.add("left", 1)
        else:
            while self.add("left", 0) < others and time.monotonic() < deadline:
                time.sleep(LOOK_S)


class _Living:
    """Which processes live: each says so in the store, and those of one machine see each other."""

    def __init__(self, store: Store, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self._store = store
        self._heard: dict[int, tuple[int, float]] = {}
        self._places: dict[int, tuple[str, int]] = {}
        self._ended = threading.Event()
        with reaching_the_others():
            store.set(f"place/{rank}", json.dumps([_machine(), os.getpid()]))
            store.add(f"beat/{rank}", 1)
        self._thread = threading.Thread(target=self._beat, name="beat", daemon=True)
        self._thread.start()
        # A thread that is in the store's code when Python ends would take the process down.
        atexit.register(self._end)

    def dead(self) -> set[int]:
        """Return the processes that have died, as far as this one knows."""
        return {
            rank for rank in range(self.world_size) if rank != self.rank and self._is_dead(rank)
        }

    def _is_dead(self, rank: int) -> bool:
        now = time.monotonic()
        beats, since = self._heard.get(rank, (-1, now))
        if rank not in self._places and self._store.check([f"place/{rank}"]):
            machine, process = json.loads(self._store.get(f"place/{rank}"))
            self._places[rank] = (machine, process)
        if rank not in self._places:
            return False  # it has yet to come; the barrier's patience is for it
        machine, process = self._places[rank]
        if machine == _machine() and not _is_alive(process):
            return True
        found = int(self._store.add(f"beat/{rank}", 0))
        if found != beats:
            self._heard[rank] = (found, now)
            return False
        return now - since > SILENT_S

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            try:
                self._store.add(f"beat/{self.rank}", 1)
            except RuntimeError:  # the store is gone, as whoever uses it will say
                return

    def _end(self) -> None:
        self._ended.set()
        self._thread.join(1)


def _machine() -> str:
    """Return what processes have in common that see each other by their numbers."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}"


def _is_alive(process: int) -> bool:
    """Return whether a process of this machine lives, and is not just waited for by its parent."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user, or no Linux
    return state.rpartition(")")[2].split()[0] not in "ZX"


@contextmanager
def reaching_the_others() -> Iterator[None]:
    """Turn what PyTorch raises where a process has died into an error of ours.

    Raises:
        SharedRunError: the store, or another process, is gone.
    """
    try:
        yield
    except RuntimeError as error:  # as all that the store raises
        raise SharedRunError(
            "the processes have lost each other: one of them, or their launcher, has ended "
            f"({str(error).splitlines()[0][:120]}); what was done is kept, and the same command "
            "resumes"
        ) from error


def join_process_group(processes: Processes, device: torch.device) -> bool:
    """Join PyTorch's process group; return whether there are several processes and it is new.

    Args:
        processes: Those that are in it.
        device: Of this process.

    Raises:
        SharedRunError: they cannot be reached.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    if device.type == "cuda":
        torch.cuda.set_device(device)  # where collective operations without a tensor run
    if processes.store is None or dist.is_initialized():
        return False
    with reaching_the_others():
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore("group", processes.store),
            rank=processes.rank,
            world_size=processes.world_size,
            # The others wait while the first one scores.
            timeout=PATIENCE,
        )
    atexit.register(leave_process_group)
    return True


def leave_process_group() -> None:
    """Leave PyTorch's process group, if there is one."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


_WATCHED = threading.Event()


def _end_with_launcher() -> None:
    """End this process once its launcher has died, which then ends nobody any more."""
    if _WATCHED.is_set():
        return
    _WATCHED.set()
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)  # it may wait for others in code that takes no signal
        os._exit(SharedRunError.exit_code)

    threading.Thread(target=watch, name="launcher", daemon=True).start()


def _join_store() -> Store:
    from torch.distributed.distributed_c10d import PrefixStore

    # PyTorch waits in code that takes no signal; this process takes one meanwhile.
    meeting: Future[Store] = Future()
    threading.Thread(target=_meet, args=(meeting,), name="meeting", daemon=True).start()
    if not wait([meeting], MEETING_S).done:
        variables = ("WORLD_SIZE", "RANK", *RENDEZVOUS)
        stated = " ".join(f"{name}={os.environ.get(name, '')}" for name in variables)
        _LOG.warning("waiting for the first process (%s), for half an hour at most", stated)
    with reaching_the_others():
        store = meeting.result()
    # All processes call alike, so the n-th call of each meets the n-th of the others, and no call
    # finds what an earlier one left in the store.
    return PrefixStore(f"call{next(_JOINED)}", store)


def _meet(meeting: Future[Store]) -> None:
    from torch.distributed.rendezvous import rendezvous

    try:
        meeting.set_result(next(iter(rendezvous("env://")))[0])
    except Exception as error:  # noqa: BLE001 - raised where it is waited for
        meeting.set_exception(error)
