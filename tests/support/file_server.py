"""A server of files on the loopback interface, with ranges, which misbehaves when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Files by path, redirects by path, and what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files: dict[str, bytes] = {}
        self.pages: dict[str, bytes] = {}
        """Served as HTML."""
        self.redirects: dict[str, str] = {}
        self.raw: dict[str, bytes] = {}
        """Whole answers, head and all."""
        self.asked: list[tuple[str, str | None]] = []
        """Paths with the ranges that were asked for."""
        self.etag: str | None = '"v1"'
        self.cut_after: int | None = None
        """Bytes after which every reply breaks off."""
        self.silent: set[str] = set()
        self.release = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if self.path in server.silent:
            server.release.wait(20)
        elif self.path in server.raw:
            self.wfile.write(server.raw[self.path])
        elif self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.end_headers()
        elif self.path in server.pages:
            self._reply(200, server.pages[self.path], "text/html; charset=utf-8")
        elif self.path in server.files:
            self._serve(server.files[self.path])
        else:
            self.send_error(404)

    def _serve(self, body: bytes) -> None:
        etag = self.server.etag
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
        elif asked and self.headers.get("If-Range") == etag:
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self._reply(206, body[start:], etag=etag, span=span)
        else:
            self._reply(200, body, etag=etag)

    def _reply(
        self,
        status: int,
        body: bytes,
        kind: str = "application/octet-stream",
        etag: str | None = None,
        span: str | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", etag)
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        cut = self.server.cut_after
        self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[FileServer]:
    """Yield a server that runs until the context ends."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
