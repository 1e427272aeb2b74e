"""Python in processes of its own that start at once: forked from one that imported everything.

A process that imports PyTorch and transformers needs seconds before it does anything. These come
out of one server that has done so, and are as real otherwise: with a memory, an environment and
output of their own, and killed like any other.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

DEADLINE_S = 240
RANKS = ("RANK", "LOCAL_RANK")


@cache
def _server() -> ForkServerContext:
    """Start the one that imports everything, at the first call."""
    server = get_context("forkserver")
    server.set_forkserver_preload(["support.preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return server


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    returncode: int
    stdout: str
    stderr: str


class Python:
    """A process that runs what `python ARGUMENTS` would run."""

    def __init__(
        self,
        arguments: Sequence[object],
        output: Path,
        environment: Mapping[str, str] = os.environ,
        held: object = None,
    ) -> None:
        """Start it.

        Args:
            arguments: What would follow `python`.
            output: Beside it are the two files, named after it, that hold what is printed.
            environment: All of its variables.
            held: Kept as long as this object, for it needs it.
        """
        self._held = held
        self._files = [output.with_name(f"{output.name}.{name}") for name in ("stdout", "stderr")]
        given = ([str(argument) for argument in arguments], self._files, dict(environment))
        self._process = _server().Process(target=_run, args=given, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it as the system does when memory is out: with SIGKILL."""
        self._process.kill()
        self._process.join()

    def wait(self) -> Done:
        """Wait for its end."""
        self._process.join(DEADLINE_S)
        hangs = self._process.exitcode is None
        if hangs:
            self.kill()
        told = [file.read_text() for file in self._files]
        assert not hangs, f"no end after {DEADLINE_S} s: {told}"
        return Done(self._process.exitcode, *told)


def several(
    count: int,
    arguments: Sequence[object],
    output: Path,
    environment: Mapping[str, str] = os.environ,
) -> list[Python]:
    """Start processes that find each other as those of torchrun do: in a store of their parent."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": store.port,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "TORCHELASTIC_USE_AGENT_STORE": True,
        "TORCHELASTIC_RESTART_COUNT": 0,
    }
    started = []
    for rank in range(count):
        own = {name: str(value) for name, value in (shared | dict.fromkeys(RANKS, rank)).items()}
        place = output.with_name(f"{output.name}.{rank}")
        started.append(Python(arguments, place, {**environment, **own}, store))
    return started


def _run(arguments: list[str], files: list[Path], environment: dict[str, str]) -> None:
    """Become `python ARGUMENTS`."""
    os.environ.clear()
    os.environ.update(environment)
    for stream, file in zip((sys.stdout, sys.stderr), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream.fileno())
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
