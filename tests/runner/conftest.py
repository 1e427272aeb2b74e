from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mini_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini benchmark, made once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def environment(mini_cache: Path) -> dict[str, str]:
    """An environment for commands: tiny models are fastest on one thread."""
    return os.environ | {"ADEM_BENCH_CACHE": str(mini_cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def command(parity_card: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Makes a command line that runs the tiny model on mini MME below `tmp_path`."""

    def make(*more: object, results: str = "results", tasks: str = "mini_mme") -> list[str]:
        fixed = ["run", "--model", parity_card, "--tasks", tasks, "--results", tmp_path / results]
        return [sys.executable, "-m", "adem_bench", *map(str, [*fixed, *more])]

    return make


@pytest.fixture
def finish(environment: dict[str, str]) -> Callable[[list[str]], subprocess.CompletedProcess[str]]:
    """Runs a command to its end."""

    def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments, env=environment, capture_output=True, text=True, timeout=240
        )

    return run


@pytest.fixture(autouse=True)
def _on_one_thread(one_thread: None) -> None:
    """All tests here run tiny models."""
