"""Fetch published files: resumable, checked, never over a good file; for data and weights.

Bytes go to `NAME.part` and are renamed when they are whole; `NAME.part.tag` keeps the server's
version of the file, so that a resumed download never joins halves of two versions.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from adem_bench import __version__
from adem_bench.errors import DownloadError
from adem_bench.files import check_regular, disk_error, open_bytes

CHUNK_BYTES = 1 << 20
Progress = Callable[[int, int | None], None]
"""Called with the bytes on disk and the total, None where the server does not say."""
VERSION = re.compile("[ -~\xa0-\xff]{1,1000}")
"""What a server may call a version of a file: the value of a header."""
Outcome = Literal["fetched", "already there"]


@dataclass(frozen=True, slots=True)
class Download:
    """One published file and where it belongs."""

    url: str
    target: Path
    size: int | None = None
    """Bytes, if known."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """`sha256`, `md5` or `git_blob` to the published digest in hexadecimal."""

    @property
    def part(self) -> Path:
        """The file that collects bytes until the download is whole."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def tag(self) -> Path:
        """The file that keeps the server's version of what `part` holds."""
        return self.target.with_name(self.target.name + ".part.tag")


def fetch(download: Download, progress: Progress, timeout_s: float = 30) -> Outcome:
    """Bring one file to its place, continuing a download that was broken off.

    Args:
        download: What and where to.
        progress: Called with every chunk.
        timeout_s: Longest silence of the server, in seconds.

    Raises:
        DownloadError: the server refuses or falls silent, the bytes are not the published
            ones, or another file is in the place.
        ResultsError: the folder cannot be made.
    """
    try:
        download.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(download.target, error) from error
    place = download.target.with_name(f".{download.target.name}.lock")
    busy = f"another process is fetching {download.target}"
    try:
        with FileLock(place).acquire(timeout=0):
            if not place.exists():  # whoever had it has just removed it
                raise DownloadError(busy)
            try:
                if download.target.exists():
                    check(download.target, download, "move it away to fetch it again")
                    return "already there"
                _fetch(download, progress, timeout_s)
            finally:
                place.unlink(missing_ok=True)
    except Timeout as error:
        raise DownloadError(busy) from error
    return "fetched"


