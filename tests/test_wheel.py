"""What is installed is what works: the wheel carries the cards and runs far from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    # hatchling itself, in this environment: no isolation, no network.
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_adem_bench_is_the_only_importable_name(wheel):
    tops = {name.split("/")[0] for name in names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"adem_bench"}


@pytest.mark.parametrize("kind", ["models", "tasks"])
def test_every_card_is_inside(wheel, kind):
    cards = {f"adem_bench/_cards/{kind}/{path.name}" for path in (ROOT / kind).glob("*.yaml")}
    assert cards
    assert cards <= set(names(wheel))
    assert "adem_bench/_cards/results/published.csv" in names(wheel)


def test_every_template_of_a_page_is_inside(wheel):
    folder = "adem_bench/results/templates"
    files = {f"{folder}/{path.name}" for path in (ROOT / folder).iterdir()}
    assert f"{folder}/leaderboard.html" in files
    assert files <= set(names(wheel))


def test_no_caches_or_runs_are_inside(wheel):
    assert [name for name in names(wheel) if "__pycache__" in name or "samples.jsonl" in name] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["models"], "adem-7b"),
        (["models", "show", "adem-7b"], "adem_bench/_cards/models/adem-7b.yaml"),
        (["tasks"], "sqa"),
        (["leaderboard", "--published"], "ADEM-VL"),
        (["leaderboard", "--published", "--format", "html"], "<!doctype html>"),
    ],
)
def test_the_installed_package_works_from_a_foreign_folder(
    installed, tmp_path, arguments, expected
):
    environment = {name: value for name, value in os.environ.items() if "ADEM_BENCH" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "adem_bench", *arguments],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
