from __future__ import annotations

import bz2
import errno
import gzip
import json
import lzma
import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adem_bench import files
from adem_bench.errors import AdemBenchError, ResultsError
from adem_bench.files import (
    MAX_NAME_BYTES,
    check_regular,
    disk_error,
    exists,
    expand_home,
    file_name,
    is_file,
    is_utf8,
    open_bytes,
    open_text,
    read_json,
    read_settings,
    read_text,
    sha256,
    why_missing,
    write_atomically,
    write_json,
)
from adem_bench.prompts import whole
from adem_bench.results.run_folder import run_place

UNMARKED = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize("name", ["a", "ä b", "x" * 255, "caf\udce9", "..a", "ä" * 127])
def test_a_name_that_a_file_can_have_stays(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", ["x" * 256, "ä" * 128, "😀" * 400, "caf\udce9" * 100])
def test_a_longer_name_is_cut_and_still_differs_from_others(tmp_path, name):
    made = file_name(name)
    assert len(os.fsencode(made)) <= MAX_NAME_BYTES
    assert made[:3] == name[:3]
    assert made != file_name(f"{name}x")
    (tmp_path / made).mkdir()


@pytest.mark.parametrize("name", ["\0", "a\0b", "\ud83d", "a\udfffb", ".", ".."])
def test_what_no_file_can_be_called_becomes_a_line(tmp_path, name):
    (tmp_path / file_name(name)).mkdir()
    assert set(file_name(name)) <= set("ab_")


@given(st.text(st.characters(exclude_characters="/")).filter(bool))
def test_any_name_can_be_made_one(name):
    made = file_name(name)
    assert made.strip(".")
    assert "\0" not in made
    assert len(os.fsencode(made)) <= MAX_NAME_BYTES


def test_runs_of_short_names_stay_where_they_are_and_others_differ():
    identity = {"task": "sqa", "split": "test", "blind": False, "limit": None}
    assert run_place("a:b/c d", identity) == Path("a_b_c_d/sqa/test-75a28068")
    model, task, run = run_place("m" * 300, {**identity, "task": "t" * 300}).parts
    assert model == file_name("m" * 300)
    assert task == file_name("t" * 300)
    assert len(run) < MAX_NAME_BYTES
    split = run_place("m", {**identity, "split": "s" * 300}).name
    assert len(split) <= MAX_NAME_BYTES


def test_halves_of_characters_are_written_as_json_writes_them(tmp_path):
    path = tmp_path / "a.json"
    data = {"path": "caf\udce9", "half": "\ud83d", "whole": "é😀"}
    write_json(path, data)
    assert json.loads(path.read_text(encoding="utf-8")) == data
    assert "é😀" in path.read_text(encoding="utf-8")
    write_atomically(path, ["a\udce9", "b"])
    assert path.read_bytes() == rb"a\udce9b"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_text_is_read_in_the_encoding_it_states(tmp_path, encoding):
    (tmp_path / "a").write_bytes("ä\r\nb\n".encode(encoding))
    assert read_text(tmp_path / "a") == "ä\nb\n"


@pytest.mark.parametrize("content", [b"\xff", b"\xff\xfea", b"caf\xe9", b"\xff\xfe\0\0a"])
def test_a_text_that_is_not_in_its_encoding_is_no_text(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="codec can't decode"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer; run `git lfs pull`"),
        (b"\n<!DOCTYPE html><html>", "web page; fetch it again"),
        (b"<?xml version='1.0'?><Error>", "XML, perhaps a server's refusal"),
        (gzip.compress(b"{}", mtime=0), "compressed; unpack it"),
        (bz2.compress(b"{}"), "compressed; unpack it"),
        (lzma.compress(b"{}"), "compressed; unpack it"),
        (b"PK\x03\x04", "an archive or a spreadsheet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "old or encrypted Office file"),
        (b"%PDF-1.4", "PDF"),
        (b"\0" * 100, "begins with NUL bytes"),
        *(('{"a": "größer"}'.encode(name), "without a byte order mark") for name in UNMARKED),
    ],
)
def test_a_file_that_is_no_text_is_told_by_what_it_is(tmp_path, content, found):
    (tmp_path / "a").write_bytes(content)
    for read in (read_text, read_json, read_settings):
        with pytest.raises(ValueError, match=found):
            read(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"<", b"a\0b", b"PK", b"\0", b"<xml", b"BZh1"])
