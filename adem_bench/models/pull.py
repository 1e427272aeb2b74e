"""Fetch the adapters that a card publishes: resumable, checked, and never over a good file.

Bytes go to `NAME.part` and are renamed when they are whole; `NAME.part.tag` keeps the server's
version of the file, so that a resumed download never joins halves of two versions.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from adem_bench import __version__
from adem_bench.errors import CheckpointError
from adem_bench.models.weights import weights_folder
from adem_bench.schemas import AdapterSource, ModelCard

CHUNK_BYTES = 1 << 20
Progress = Callable[[int, int | None], None]
"""Called with the bytes on disk and the total, None where the server does not say."""
Outcome = Literal["fetched", "already there"]


@dataclass(frozen=True, slots=True)
class Download:
    """One published file and where it belongs."""

    source: AdapterSource
    target: Path

    @property
    def part(self) -> Path:
        """The file that collects bytes until the download is whole."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def tag(self) -> Path:
        """The file that keeps the server's version of what `part` holds."""
        return self.target.with_name(self.target.name + ".part.tag")


def downloads(card: ModelCard, data_root: Path | None) -> list[Download]:
    """Return the adapters of a card that have a URL, each file once.

    Raises:
        CheckpointError: a URL is not http(s), or a path leads out of the weights folder.
    """
    folder = weights_folder(data_root)
    found: dict[str, Download] = {}
    for task, source in card.adapters.items():
        if not source.url:
            continue
        if not source.url.startswith(("http://", "https://")):
            raise CheckpointError(
                f"model {card.name}, adapter {task}: url {source.url!r} is not http(s)"
            )
        path = Path(source.path)
        if path.is_absolute() or ".." in path.parts or source.path.startswith("~"):
            raise CheckpointError(
                f"model {card.name}, adapter {task}: path {source.path!r} leads out of {folder}; "
                "only paths below it can be pulled"
            )
        found[source.path] = Download(source, folder / path)
    return list(found.values())


def pull(download: Download, progress: Progress, timeout_s: float = 30) -> Outcome:
    """Bring one file to its place, continuing a download that was broken off.

    Args:
        download: What and where to.
        progress: Told about every chunk.
        timeout_s: Longest silence of the server, in seconds.

    Raises:
        CheckpointError: the server refuses or falls silent, the bytes are not the published
            ones, or another file is in the place.
    """
    download.target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(download.target.with_name(f".{download.target.name}.lock"))
    try:
        with lock.acquire(timeout=0):
            if download.target.exists():
                _check(download.target, download.source, "move it away to fetch it again")
                return "already there"
            _fetch(download, progress, timeout_s)
    except Timeout as error:
        raise CheckpointError(f"another process is fetching {download.target}") from error
    return "fetched"


def _fetch(download: Download, progress: Progress, timeout_s: float) -> None:
    url, size = download.source.url, download.source.size
    have = download.part.stat().st_size if download.part.exists() else 0
    if size is None or have < size:
        _check_space(download, have)
        try:
            with _open(download, have, timeout_s) as reply:
                _receive(reply, download, have, progress)
        except _AlreadyWhole:
            pass
        except urllib.error.HTTPError as error:
            raise CheckpointError(_refusal(url, error.code, error.reason)) from error
        except (http.client.HTTPException, urllib.error.URLError, OSError) as error:
            raise _broken_off(download, error) from error
    try:
        _check(download.part, download.source, "it was removed; try again")
    except CheckpointError:
        download.part.unlink()
        download.tag.unlink(missing_ok=True)
        raise
    download.part.replace(download.target)
    download.tag.unlink(missing_ok=True)


class _AlreadyWhole(Exception):  # noqa: N818 - not an error: there is nothing left to ask for
    """The server has no byte after those on disk."""


def _open(download: Download, have: int, timeout_s: float) -> http.client.HTTPResponse:
    """Ask for the bytes after the first `have`, if the server still has that very version."""
    headers = {"User-Agent": f"adem-bench/{__version__}", "Accept-Encoding": "identity"}
    tag = download.tag.read_text(encoding="utf-8") if download.tag.exists() else ""
    if have and tag:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    request = urllib.request.Request(download.source.url, headers=headers)  # noqa: S310 - http(s)
    opener = urllib.request.OpenerDirector()
    # Spelled out so that no redirect can lead to a local file or to FTP.
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    try:
        reply: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        whole = error.headers.get("Content-Range", "") == f"bytes */{have}"
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and whole:
            raise _AlreadyWhole from error
        raise
    return reply


def _receive(
    reply: http.client.HTTPResponse, download: Download, have: int, progress: Progress
) -> None:
    """Append (or, if the server starts over, write) a reply's bytes to the part file."""
    continues = reply.status == http.HTTPStatus.PARTIAL_CONTENT and reply.headers.get(
        "Content-Range", ""
    ).startswith(f"bytes {have}-")
    if "text/html" in reply.headers.get("Content-Type", ""):
        raise CheckpointError(
            f"{download.source.url} answers with a web page instead of the file; open it in a "
            f"browser and put the file at {download.target}"
        )
    if not continues:
        have = 0
        # A weak tag cannot vouch for single bytes (RFC 9110, 13.1.5), so it is not kept.
        tag = reply.headers.get("ETag", "")
        strong = tag if tag and not tag.startswith("W/") else ""
        download.tag.write_text(strong or reply.headers.get("Last-Modified", ""), encoding="utf-8")
    length = reply.headers.get("Content-Length")
    total = have + int(length) if length else None
    with download.part.open("ab" if continues else "wb") as part:
        for chunk in _chunks(reply):
            part.write(chunk)
            have += len(chunk)
            progress(have, total)
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _chunks(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := reply.read1(CHUNK_BYTES):
        yield chunk


def _check(path: Path, source: AdapterSource, remedy: str) -> None:
    """Compare a file with the size and hash that the card states, as far as it does."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        raise CheckpointError(f"{path} has {size} bytes, published are {source.size}; {remedy}")
    if source.sha256:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != source.sha256.lower():
            raise CheckpointError(
                f"{path} has sha256 {found}, published is {source.sha256}; {remedy}"
            )


def _check_space(download: Download, have: int) -> None:
    free = shutil.disk_usage(download.target.parent).free
    needed = (download.source.size or 0) - have
    if needed > free:
        raise CheckpointError(
            f"{download.target} needs {needed} more bytes, {free} are free on that disk"
        )


def _refusal(url: str, code: int, reason: str) -> str:
    if code == http.HTTPStatus.NOT_FOUND:
        return f"{url} does not exist (404); see the card's source for where the file is now"
    return f"{url}: the server answers {code} {reason}"


def _broken_off(download: Download, error: Exception) -> CheckpointError:
    have = download.part.stat().st_size if download.part.exists() else 0
    reason = getattr(error, "reason", None) or error
    why = "the server fell silent" if isinstance(reason, TimeoutError) else f"{reason}"
    return CheckpointError(
        f"{download.source.url}: broken off after {have} bytes ({why}); the same command continues"
    )
