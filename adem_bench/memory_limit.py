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

LIBRARIES = ("numpy", "torch", "transformers.modeling_utils", "open_clip")
"""Those that are tried, each before its first import."""
ENOUGH = 16 << 30
"""Bytes that suffice for all libraries: under such a limit nothing is tried."""
MOST_CPU_S = 60
"""Of the processor's time. Loading takes some five seconds."""
TRIAL = """\
import mmap, resource, sys
from importlib import import_module
seconds, held, statm, *names = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for name in names:
    if name == names[-1]:
        used = int(open(statm).read().split()[0]) * resource.getpagesize() if statm else 0
        taken = mmap.mmap(-1, max(1, int(held) - used))
    module = import_module(name)
    if name == "numpy":
        module.ones((64, 64)) @ module.ones((64, 64))
"""
"""Loads libraries, the last one beside as much as is in use here.

OpenBLAS takes its memory with numpy's first product, and ends the process that has none.
"""
STATM = Path("/proc/self/statm")
"""Of Linux: the pages of this process."""
SPARE = 64 << 20
"""Bytes that the trial has less than this process: what it loads may lie otherwise."""


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
        """Begin with what is loaded already."""
        self._tried = [name for name in LIBRARIES if name in sys.modules]
        self._is_reserved = False

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Return nothing, so that others look."""
        if name in LIBRARIES and name not in self._tried:
            try_libraries([*self._tried, name], bytes_in_use())
            self._tried.append(name)  # what lacks memory is tried again if someone goes on
        self._reserve()

    def _reserve(self) -> None:
        """Have OpenBLAS take its memory as soon as numpy is loaded, before others take it."""
        numpy = sys.modules.get("numpy")
        if self._is_reserved or numpy is None or getattr(numpy.__spec__, "_initializing", False):
            return
        self._is_reserved = True
        numpy.ones((64, 64)) @ numpy.ones((64, 64))


def bytes_in_use() -> int:
    """Return how much address space this process takes; 0 where the system does not say it."""
    pages = int(STATM.read_text().split()[0]) if STATM.exists() else 0
    return pages * resource.getpagesize()


def try_libraries(names: Sequence[str], held: int, most_cpu_s: int = MOST_CPU_S) -> None:
    """Load libraries in another process.

    Args:
        names: Of modules. All but the last are loaded in this process as well.
        held: Bytes that this process takes; `SPARE` more are added.
        most_cpu_s: Seconds of the processor's time after which it is ended.

    Raises:
        MemoryError: it was ended, or lacked memory.
    """
    import subprocess

    # -P: no module of the current folder is meant.
    statm = str(STATM) if STATM.exists() else ""
    numbers = (str(most_cpu_s), str(held + SPARE), statm)
    trial = [sys.executable, "-P", "-c", TRIAL, *numbers, *names]
    ended = subprocess.run(trial, capture_output=True, check=False)  # noqa: S603 (our own code)
    said = ended.stderr.decode(errors="replace")
    is_short = MemoryError.__name__ in said or lacks_memory(RuntimeError(said))
    # Other errors are raised in this process as well.
    if ended.returncode < 0 or (ended.returncode and is_short):
        raise MemoryError(f"the limit on memory does not suffice to load {', '.join(names)}")