def test_an_odd_text_is_a_text(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert read_text(tmp_path / "a") == content.decode()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud83d", "none"])
def test_what_no_file_can_be_called_is_not_there(tmp_path, name):
    assert not exists(tmp_path / name)
    assert not is_file(tmp_path / name)
    assert exists(tmp_path)
    assert not is_file(tmp_path)


def test_what_lies_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        "link": "is a link to nowhere, which is missing",
        "file": "is a file and not a folder",
        "loop": "is a link that leads back to itself",
    }
    for name, reason in reasons.items():
        for path in (tmp_path / name, tmp_path / name / "below"):
            with pytest.raises(OSError, match=name) as caught:
                path.mkdir(parents=True, exist_ok=True)
            assert f"{tmp_path / name} {reason}" in str(disk_error(path, caught.value))


def test_a_path_that_is_too_long_is_told_with_a_remedy():
    error = disk_error(Path("a"), OSError(errno.ENAMETOOLONG, "File name too long"))
    assert "name a folder with a shorter path" in str(error)


@pytest.mark.parametrize(
    ("name", "expected"), [("ä", True), ("caf\udce9", False), ("\ud83d", False)]
)
def test_whether_a_path_is_utf8(tmp_path, name, expected):
    assert is_utf8(tmp_path / name) is expected
    assert is_utf8(tmp_path / name / "a") is expected


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home folder."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_home_folder_that_there_is_not_is_told(homeless, tmp_path):
    assert expand_home(tmp_path) == tmp_path
    assert expand_home("a/~") == Path("a/~")
    with pytest.raises(AdemBenchError, match="there is no home folder that ~ could stand for"):
        expand_home("~/a")
    with pytest.raises(AdemBenchError, match="nobody-of-this-name/a: there is no home"):
        expand_home("~nobody-of-this-name/a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("é😀", "é😀"),
        ("\ud83d\ude00", "😀"),
        ("a\ud83d", "a?"),
        ("\ude00\ud83d", "??"),
        ("caf\udce9", "caf?"),
    ],
)
def test_halves_of_characters_leave_a_text(text, expected):
    assert whole(text) == expected


def test_a_device_or_a_pipe_is_written_into_and_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, "told")
        assert os.read(reader, 99) == b"told"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_what_a_process_has_open_is_written_into(tmp_path):
    with (tmp_path / "shown").open("w+") as stream:
        for name in (f"/dev/fd/{stream.fileno()}", f"/proc/self/fd/{stream.fileno()}"):
            write_atomically(Path(name), "told")
            assert stream.seek(0) == 0
            assert stream.read() == "told"


@pytest.fixture(params=["pipe", "device"])
def endless(request, tmp_path):
    """What a reader would wait for, or read for ever."""
    path = tmp_path / "a.json"
    os.mkfifo(path) if request.param == "pipe" else path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize(
    "read", [open_bytes, open_text, read_text, read_json, sha256, check_regular]
)
def test_no_reader_waits_for_a_pipe_or_reads_a_device(endless, read):
    with pytest.raises((OSError, ValueError), match="not a regular file"):
        read(endless)
    assert "a pipe or a device" in why_missing(endless)


def test_a_pipe_that_nobody_writes_to_is_empty_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WRITER_S", 0)
    os.mkfifo(tmp_path / "pipe")
    assert read_settings(tmp_path / "pipe") == ""


def test_a_pipe_that_nobody_reads_takes_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ResultsError, match="a pipe that nothing reads"):
        write_json(tmp_path / "pipe", {})


def test_what_is_added_to_is_a_file_like_any_other(tmp_path):
    for _ in range(2):
        with files.open_to_append(tmp_path / "a") as stream:
            stream.write(b"x")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").read_bytes() == b"xx"
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe that nothing reads"):
        files.open_to_append(tmp_path / "pipe")


def test_a_link_that_leads_nowhere_is_told_from_nothing(tmp_path):
    (tmp_path / "link").symlink_to("gone")
    assert why_missing(tmp_path / "link") == "is a link to gone, which is missing"
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    assert why_missing(tmp_path / "one") == "is a link that leads back to itself"
    assert why_missing(tmp_path) == "is a folder"
    assert why_missing(tmp_path / "none") == why_missing(Path("a\0b")) == "is missing"
