"""A local server of a results folder: reading only, for this machine only.

It listens at 127.0.0.1, answers GET and HEAD alone, and only where the name in the address is this
machine's: a page of another site whose name was turned to 127.0.0.1 (DNS rebinding) reads nothing.
Addresses name runs that were found in the folder, never files.
"""

from __future__ import annotations

import errno
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from adem_bench.errors import AdemBenchError
from adem_bench.results.view.site import TEXT, Answer, Site

ADDRESS = "127.0.0.1"
OWN_NAMES = ("127.0.0.1", "localhost")
SECONDS = 30
"""After which a connection that sends nothing is closed."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ViewServer(ThreadingHTTPServer):
    """The server; `serve_forever` serves, `server_close` ends it."""

    daemon_threads = True

    def __init__(self, site: Site, port: int) -> None:
        """Listen.

        Args:
            site: What is served.
            port: Of this machine; 0 for a free one.

        Raises:
            AdemBenchError: the port is taken or not allowed.
        """
        self.site = site
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            used = error.errno == errno.EADDRINUSE
            why = "is in use" if used else f"cannot be used: {(error.strerror or '').lower()}"
            raise AdemBenchError(
                f"port {port} of {ADDRESS} {why}; --port N takes another, --port 0 a free one"
            ) from error

    @property
    def url(self) -> str:
        """Where the first page is."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a reader who went away; anything else is our bug, and said."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    server_version, sys_version = "adem-bench", ""
    timeout = SECONDS

    def do_GET(self) -> None:
        self._send(self._answer())

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def _answer(self) -> Answer:
        host = self.headers.get("Host", "")
        if host.rsplit(":", 1)[0].lower() not in OWN_NAMES:
            text = f"this server answers to {' and '.join(OWN_NAMES)} alone\n"
            return Answer(HTTPStatus.FORBIDDEN, TEXT, text.encode())
        try:
            return self.server.site.answer(self.path)
        except Exception as error:  # noqa: BLE001 - one page fails, not the server
            text = f"this page cannot be shown: {type(error).__name__}: {error}\n"
            return Answer(
                HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, text.encode(errors="backslashreplace")
            )

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if answer.location:
            self.send_header("Location", answer.location)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _refuse(self) -> None:
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal for what its owner should read."""
