from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from adem_bench.cli import main


@dataclass
class Finished:
    code: int
    out: str
    err: str


@pytest.fixture
def adem_bench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Finished]:
    """Runs a command line in an empty folder, as the console script would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADEM_BENCH_DATA", raising=False)
    monkeypatch.delenv("ADEM_BENCH_INCLUDE", raising=False)

    def call(*arguments: object) -> Finished:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Finished(int(stop.value.code or 0), captured.out, captured.err)

    return call