def _fetch(download: Download, progress: Progress, timeout_s: float) -> None:
    url, size = download.url, download.size
    for file in (download.part, download.tag):
        if file.exists():
            check_regular(file)
    have = download.part.stat().st_size if download.part.exists() else 0
    if size is None or have < size:
        _check_space(download, have)
        try:
            with _open(download, have, timeout_s) as reply:
                _receive(reply, download, have, progress)
        except _AlreadyWhole:
            pass
        except urllib.error.HTTPError as error:
            raise DownloadError(_refusal(url, error.code, error.reason)) from error
        except (http.client.HTTPException, urllib.error.URLError, OSError) as error:
            raise _broken_off(download, error) from error
    try:
        check(download.part, download, "it was removed; try again")
    except DownloadError:
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
    tag = (
        download.tag.read_text(encoding="utf-8", errors="replace") if download.tag.exists() else ""
    )
    if have and VERSION.fullmatch(tag):
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    opener = urllib.request.OpenerDirector()
    # Spelled out so that no redirect can lead to a local file or to FTP.
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.add_handler(Redirects(is_checked=bool(download.digests)))
    try:
        request = urllib.request.Request(download.url, headers=headers)  # noqa: S310 - http(s)
        reply: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        whole = error.headers.get("Content-Range", "") == f"bytes */{have}"
        if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and whole:
            raise _AlreadyWhole from error
        raise
    except ValueError as error:
        raise DownloadError(
            f"{download.url} is not an address, or redirects to what is not one: {error}"
        ) from error
    return reply


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect where what arrives can be trusted as much as what was asked for.

    Never from https to http. To another host: over https, or if a digest says what must arrive.
    """

    def __init__(self, is_checked: bool) -> None:
        self._is_checked = is_checked

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request to make instead.

        Args:
            req: The request that was redirected.
            fp: The answer's body.
            code: HTTP status of the answer.
            msg: Its text.
            headers: Of the answer.
            newurl: Where it leads.

        Raises:
            DownloadError: the redirect is not followed.
        """
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        is_plain = new.scheme != "https"
        elsewhere = new.netloc != old.netloc and not self._is_checked
        if is_plain and (old.scheme == "https" or elsewhere):
            why = "out of https" if old.scheme == "https" else "to another host without https"
            raise DownloadError(
                f"{req.full_url} redirects {why}, to {newurl}, which is not followed: its bytes "
                "could be anybody's; open it in a browser and check what you get"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(
    reply: http.client.HTTPResponse, download: Download, have: int, progress: Progress
) -> None:
    """Append (or, if the server starts over, write) a reply's bytes to the part file."""
    continues = reply.status == http.HTTPStatus.PARTIAL_CONTENT and reply.headers.get(
        "Content-Range", ""
    ).startswith(f"bytes {have}-")
    if "text/html" in reply.headers.get("Content-Type", ""):
        raise DownloadError(
            f"{download.url} answers with a web page instead of the file; open it in a "
            f"browser and put the file at {download.target}"
        )
    if not continues:
        have = 0
        # A weak tag cannot vouch for single bytes (RFC 9110, 13.1.5), so it is not kept.
        tag = reply.headers.get("ETag", "")
        strong = tag if tag and not tag.startswith("W/") else ""
        download.tag.write_text(strong or reply.headers.get("Last-Modified", ""), encoding="utf-8")
    total = None if reply.length is None else have + reply.length
    with download.part.open("ab" if continues else "wb") as part:
        for chunk in _chunks(reply):
            part.write(chunk)
            have += len(chunk)
            if download.size is not None and have > download.size:
                return  # the check of the size says so
            progress(have, total)
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _chunks(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := reply.read1(CHUNK_BYTES):
        yield chunk


def check(path: Path, published: Download, remedy: str) -> None:
    """Compare a file with the size and the digests that are published, as far as they are known.

    Args:
        path: The file.
        published: What is known of it.
        remedy: What to do where it differs, for the end of the message.

    Raises:
        DownloadError: it differs.
    """
    size = path.stat().st_size
    if published.size is not None and size != published.size:
        raise DownloadError(f"{path} has {size} bytes, published are {published.size}; {remedy}")
    for name, expected in published.digests.items():
        found = digest_of(path, name)
        if found != expected.lower():
            raise DownloadError(f"{path} has {name} {found}, published is {expected}; {remedy}")


def digest_of(path: Path, name: str) -> str:
    """Return a file's `sha256`, `md5` or `git_blob` (what git calls that content), hexadecimal."""
    if name == "git_blob":
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        digest = hashlib.new(name, usedforsecurity=False)
    with open_bytes(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _check_space(download: Download, have: int) -> None:
    free = shutil.disk_usage(download.target.parent).free
    needed = (download.size or 0) - have
    if needed > free:
        raise DownloadError(
            f"{download.target} needs {needed} more bytes, {free} are free on that disk"
        )


def _refusal(url: str, code: int, reason: str) -> str:
    if code == http.HTTPStatus.NOT_FOUND:
        return (
            f"{url} does not exist (404); see where its card says the data or weights are to be had"
        )
    return f"{url}: the server answers {code} {reason}"


def _broken_off(download: Download, error: Exception) -> DownloadError:
    have = download.part.stat().st_size if download.part.exists() else 0
    reason = getattr(error, "reason", None) or error
    why = "the server fell silent" if isinstance(reason, TimeoutError) else f"{reason}"
    if not have:
        return DownloadError(f"{download.url}: nothing came ({why}); the same command tries again")
    return DownloadError(
        f"{download.url}: broken off after {have} bytes ({why}); the same command continues"
    )
