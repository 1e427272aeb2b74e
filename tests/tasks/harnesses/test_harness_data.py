"""The data of the stand-in of VLMEvalKit: what is there, and fetching it only when asked."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from adem_bench.cli import main
from adem_bench.tasks.harnesses.catalogue import catalogue, is_on_disk
from adem_bench.tasks.harnesses.process import VLMEVALKIT


def said(capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    return int(stop.value.code or 0), "".join(capsys.readouterr())


@pytest.fixture
def moved(stand_ins, tmp_path, monkeypatch) -> Path:
    """A folder of data with MME alone, and a mirror that has POPE."""
    data, mirror = tmp_path / "LMUData", tmp_path / "mirror"
    for folder in (data, mirror):
        folder.mkdir()
    shutil.copy(stand_ins / "LMUData" / "MME.tsv", data)
    shutil.copy(stand_ins / "LMUData" / "MME.tsv", mirror / "POPE.tsv")
    monkeypatch.setenv("LMUData", str(data))
    monkeypatch.setenv("MINI_MIRROR", mirror.as_uri())
    return data


def test_urls_and_digests_are_read_from_the_text(stand_ins):
    found = catalogue(VLMEVALKIT)
    assert "vlmeval" not in sys.modules
    assert (found["Between"].url, found["Between"].md5) == (
        "https://example.org/Between.tsv",
        "0" * 32,
    )
    assert (found["MME"].url, found["MME"].md5) == ("https://example.org/MME.tsv", "")
    assert found["Both"].parts == "MME POPE"


def test_status_lists_the_files_and_reads_none(moved, capsys):
    code, shown = said(
        capsys, "data", "status", "vlmevalkit:MME", "vlmevalkit:Between", "--format", "json"
    )
    assert not code
    there, missing = json.loads(shown)["tasks"]
    assert (there["state"], missing["state"]) == ("there", "missing")
    [file] = missing["files"]
    assert file["path"] == str(moved / "Between.tsv")
    assert file["digests"] == {"md5": "0" * 32}
    assert file["fetched_by_command"]
    known = catalogue(VLMEVALKIT)
    assert not is_on_disk(VLMEVALKIT, known["Both"])


def test_data_is_fetched_when_asked_and_never_replaced(moved, capsys):
    code, shown = said(capsys, "data", "fetch", "vlmevalkit:POPE")
    assert not code, shown
    assert f"vlmevalkit:POPE: fetched, below {moved}" in shown
    file = moved / "POPE.tsv"
    file.write_text(file.read_text() + "\n")
    before = file.read_bytes()
    code, shown = said(capsys, "data", "fetch", "vlmevalkit:POPE")
    assert (code, file.read_bytes()) == (0, before)
    assert "already there, unchecked" in shown
    other = moved / "Between.tsv"
    other.write_text("mine")
    code, shown = said(capsys, "data", "fetch", "vlmevalkit:Between")
    assert (code, other.read_text()) == (2, "mine")
    assert "move it away to fetch it again" in shown


def test_what_cannot_be_fetched_is_an_error_in_their_words(moved, capsys, monkeypatch):
    monkeypatch.setenv("MINI_MIRROR", (moved / "nowhere").as_uri())
    code, shown = said(capsys, "data", "fetch", "vlmevalkit:POPE")
    assert code == 2
    assert "VLMEvalKit, fetching POPE: URLError" in shown
    assert not (moved / "POPE.tsv").exists()
