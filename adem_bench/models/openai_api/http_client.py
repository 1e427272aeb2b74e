"""One request to a server, within a time and a size; no redirect is followed."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from adem_bench import __version__

CHUNK_BYTES = 1 << 16
MAX_BYTES = 16 << 20
"""A longer body is not an answer to a question."""


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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key meant for one server must not travel to another."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


@lru_cache
def _opener(proxies: tuple[tuple[str, str], ...]) -> urllib.request.OpenerDirector:
    """Return what opens addresses; kept, since each new one reads the system's certificates."""
    return urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler(dict(proxies)))


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
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - http(s)
    deadline = time.monotonic() + timeout_s
    try:
        with _open(request, timeout_s) as answer:
            return Reply(answer.status, _lower(answer.headers), _read(answer, deadline))
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise BrokenOffError(f"no answer within {timeout_s:g} s") from error
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
    try:
        return _opener(tuple(sorted(proxies.items()))).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        return error


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _read(answer: Any, deadline: float) -> bytes:
    """Return the body; each part renews the socket's patience, so the clock is watched here."""
    parts, size = [], 0
    while part := answer.read1(CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise BrokenOffError(f"the answer is larger than {MAX_BYTES >> 20} MiB")
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)
