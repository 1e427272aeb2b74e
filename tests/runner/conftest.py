from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.processes import Done, Python


@pytest.fixture
def environment(mini: Path) -> dict[str, str]:
    """An environment for commands: tiny models are fastest on one thread."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def command(parity_card: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Makes what follows `python` to run the tiny model on mini MME below `tmp_path`."""

    def make(*more: object, results: str = "results", tasks: str = "mini_mme") -> list[str]:
        fixed = ["run", "--model", parity_card, "--tasks", tasks, "--results", tmp_path / results]
        return ["-m", "adem_bench", *map(str, [*fixed, *more])]

    return make


@pytest.fixture
def finish(environment: dict[str, str], tmp_path: Path) -> Callable[[list[str]], Done]:
    """Runs a command to its end in a process of its own."""

    def run(arguments: list[str]) -> Done:
        return Python(arguments, tmp_path / "finished", environment).wait()

    return run


@pytest.fixture(autouse=True)
def _on_one_thread(one_thread: None) -> None:
    """All tests here run tiny models."""
