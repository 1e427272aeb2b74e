"""The files that a task's card lists: which are on disk, and fetching those that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adem_bench.data.downloading import Download, Progress, check, fetch
from adem_bench.data.reading import is_safe_name
from adem_bench.data.unpacking import unpack
from adem_bench.errors import CardError
from adem_bench.files import exists
from adem_bench.schemas import DataFile, TaskCard

DOWNLOADS = ".downloads"
"""Folder below the data root for archives that are not unpacked yet."""
DIGESTS = ("sha256", "md5", "git_blob")


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a card below a data root."""

    file: DataFile
    path: Path

    @property
    def is_there(self) -> bool:
        """Whether the file, or the folder of an unpacked archive, exists."""
        return exists(self.path)

    @property
    def digests(self) -> dict[str, str]:
        """The published digests by their names."""
        return {name: value for name in DIGESTS if (value := getattr(self.file, name))}

    @property
    def can_be_fetched(self) -> bool:
        """Whether there is a URL, and a digest that says what must come from it."""
        return bool(self.file.url and self.digests)

    def by_hand(self) -> str:
        """Return how to get a file that is not fetched, in words."""
        if not self.file.url:
            return self.file.note or "see where the task's card says the data is to be had"
        inside = "its content" if self.file.unpack == "." else f"its folder {self.file.unpack}"
        put = "put it there" if self.file.unpack is None else f"unpack {inside} to there"
        why = self.file.note or "no digest of it is published"
        return f"{why}: get {self.file.url} and {put}"


def listed_files(card: TaskCard, data_root: Path, split: str | None = None) -> list[Listed]:
    """Return the files that a split needs, in the card's order.

    Args:
        card: Its `data.files`.
        data_root: Where they belong.
        split: By default the card's own; `all` for the files of all splits.

    Raises:
        CardError: a path leads out of the data root, or a URL is not http(s).
    """
    return list(_listed(card, data_root, split or card.split))


def _listed(card: TaskCard, data_root: Path, split: str) -> Iterator[Listed]:
    for file in card.data.files:
        if not is_safe_name(file.path):
            raise CardError(
                f"task {card.name}, data.files: path {file.path!r} is none below the data root"
            )
        if file.url and not file.url.startswith(("http://", "https://")):
            raise CardError(f"task {card.name}, data.files: url {file.url!r} is not http(s)")
        if not file.splits or split in ("all", *file.splits):
            yield Listed(file, data_root / file.path)


def fetch_listed(listed: Listed, data_root: Path, progress: Progress) -> str:
    """Bring a file to its place, unpacking archives; return what was done, in words.

    What is there already is checked, if it is one file, and never replaced.

    Args:
        listed: The file, or the folder that an archive becomes.
        data_root: Where archives are kept until they are unpacked.
        progress: Called with every chunk.

    Raises:
        DownloadError: the server refuses, or the bytes are not the published ones.
        DataError: an archive is not fit to be unpacked.
        ResultsError: the disk refuses.
    """
    file = listed.file
    if file.unpack is None:
        return fetch(_download(listed, listed.path), progress)
    if listed.is_there:
        return "already there"
    # Many data sets have a test.zip: the place says which.
    archive = data_root / DOWNLOADS / file.path.replace("/", "-")
    fetch(_download(listed, archive), progress)
    count = unpack(archive, listed.path, file.unpack, file.unpacked_size)
    archive.unlink()
    return f"fetched, {count:,} files unpacked"


def check_listed(listed: Listed) -> None:
    """Check a file on disk against its published size and digests; folders have none.

    Raises:
        DownloadError: it differs.
    """
    if listed.file.unpack is None and listed.path.is_file():
        published = _download(listed, listed.path)
        check(listed.path, published, "`adem-bench data fetch` brings it once it is moved away")


def size_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; 0 if there is none."""
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
    return path.stat().st_size if path.exists() else 0


def _download(listed: Listed, target: Path) -> Download:
    return Download(listed.file.url, target, listed.file.size, listed.digests)
