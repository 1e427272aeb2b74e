"""Chat completions of the harness's code, handed to the process that started this one.

Whatever client the code uses, its request ends in one of two libraries: there it is taken, before
it would be sent, and answered as a server would.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import socket
import sys
import time
from collections.abc import Collection
from typing import Any

from .wire import ON_REFUSED_CONNECTION, Job

KEYS = {"OPENAI_API_KEY": "judge", "API_TYPE": "openai", "Deepseek_API": "judge"}
"""Without a key, code asks nobody, or its client cannot be made."""
FEW = 8
"""Values of a list or tuple that are looked at for a row."""
FAILED = 400
"""Status of a reply without an answer: clients do not try again, as that has been done."""
_REAL_SLEEP = time.sleep


class _About:
    """What sample the code is busy with."""

    ids: Collection[str] = ()
    sample: str | None = None
    address = ""


def hand_over(job: Job, ids: Collection[str]) -> None:
    """From now on let a judge answer every chat completion, if the job has one.

    Args:
        job: With the address of the socket that it listens at.
        ids: Of the samples that are scored.
    """
    if not job.get("judge"):
        return
    _About.address, _About.ids = job["judge"], frozenset(ids)
    for name in ("OPENAI_API_BASE", "OPENAI_API_URL", "OPENAI_BASE_URL", "LOCAL_LLM"):
        os.environ.pop(name, None)
    os.environ.update(KEYS)
    # Waits between attempts, which are made elsewhere.
    time.sleep = lambda seconds: _REAL_SLEEP(min(float(seconds), 0.01))
    _take_from_requests()
    for name in ("httpx", "httpx2"):
        _take_from_httpx(name)
    # Code that asks in another way would take silence for an answer.
    ON_REFUSED_CONNECTION.append(lambda: _reply(None, _sample()))


def let_clients_be_made() -> None:
    """Set the keys without which modules that make a judge's client cannot be imported."""
    for name, value in KEYS.items():
        os.environ.setdefault(name, value)


def ask_nobody() -> None:
    """From now on end the job where its code asks a judge: it is not known to have one."""
    let_clients_be_made()
    _take_from_requests()
    for name in ("httpx", "httpx2"):
        _take_from_httpx(name)


def now_scoring(sample: str | None) -> None:
    """Say which sample is scored, where the code does so one by one."""
    _About.sample = sample


def _take_from_requests() -> None:
    try:
        import requests
        from requests.adapters import HTTPAdapter
    except ImportError:
        return
    real = HTTPAdapter.send

    def send(self: Any, request: Any, *args: Any, **options: Any) -> Any:
        body = _asked(request.body)
        if body is None:
            return real(self, request, *args, **options)
        status, content = _reply(body, _sample())
        found = requests.Response()
        found.status_code = status
        found._content = content
        found.headers["Content-Type"] = "application/json"
        found.encoding = "utf-8"
        found.url = request.url
        found.request = request
        return found

    HTTPAdapter.send = send


def _take_from_httpx(name: str) -> None:
    """Take them from a library of httpx's kind.

    Args:
        name: Its module's.
    """
    try:
        httpx: Any = importlib.import_module(name)
    except ImportError:
        return
    real = httpx.HTTPTransport.handle_request
    real_async = httpx.AsyncHTTPTransport.handle_async_request
    kind = {"Content-Type": "application/json"}

    def handle(self: Any, request: Any) -> Any:
        body = _asked(request.read())
        if body is None:
            return real(self, request)
        status, content = _reply(body, _sample())
        return httpx.Response(status, headers=kind, content=content, request=request)

    async def handle_async(self: Any, request: Any) -> Any:
        body = _asked(await request.aread())
        if body is None:
            return await real_async(self, request)
        loop = asyncio.get_running_loop()
        status, content = await loop.run_in_executor(None, _reply, body, _sample())
        return httpx.Response(status, headers=kind, content=content, request=request)

    httpx.HTTPTransport.handle_request = handle
    httpx.AsyncHTTPTransport.handle_async_request = handle_async


def _asked(raw: Any) -> Any:
    """Return the body of a chat completion; None for any other request."""
    try:
        body = json.loads(raw)
    except (TypeError, ValueError):
        return None
    return body if isinstance(body, dict) and "messages" in body else None


def _reply(body: Any, sample: str | None) -> tuple[int, bytes]:
    """Return the status and the body of the reply to a chat completion.

    Raises:
        SystemExit: nobody is asked; code that takes errors for answers lets this through.
    """
    if not _About.address:
        raise SystemExit("its code asks a judge model, which nothing in its text has told")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(_About.address)
        connection.sendall(json.dumps({"body": body, "sample": sample}).encode() + b"\n")
        with connection.makefile("rb") as stream:
            reply = json.loads(stream.readline())
    if "error" in reply:
        message = {"error": {"message": reply["error"], "type": "judge", "code": "judge"}}
        return FAILED, json.dumps(message).encode()
    return 200, json.dumps(reply).encode()


def _sample() -> str | None:
    """Return the sample that the code is busy with: as it said, or the row that a caller holds."""
    if _About.sample is not None:
        return _About.sample
    frame = sys._getframe(1)
    while frame is not None:
        for value in list(frame.f_locals.values()):
            found = _row_of(value)
            if found is not None:
                return found
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _row_of(value: Any) -> str | None:
    """Return the id of a row, or of the only one among a few values."""
    if isinstance(value, (list, tuple)) and len(value) <= FEW:
        found = {_index(one) for one in value} - {None}
        return found.pop() if len(found) == 1 else None
    return _index(value)


def _index(value: Any) -> str | None:
    if not isinstance(value, dict) and type(value).__name__ != "Series":
        return None
    try:
        found = str(value["index"])
    except Exception:  # noqa: BLE001 - a series of any kind of index
        return None
    return found if found in _About.ids else None
