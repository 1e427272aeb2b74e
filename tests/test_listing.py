"""What is in a folder is read once, and anew where it changed."""

from __future__ import annotations

import os
import sys
import time

import pytest

from adem_bench.cards import list_cards
from adem_bench.errors import CardError
from adem_bench.listing import SETTLED_NS, Listing, listing
from adem_bench.registry import INCLUDE_VARIABLE, METRICS

METRIC = """
from adem_bench.registry import METRICS

@METRICS.register("late_metric")
def own(records): ...
"""


@pytest.fixture
def reads(monkeypatch):
    """The folders that are read."""
    found = []
    real = os.scandir

    def scandir(path):
        found.append(path)
        return real(path)

    monkeypatch.setattr("adem_bench.listing.os.scandir", scandir)
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # What Python compiles would be put there, and change the folder once more.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("b.yaml", "a.yaml", "m.py", "picture.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "plain").mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    settle(tmp_path)
    return tmp_path


def settle(folder):
    """Let a folder have changed a while ago."""
    before = time.time_ns() - 2 * SETTLED_NS
    os.utime(folder, ns=(before, before))


def test_a_folder_that_does_not_change_is_read_once(folder, reads):
    expected = Listing(("a.yaml", "b.yaml"), ("m.py",), ("package",))
    assert [listing(folder) for _ in range(3)] == [expected] * 3
    assert reads == [folder]
    (folder / "c.yaml").touch()
    # One that has just changed may change again: it is not relied on.
    assert listing(folder).cards == listing(folder).cards == ("a.yaml", "b.yaml", "c.yaml")
    assert len(reads) == 3


def test_what_is_no_folder_has_nothing(tmp_path):
    (tmp_path / "file").touch()
    assert listing(tmp_path / "file") == listing(tmp_path / "gone") == Listing()


def test_names_of_cards_are_looked_up_without_reading_a_folder_again(folder, reads, monkeypatch):
    monkeypatch.setenv(INCLUDE_VARIABLE, str(folder))
    (folder / "a.yaml").write_text("kind: echo")
    settle(folder)
    for _ in range(3):
        assert "a" in list_cards("models")
        METRICS.table()
    assert reads.count(folder) == 1
    # A card that becomes one of another kind does not change its folder.
    (folder / "a.yaml").write_text("tasks: [mini_sqa]")
    assert "a" not in list_cards("models")
    assert "a" in list_cards("tasks")


def test_a_folder_that_becomes_a_package_is_found_by_its_name(folder, monkeypatch):
    monkeypatch.setenv(INCLUDE_VARIABLE, str(folder))
    with pytest.raises(CardError):
        METRICS.load("late_metric")
    (folder / "plain" / "__init__.py").write_text(METRIC)
    assert METRICS.load("late_metric").__name__ == "own"
