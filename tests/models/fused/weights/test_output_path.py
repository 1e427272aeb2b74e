"""Conversions write whole results or none, and remove nothing but earlier results."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from adem_bench.errors import CheckpointError, ResultsError
from adem_bench.models.fused.weights.output_path import atomic_output, check_target


def write(folder, text):
    folder.mkdir()
    (folder / "a.json").write_text(text)


def test_a_folder_appears_with_its_last_file_and_replaces_the_one_before(tmp_path):
    target = tmp_path / "new" / "target"
    for text in ("first", "second"):
        with atomic_output(target) as partial:
            write(partial, text)
            assert (text == "second") == target.exists()
        assert (target / "a.json").read_text() == text
        assert [path.name for path in target.parent.iterdir()] == ["target"]


def write_and_raise(target, text, error):
    with atomic_output(target) as partial:
        write(partial, text)
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, CheckpointError])
def test_whatever_ends_the_writing_leaves_the_earlier_result(tmp_path, error):
    write(tmp_path / "target", "first")
    with pytest.raises(error):
        write_and_raise(tmp_path / "target", "second", error)
    assert (tmp_path / "target" / "a.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_the_earlier_result_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    target = tmp_path / "target"
    write(target, "first")
    replace = Path.replace

    def refuse(path, to):
        if to == target and path.parent.name.startswith(".target.") and path.name == "target":
            raise OSError(errno.EIO, "Input/output error")
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ResultsError, match="Input/output error"), atomic_output(target) as partial:
        write(partial, "second")
    assert (target / "a.json").read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def wrapped() -> RuntimeError:
    error = RuntimeError("unexpected pos 704 vs 598")
    error.__context__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: No space left on device (os error 28)"),
        wrapped(),
    ],
    ids=["plain", "safetensors", "torch"],
)
def test_a_full_disk_is_told_however_it_is_wrapped(tmp_path, error):
    with pytest.raises(ResultsError, match="no space left to write"):
        write_and_raise(tmp_path / "target", "part", error)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_torch_are_not_taken_for_the_disks(tmp_path):
    with pytest.raises(RuntimeError, match="shape"), atomic_output(tmp_path / "t"):
        raise RuntimeError("a shape is wrong")


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    write(tmp_path / "real", "first")
    (tmp_path / "link").symlink_to("real")
    with atomic_output(tmp_path / "link") as partial:
        write(partial, "second")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a.json").read_text() == "second"


def test_a_target_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "target"
    with pytest.raises(ResultsError, match="cannot write"), atomic_output(target):
        pass


KNOWN = ("a.json", "part*.bin")


@pytest.mark.parametrize(
    ("source", "target", "content", "message"),
    [
        ("folder", "folder", KNOWN, "one contains the other"),
        ("folder", "folder/deep", KNOWN, "one contains the other"),
        ("folder/a.json", "folder", KNOWN, "one contains the other"),
        ("folder/a.json", "folder/../folder/a.json", (), "one contains the other"),
        ("file", "folder", (), "is a folder, and the result is a file"),
        ("folder", "file", KNOWN, "is a file, and the result is a folder"),
        ("file", "mixed", KNOWN, "also holds notes.txt, which --overwrite would remove"),
    ],
)
def test_a_target_that_would_lose_something_is_refused(tmp_path, source, target, content, message):
    write(tmp_path / "folder", "x")
    write(tmp_path / "mixed", "x")
    (tmp_path / "mixed" / "notes.txt").touch()
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=message):
        check_target(tmp_path / source, tmp_path / target, overwrite=True, content=content)


def test_an_earlier_result_may_be_replaced_only_when_asked(tmp_path):
    write(tmp_path / "target", "x")
    (tmp_path / "target" / "part-1.bin").touch()
    check_target(tmp_path / "source", tmp_path / "target", overwrite=True, content=KNOWN)
    with pytest.raises(CheckpointError, match="--overwrite"):
        check_target(tmp_path / "source", tmp_path / "target", overwrite=False, content=KNOWN)
