"""What is installed is what works: the wheel carries the cards and runs far from the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml

import adem_bench

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


def test_type_checkers_are_told_that_the_package_is_typed(wheel):
    assert "adem_bench/py.typed" in names(wheel)


def test_the_description_makes_sense_outside_the_repository(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(archive.read(path))
    description = str(metadata.get_payload())
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert description.startswith("# adem-bench\n")
    assert [link for link in re.findall(r"\]\(([^)]+)\)", description) if "://" not in link] == []
    assert "<!--" not in description


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


def test_the_source_distribution_has_what_the_wheel_is_built_from(wheel, tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (folder for folder in tmp_path.iterdir() if folder.is_dir())
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (rebuilt,) = tmp_path.glob("*.whl")
    assert names(rebuilt) == names(wheel)
    assert not (source / "tests").exists()


def test_the_version_is_stated_alike_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert project["version"] == citation["version"] == adem_bench.__version__
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## {re.escape(adem_bench.__version__)}\b", changes, re.MULTILINE)
