"""What other packages add is found without asking each of them at every question."""

from __future__ import annotations

import importlib.metadata
import os

import pytest

from adem_bench.entry_points import entry_points
from adem_bench.registry import METRICS

GROUP = "adem_bench.things"


@pytest.fixture
def asked(monkeypatch):
    """The groups that `importlib.metadata` was asked for."""
    found = []
    real = importlib.metadata.entry_points

    def counted(**more):
        found.append(more["group"])
        return real(**more)

    monkeypatch.setattr(importlib.metadata, "entry_points", counted)
    return found


def install(folder, name, text):
    """Puts a package's metadata where it would be installed."""
    place = folder / f"{name}-1.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (place / "entry_points.txt").write_text(text)
    later(folder)


def later(folder):
    """Lets a folder's time be that of a later change: clocks of file systems are coarse."""
    os.utime(folder, ns=(0, folder.stat().st_mtime_ns + 10**9))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of `sys.path`."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_package_that_is_installed_meanwhile_is_found_and_one_that_is_removed_is_not(site):
    assert GROUP not in str(entry_points(GROUP))
    install(site, "pets", f"[{GROUP}]\ncat = pets:Cat\n")
    (found,) = entry_points(GROUP)
    assert (found.name, found.value) == ("cat", "pets:Cat")
    (site / "pets-1.0.dist-info").rename(site / "gone")
    later(site)
    later(site)
    assert not entry_points(GROUP)


def test_packages_are_asked_once(site, asked):
    install(site, "pets", "[adem_bench.metrics]\ncats = json:loads\n")
    assert {METRICS.load("cats").__name__ for _ in range(3)} == {"loads"}
    assert asked == ["adem_bench.metrics"]


def test_an_archive_on_the_path_may_add_too(tmp_path, monkeypatch, asked):
    archive = tmp_path / "pets.zip"
    archive.write_bytes(b"PK\5\6" + bytes(18))
    monkeypatch.syspath_prepend(archive)
    assert not entry_points(GROUP)
    assert asked == [GROUP]
