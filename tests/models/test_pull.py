"""Downloads, against a server on the loopback interface."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from filelock import FileLock

from adem_bench.errors import CheckpointError
from adem_bench.models.pull import Download, downloads, pull
from adem_bench.schemas import AdapterSource, ModelCard

BODY = bytes(range(256)) * 1000
SIZE, SHA256 = len(BODY), hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves BODY at /a.pth with ranges; other paths misbehave as their names say."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if self.path == "/gone":
            self.send_error(404)
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/a.pth")
            self.end_headers()
        elif self.path == "/to-a-file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif self.path == "/silent":
            server.release.wait(20)
        elif self.path == "/login":
            self.reply(200, b"<html>sign in</html>", type="text/html; charset=utf-8")
        else:
            self.serve()

    def serve(self):
        etag = self.server.etag
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and start >= len(BODY):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(BODY)}")
            self.end_headers()
        elif asked and self.headers.get("If-Range") == etag:
            span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
            self.reply(206, BODY[start:], etag=etag, span=span)
        else:
            self.reply(200, BODY, etag=etag)

    def reply(self, status, body, type="application/octet-stream", etag=None, span=None):
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", etag)
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        cut = self.server.cut_after
        self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.etag, server.cut_after = [], '"v1"', None
    server.release = threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def wanted(server, tmp_path):
    def make(path="/a.pth", size=SIZE, sha256=SHA256):
        source = AdapterSource(path="a.pth", url=server.url + path, size=size, sha256=sha256)
        return Download(source, tmp_path / "weights" / "a.pth")

    return make


def quiet(done, total):
    pass


def test_a_file_arrives_whole_checked_and_without_leftovers(wanted, tmp_path):
    seen = []
    download = wanted()
    assert pull(download, lambda done, total: seen.append((done, total))) == "fetched"
    assert download.target.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    visible = [path.name for path in download.target.parent.iterdir() if path.name[0] != "."]
    assert visible == ["a.pth"]


def test_a_file_that_is_there_is_checked_and_not_fetched_again(wanted, server):
    pull(wanted(), quiet)
    assert pull(wanted(), quiet) == "already there"
    assert len(server.asked) == 1


def test_another_file_in_the_place_is_left_alone(wanted, server):
    download = wanted()
    download.target.parent.mkdir()
    download.target.write_bytes(b"my own weights")
    with pytest.raises(CheckpointError, match="has 14 bytes, published are 256000; move it away"):
        pull(download, quiet)
    assert download.target.read_bytes() == b"my own weights"
    assert server.asked == []


def test_a_broken_off_download_continues_where_it_was(wanted, server):
    server.cut_after = 100_000
    with pytest.raises(CheckpointError, match=r"broken off after 100000 bytes.*same command"):
        pull(wanted(), quiet)
    assert not wanted().target.exists()
    server.cut_after = None
    assert pull(wanted(), quiet) == "fetched"
    assert wanted().target.read_bytes() == BODY
    assert server.asked == [("/a.pth", None), ("/a.pth", "bytes=100000-")]


def test_halves_of_two_versions_are_never_joined(wanted, server):
    server.cut_after = 100_000
    with pytest.raises(CheckpointError):
        pull(wanted(), quiet)
    wanted().part.write_bytes(b"x" * 100_000)  # the older version's bytes
    server.etag, server.cut_after = '"v2"', None
    assert pull(wanted(), quiet) == "fetched"
    assert wanted().target.read_bytes() == BODY


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_version_from_the_server_the_download_starts_over(wanted, server, etag):
    server.etag, server.cut_after = etag, 100_000
    with pytest.raises(CheckpointError):
        pull(wanted(), quiet)
    server.cut_after = None
    pull(wanted(), quiet)
    assert server.asked[-1] == ("/a.pth", None)
    assert wanted().target.read_bytes() == BODY


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_whole_part_file_is_only_checked_and_renamed(wanted, server, size):
    download = wanted(size=size)
    download.target.parent.mkdir()
    download.part.write_bytes(BODY)
    download.tag.write_text('"v1"')
    assert pull(download, quiet) == "fetched"
    assert download.target.read_bytes() == BODY
    assert not download.part.exists()


def test_wrong_bytes_are_thrown_away_with_both_hashes_named(wanted):
    download = wanted(sha256="0" * 64)
    with pytest.raises(CheckpointError, match=f"has sha256 {SHA256}, published is 0000"):
        pull(download, quiet)
    assert not download.target.exists()
    assert not download.part.exists()


def test_a_file_of_unknown_size_and_hash_is_still_taken_whole(wanted, server):
    server.cut_after = 10
    with pytest.raises(CheckpointError, match="broken off after 10 bytes"):
        pull(wanted(size=None, sha256=""), quiet)
    server.cut_after = None
    assert pull(wanted(size=None, sha256=""), quiet) == "fetched"
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
    with pytest.raises(CheckpointError, match=message) as caught:
        pull(wanted(path), quiet)
    assert "\n" not in str(caught.value)
    assert not wanted().target.exists()


def test_redirects_are_followed(wanted):
    assert pull(wanted("/moved"), quiet) == "fetched"


def test_a_silent_server_is_given_up(wanted):
    with pytest.raises(CheckpointError, match=r"\(the server fell silent\)"):
        pull(wanted("/silent"), quiet, timeout_s=0.2)


def test_two_processes_do_not_write_one_file(wanted):
    download = wanted()
    download.target.parent.mkdir()
    with (
        FileLock(download.target.parent / ".a.pth.lock"),
        pytest.raises(CheckpointError, match="another process is fetching"),
    ):
        pull(download, quiet)


def test_a_file_larger_than_the_disk_is_not_begun(wanted, server):
    with pytest.raises(CheckpointError, match=r"more bytes, .* are free on that disk"):
        pull(wanted(size=1 << 60), quiet)
    assert server.asked == []


def card(**adapters):
    return ModelCard.model_validate(
        {"name": "m", "language_model": {"path": "x"}, "adapters": adapters}
    )


def test_adapters_with_a_url_are_wanted_each_file_once(tmp_path):
    source = {"path": "a.pth", "url": "https://example.org/a.pth"}
    found = downloads(card(sqa=source, default=source, own={"path": "own.pth"}), tmp_path)
    assert [download.target for download in found] == [tmp_path / "weights" / "a.pth"]


@pytest.mark.parametrize("path", ["/etc/a.pth", "../a.pth", "~/a.pth"])
def test_a_card_cannot_write_outside_the_weights_folder(tmp_path, path):
    with pytest.raises(CheckpointError, match="leads out of"):
        downloads(card(sqa={"path": path, "url": "https://example.org/a.pth"}), tmp_path)
