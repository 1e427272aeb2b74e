"""Downloads, against a server on the loopback interface."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from adem_bench.data.downloading import Download, Redirects, digest_of, fetch
from adem_bench.errors import DownloadError, ResultsError
from support.file_server import serving

BODY = bytes(range(256)) * 1000
SIZE, SHA256 = len(BODY), hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server():
    """Serves BODY at /a.pth; other paths misbehave as their names say."""
    with serving() as server:
        server.files["/a.pth"] = BODY
        server.redirects |= {"/moved": "/a.pth", "/to-a-file": "file:///etc/hostname"}
        server.pages["/login"] = b"<html>sign in</html>"
        server.silent.add("/silent")
        yield server


@pytest.fixture
def wanted(server, tmp_path):
    def make(path="/a.pth", size=SIZE, sha256=SHA256):
        digests = {"sha256": sha256} if sha256 else {}
        return Download(server.url + path, tmp_path / "weights" / "a.pth", size, digests)

    return make


def quiet(done, total):
    pass


def test_a_file_arrives_whole_checked_and_without_leftovers(wanted, tmp_path):
    seen = []
    download = wanted()
    assert fetch(download, lambda done, total: seen.append((done, total))) == "fetched"
    assert download.target.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    visible = [path.name for path in download.target.parent.iterdir() if path.name[0] != "."]
    assert visible == ["a.pth"]


def test_a_file_that_is_there_is_checked_and_not_fetched_again(wanted, server):
    fetch(wanted(), quiet)
    assert fetch(wanted(), quiet) == "already there"
    assert len(server.asked) == 1


def test_another_file_in_the_place_is_left_alone(wanted, server):
    download = wanted()
    download.target.parent.mkdir()
    download.target.write_bytes(b"my own weights")
    with pytest.raises(DownloadError, match="has 14 bytes, published are 256000; move it away"):
        fetch(download, quiet)
    assert download.target.read_bytes() == b"my own weights"
    assert server.asked == []


def test_a_broken_off_download_continues_where_it_was(wanted, server):
    server.cut_after = 100_000
    with pytest.raises(DownloadError, match=r"broken off after 100000 bytes.*same command"):
        fetch(wanted(), quiet)
    assert not wanted().target.exists()
    server.cut_after = None
    assert fetch(wanted(), quiet) == "fetched"
    assert wanted().target.read_bytes() == BODY
    assert server.asked == [("/a.pth", None), ("/a.pth", "bytes=100000-")]


def test_halves_of_two_versions_are_never_joined(wanted, server):
    server.cut_after = 100_000
    with pytest.raises(DownloadError):
        fetch(wanted(), quiet)
    wanted().part.write_bytes(b"x" * 100_000)  # the older version's bytes
    server.etag, server.cut_after = '"v2"', None
    assert fetch(wanted(), quiet) == "fetched"
    assert wanted().target.read_bytes() == BODY


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_version_from_the_server_the_download_starts_over(wanted, server, etag):
    server.etag, server.cut_after = etag, 100_000
    with pytest.raises(DownloadError):
        fetch(wanted(), quiet)
    server.cut_after = None
    fetch(wanted(), quiet)
    assert server.asked[-1] == ("/a.pth", None)
    assert wanted().target.read_bytes() == BODY


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_whole_part_file_is_only_checked_and_renamed(wanted, server, size):
    download = wanted(size=size)
    download.target.parent.mkdir()
    download.part.write_bytes(BODY)
    download.tag.write_text('"v1"')
    assert fetch(download, quiet) == "fetched"
    assert download.target.read_bytes() == BODY
    assert not download.part.exists()


def test_wrong_bytes_are_thrown_away_with_both_hashes_named(wanted):
    download = wanted(sha256="0" * 64)
    with pytest.raises(DownloadError, match=f"has sha256 {SHA256}, published is 0000"):
        fetch(download, quiet)
    assert not download.target.exists()
    assert not download.part.exists()


def test_a_file_of_unknown_size_and_hash_is_still_taken_whole(wanted, server):
    server.cut_after = 10
    with pytest.raises(DownloadError, match="broken off after 10 bytes"):
        fetch(wanted(size=None, sha256=""), quiet)
    server.cut_after = None
    assert fetch(wanted(size=None, sha256=""), quiet) == "fetched"
    assert wanted().target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone", "does not exist \\(404\\)"),
        ("/login", "answers with a web page instead of the file"),
        ("/to-a-file", "Redirection to url 'file:///etc/hostname' is not allowed"),
    ],
)
def test_what_the_server_refuses_is_said_in_a_line(wanted, path, message):
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(wanted(path), quiet)
    assert "\n" not in str(caught.value)
    assert not wanted().target.exists()


def test_redirects_are_followed(wanted):
    assert fetch(wanted("/moved"), quiet) == "fetched"


def test_a_redirect_to_another_host_needs_https_or_a_digest(wanted, server):
    with serving() as other:
        other.files["/b.pth"] = BODY
        server.redirects["/elsewhere"] = f"{other.url}/b.pth"
        with pytest.raises(DownloadError, match="redirects to another host without https, to http"):
            fetch(wanted("/elsewhere", sha256=""), quiet)
        assert other.asked == []
        assert fetch(wanted("/elsewhere"), quiet) == "fetched"
        other.files["/b.pth"] = BODY[::-1]
        download = wanted("/elsewhere")
        download.target.unlink()
        with pytest.raises(DownloadError, match="it was removed; try again"):
            fetch(download, quiet)
        assert not download.target.exists()


@pytest.mark.parametrize(
    ("old", "new", "is_checked", "follows"),
    [
        ("https://a/x", "http://a/x", True, False),
        ("https://a/x", "https://b/x", False, True),
        ("http://a/x", "https://b/x", False, True),
        ("http://a/x", "http://a/y", False, True),
    ],
)
def test_a_redirect_never_leaves_https(old, new, is_checked, follows):
    handler = Redirects(is_checked)
    request = urllib.request.Request(old)
    ask = partial(handler.redirect_request, request, None, 302, "Found", {}, new)
    if follows:
        assert ask().full_url == new
    else:
        with pytest.raises(DownloadError, match="redirects out of https"):
            ask()


def test_more_bytes_than_published_are_not_taken(wanted, server, monkeypatch):
    monkeypatch.setattr("adem_bench.data.downloading.CHUNK_BYTES", 1000)
    with pytest.raises(DownloadError, match=r"has [12]\d{3} bytes, published are 1000"):
        fetch(wanted(size=1000), quiet)


def test_digests_are_those_of_the_tools_that_publish_them(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(BODY)
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    assert digest_of(path, "git_blob") == git.stdout.strip()
    assert digest_of(path, "md5") == hashlib.md5(BODY).hexdigest()
    assert digest_of(path, "sha256") == SHA256


@pytest.mark.parametrize("name", ["md5", "git_blob"])
def test_other_digests_are_checked_too(server, tmp_path, name):
    download = Download(f"{server.url}/a.pth", tmp_path / "a.pth", digests={name: "0" * 32})
    with pytest.raises(DownloadError, match=f"has {name} .*, published is 000"):
        fetch(download, quiet)


def test_a_silent_server_is_given_up(wanted):
    with pytest.raises(DownloadError, match=r"\(the server fell silent\)"):
        fetch(wanted("/silent"), quiet, timeout_s=0.2)


def test_a_server_that_is_not_there_is_named(tmp_path):
    with serving() as gone:
        url = f"{gone.url}/a.pth"
    with pytest.raises(DownloadError, match=r"a\.pth: nothing came \(.*refused\); the same"):
        fetch(Download(url, tmp_path / "a.pth"), quiet)


def test_two_processes_do_not_write_one_file(wanted):
    download = wanted()
    download.target.parent.mkdir()
    with (
        FileLock(download.target.parent / ".a.pth.lock"),
        pytest.raises(DownloadError, match="another process is fetching"),
    ):
        fetch(download, quiet)


def test_a_file_larger_than_the_disk_is_not_begun(wanted, server):
    with pytest.raises(DownloadError, match=r"more bytes, .* are free on that disk"):
        fetch(wanted(size=1 << 60), quiet)
    assert server.asked == []


@pytest.mark.parametrize("name", ["/a.pth", "/missing", "/silent"])
def test_no_lock_is_left_whatever_became_of_a_download(wanted, name):
    download = wanted(name)
    with contextlib.suppress(DownloadError):
        fetch(download, quiet, timeout_s=0.2)
    assert list(download.target.parent.glob("*lock*")) == []
    assert list(download.target.parent.glob(".*")) == []


def head(*lines, status="200 OK", body=BODY):
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "Connection: close", "", "")).encode() + body


@pytest.mark.parametrize("length", ["abc", "1e3", "-5", "100, 100", "9" * 5000])
def test_a_length_that_is_no_number_is_none(server, wanted, length):
    server.raw["/odd"] = head(f"Content-Length: {length}")
    assert fetch(wanted("/odd"), quiet) == "fetched"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (head("Location: http://[::1", status="302 Found"), "what is not one: Invalid IPv6 URL"),
        (head("Location: http://a..b/", status="302 Found"), "what is not one: .*label"),
        (head("Content-Range: bytes */0", status="416 No"), "the server answers 416 No"),
    ],
)
def test_what_a_server_may_not_answer_is_said_in_a_line(server, wanted, answer, message):
    server.raw["/odd"] = answer
    with pytest.raises(DownloadError, match=message):
        fetch(wanted("/odd"), quiet)


@pytest.mark.parametrize(
    "url", ["http://[::1/a", "http://[x]/", "http://a..b/", "http://\u2100.com"]
)
def test_what_is_no_address_is_said_to_be_none(tmp_path, url):
    with pytest.raises(DownloadError, match="is not an address, or redirects to what is not one"):
        fetch(Download(url, tmp_path / "a"), quiet)


@pytest.mark.parametrize("tag", [b"\xff\xfe", b"a\nb", "\u2026".encode(), b"x" * 100_000])
def test_a_damaged_version_of_a_part_is_none(server, wanted, tag):
    download = wanted()
    download.target.parent.mkdir()
    download.part.write_bytes(b"something else")
    download.tag.write_bytes(tag)
    assert fetch(download, quiet) == "fetched"
    assert server.asked == [("/a.pth", None)]


@pytest.mark.parametrize("name", ["part", "tag"])
def test_a_pipe_in_the_place_of_a_part_is_not_waited_for(wanted, name):
    download = wanted()
    download.target.parent.mkdir()
    os.mkfifo(getattr(download, name))
    with pytest.raises(OSError, match="a regular file"):
        fetch(download, quiet)


@pytest.mark.parametrize("put", [Path.touch, lambda place: place.symlink_to("gone")])
def test_what_lies_in_the_way_of_the_folder_is_named(wanted, put):
    download = wanted()
    put(download.target.parent)
    with pytest.raises(ResultsError, match=r"weights is a (file and not a folder|link to gone)"):
        fetch(download, quiet)
