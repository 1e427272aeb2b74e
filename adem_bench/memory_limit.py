"""A limit on memory that libraries do not survive, found out in another process.

Under a tight limit on address space (`ulimit -v`) some libraries end the process while they are
loaded (std::bad_alloc), and OpenBLAS asks for memory for ever. Neither can be caught here.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from adem_bench.errors import lacks_memory

LIBRARIES = ("torch", "transformers.modeling_utils", "open_clip")
"""Those that are tried, each before its first import."""
ENOUGH = 16 << 30
"""Bytes that suffice for all libraries: under such a limit nothing is tried."""
MOST_CPU_S = 60
"""Of the processor's time. Loading takes some five seconds."""
TRIAL = """\
import mmap, resource, sys
from importlib import import_module
seconds, held, *names = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
taken = mmap.mmap(-1, int(held))
for name in names:
    import_module(name)
"""
STATM = Path("/proc/self/statm")
"""Of Linux: the pages of this process."""
SPARE = 64 << 20
"""Bytes that the trial has less than this process: the order of what is loaded may differ."""


@contextmanager
def tried_under_limit() -> Iterator[None]:
    """Try large libraries in another process before they are imported in this one.

    Nothing happens without a limit that is tight.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY or limit > ENOUGH:
        yield
        return
    finder = _TriesLibraries()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _TriesLibraries:
    """Finds no module; tries a library when it is looked for, with those before it."""

    def __init__(self) -> None:
        """Remember the memory that is in use without any."""
        self._held = bytes_in_use()
        self._tried = [name for name in LIBRARIES if name in sys.modules]

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Return nothing, so that others look."""
        if name in LIBRARIES and name not in self._tried:
            self._tried.append(name)
            try_libraries(self._tried, self._held)


def bytes_in_use() -> int:
    """Return how much address space this process takes; 0 where the system does not say it."""
    pages = int(STATM.read_text().split()[0]) if STATM.exists() else 0
    return pages * resource.getpagesize()


def try_libraries(names: Sequence[str], held: int, most_cpu_s: int = MOST_CPU_S) -> None:
    """Load libraries in another process.

    Args:
        names: Of modules.
        held: Bytes that the process takes before; `SPARE` more are added.
        most_cpu_s: Seconds of the processor's time after which it is ended.

    Raises:
        MemoryError: it was ended, or lacked memory.
    """
    import subprocess

    # -P: no module of the current folder is meant.
    trial = [sys.executable, "-P", "-c", TRIAL, str(most_cpu_s), str(held + SPARE), *names]
    ended = subprocess.run(trial, capture_output=True, check=False)  # noqa: S603 (our own code)
    last = ended.stderr.decode(errors="replace").rpartition("\n")[0].rpartition("\n")[2]
    is_short = last.startswith(MemoryError.__name__) or lacks_memory(RuntimeError(last))
    if ended.returncode < 0 or is_short:  # other errors are raised in this process as well
        raise MemoryError(f"the limit on memory does not suffice to load {', '.join(names)}")
