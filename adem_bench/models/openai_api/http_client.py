"""One request to a server, within a time and a size; no redirect is followed."""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

from adem_bench import __version__

CHUNK_BYTES = 1 << 16
MAX_BYTES = 16 << 20
"""A longer body is not an answer to a question."""
GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
HUNG_UP = (BrokenPipeError, ConnectionAbortedError, ConnectionResetError)


class UnreachableError(Exception):
    """No connection was made: no server is there, or the name or the certificate is wrong."""


class BrokenOffError(Exception):
    """The server was there and did not answer in time, or not to the end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server sent back, whatever it thought of the request."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Lets every reply through as it is; so a key meant for one server never travels to another."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


class _Timed(io.RawIOBase):
    """What a socket sends until a deadline; a socket's own patience begins anew with each byte."""

    def __init__(self, source: socket.socket, deadline: float) -> None:
        self._source = source
        self._raw = source.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._source.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(
        self, source: socket.socket, *arguments: Any, deadline: float, **more: Any
    ) -> None:
        super().__init__(source, *arguments, **more)
        self.fp = io.BufferedReader(_Timed(source, deadline))


def _timed(connection: Callable[..., Any], host: str, timeout: float, **more: Any) -> Any:
    """Return a connection whose answer ends in time: status, headers and body."""
    made = connection(host, timeout=timeout, **more)
    made.response_class = partial(_TimedResponse, deadline=time.monotonic() + timeout)
    return made


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_timed, http.client.HTTPConnection), request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self) -> None:
        self._certificates = ssl.create_default_context()
        super().__init__(context=self._certificates)

    def https_open(self, request: urllib.request.Request) -> Any:
        connection = partial(_timed, http.client.HTTPSConnection)
        return self.do_open(connection, request, context=self._certificates)


@lru_cache
def _opener(proxies: tuple[tuple[str, str], ...]) -> urllib.request.OpenerDirector:
    """Return what opens addresses; kept, since each new one reads the system's certificates."""
    handlers = (_AnyStatus, _Http, _Https, urllib.request.ProxyHandler(dict(proxies)))
    return urllib.request.build_opener(*handlers)


def is_this_machine(url: str) -> bool:
    """Return whether an address is of this machine: `localhost`, `127.…`, `[::1]`, `0.0.0.0`."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def proxy_note(url: str) -> str:
    """Return which proxy of the environment stands before a server, in words; empty if none.

    A server on this machine is always asked directly. Name and password of the proxy are left out.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or is_this_machine(url) or urllib.request.proxy_bypass(parts.netloc):
        return ""
    names = (f"{parts.scheme}_proxy", f"{parts.scheme.upper()}_PROXY")
    variable = next(
        (f"${name}" for name in names if os.environ.get(name)), "this system's settings"
    )
    place = proxy.rpartition("@")[2].rpartition("//")[2]
    return f"through the proxy {place} of {variable}; NO_PROXY={host} goes around it"


def post(url: str, body: Mapping[str, Any], key: str, timeout_s: float) -> Reply:
    """Send JSON and return the reply, errors of HTTP included.

    Args:
        url: http or https.
        body: Sent as JSON.
        key: Sent as a bearer token, if not empty.
        timeout_s: Seconds from the beginning to the last byte.

    Raises:
        UnreachableError: there is no such server.
        BrokenOffError: it fell silent, or sent too much.
    """
    headers = {"Content-Type": "application/json", "User-Agent": f"adem-bench/{__version__}"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    sent = json.dumps(body).encode()
    request = urllib.request.Request(url, sent, headers)  # noqa: S310 - http(s)
    try:
        with _open(request, timeout_s) as answer:
            found = _lower(answer.headers)
            return Reply(answer.status, found, _unpacked(_read(answer), found))
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise BrokenOffError(f"no answer within {timeout_s:g} s") from error
        if isinstance(error.reason, HUNG_UP):
            size = f"{len(sent) / 1024:,.0f} KiB"
            raise BrokenOffError(
                f"the connection broke off before the request was sent, of {size}: the server may "
                f"take none so large ({type(error.reason).__name__})"
            ) from error
        raise UnreachableError(str(error.reason)) from error
    except TimeoutError as error:
        raise BrokenOffError(f"no answer within {timeout_s:g} s") from error
    except (http.client.InvalidURL, ValueError) as error:
        # Not repeated: a proxy's address may hold a password.
        raise UnreachableError("the address, or that of a proxy before it, is not valid") from error
    except (http.client.HTTPException, OSError) as error:
        raise BrokenOffError(f"the connection broke off ({type(error).__name__})") from error


def _open(request: urllib.request.Request, timeout_s: float) -> Any:
    """Return the response, whatever its status."""
    proxies = {} if is_this_machine(request.full_url) else urllib.request.getproxies()
    return _opener(tuple(sorted(proxies.items()))).open(request, timeout=timeout_s)


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def redirect_note(reply: Reply) -> str:
    """Return where a reply sends who asks, in words; empty if nowhere. A query is left out."""
    place = reply.headers.get("location", "")
    if reply.status // 100 != 3 or not place:
        return ""
    return f"it redirects to {place.partition('?')[0]}, which is not followed"


def _too_large() -> BrokenOffError:
    return BrokenOffError(f"the answer is larger than {MAX_BYTES >> 20} MiB")


def _read(answer: Any) -> bytes:
    parts, size = [], 0
    while part := answer.read1(CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise _too_large()
    return b"".join(parts)


def _unpacked(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a body as it was before it was compressed, as some servers do without being asked."""
    if headers.get("content-encoding", "").strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        whole = zlib.decompressobj(GZIP_OR_ZLIB).decompress(body, MAX_BYTES + 1)
    except zlib.error:
        return body  # the header is wrong; what the body is shows itself
    if len(whole) > MAX_BYTES:
        raise _too_large()
    return whole
