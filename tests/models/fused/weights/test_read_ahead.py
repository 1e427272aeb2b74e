"""Mapped tensors: read a little ahead of use, and given back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from adem_bench.models.fused.weights import read_ahead as module
from adem_bench.models.fused.weights.llama import load_language_model
from adem_bench.models.fused.weights.read_ahead import give_back, read_ahead
from support.llama_folders import consolidated

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")


def resident(file: Path) -> int:
    """Return how many bytes of a mapped file are in this process's memory."""
    found, is_here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            is_here = line.endswith(str(file))
        elif is_here and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


@linux
def test_pages_that_are_given_back_leave_memory_and_are_read_again(tmp_path):
    file = tmp_path / "weights.pth"
    written = torch.arange(1 << 20)
    torch.save(written, file)
    mapped = torch.load(file, mmap=True)
    assert torch.equal(mapped, written)
    assert resident(file) >= written.nbytes - 8192
    give_back(mapped)
    assert resident(file) < 16384
    assert torch.equal(mapped, written)


@linux
def test_a_model_s_file_is_not_in_memory_next_to_it(tmp_path):
    consolidated(tmp_path, width=256, hidden=768, layers=6)
    file = tmp_path / "consolidated.00.pth"
    seen = []

    def look(layer: torch.nn.Module) -> None:
        layer.to(torch.bfloat16)  # as what has been converted
        seen.append(resident(file))

    load_language_model(tmp_path, torch.float16, torch.device("cpu"), look)
    assert len(seen) == 6
    assert max(seen) < file.stat().st_size / 3


def test_no_more_is_read_ahead_than_fits(monkeypatch):
    monkeypatch.setattr(module, "AHEAD_BYTES", 100)
    advised: list[int] = []
    monkeypatch.setattr(module, "_advise", lambda tensor, _: advised.append(tensor.nbytes))
    sizes = [40, 40, 40, 300, 10]
    items = read_ahead(sizes, lambda size: [torch.empty(size, dtype=torch.uint8)])
    assert next(items) == 40
    assert advised == [40, 40]
    assert [next(items), next(items)] == [40, 40]
    assert advised == [40, 40, 40]
    assert [*items] == [300, 10]
    assert advised == sizes
