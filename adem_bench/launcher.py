"""Which of several processes this one is: what torchrun and its like say in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from adem_bench.errors import AdemBenchError

LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Set by torchrun for its processes."""
RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT")
"""Where processes meet."""


class LaunchError(AdemBenchError):
    """The environment says that there are several processes, but not how they find each other."""


@dataclass(frozen=True, slots=True)
class ProcessRank:
    """A process's place among those of a run."""

    rank: int = 0
    world_size: int = 1
    """How many there are."""
    local_rank: int = 0
    local_world_size: int = 1
    """How many there are on this machine."""


def process_rank() -> ProcessRank:
    """Return this process's place; alone, unless `WORLD_SIZE` says otherwise.

    Raises:
        LaunchError: variables are missing, or are not numbers that go together.
    """
    world_size = _number("WORLD_SIZE", 1, least=1)
    if world_size == 1:
        return ProcessRank()
    missing = [name for name in ("RANK", *RENDEZVOUS) if not os.environ.get(name)]
    if missing:
        raise _error(
            f"the environment has WORLD_SIZE {world_size} but no {' and no '.join(missing)}"
        )
    rank = _number("RANK", 0)
    if rank >= world_size:
        raise _error(f"the environment has RANK {rank} of WORLD_SIZE {world_size}")
    _number("MASTER_PORT", 0, most=(1 << 16) - 1)
    return ProcessRank(
        rank, world_size, _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1, least=1)
    )


def is_main_process() -> bool:
    """Return whether this process speaks for all; where nobody can know, each does."""
    try:
        return process_rank().rank == 0
    except LaunchError:
        return True


def _number(name: str, otherwise: int, least: int = 0, most: int = 1 << 20) -> int:
    text = os.environ.get(name) or str(otherwise)
    # Of numbers with thousands of digits, Python reads none.
    if text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise _error(f"{name} in the environment is {text[:80]!r}, not a number from {least} to {most}")


def _error(what: str) -> LaunchError:
    return LaunchError(
        f"{what}; start several processes with torchrun, or unset WORLD_SIZE and RANK for one"
    )
