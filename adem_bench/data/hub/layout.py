"""What writes the rows of a hub data set in an official layout, and what those share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from adem_bench.data.hub.rows import HubRows
from adem_bench.data.reading import is_safe_name
from adem_bench.errors import DataError

SIGNATURES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"BM": ".bmp"}


class Layout(Protocol):
    """A split of one kind of task, on its way from the hub to the official layout."""

    key: str
    """What of the data set is written; another key is another folder of the cache."""
    annotations: tuple[Path, ...]
    """Files below the user's data root that the result rests on."""

    def write(self, folder: Path, rows: HubRows) -> None:
        """Write the layout into an empty folder.

        Raises:
            DataError: the rows do not fit, among themselves or with the annotation files.
        """
        ...


def text(row: Mapping[str, Any], column: str) -> str:
    """Return a column's text; empty if there is none."""
    value = row.get(column)
    return value if isinstance(value, str) else ""


def image_bytes(row: Mapping[str, Any]) -> bytes | None:
    """Return the bytes of a row's image as they are, None without one.

    A path in a row is not followed: a data set shall not choose files of the reader's disk.
    """
    value = row.get("image")
    data = value.get("bytes") if isinstance(value, Mapping) else None
    return data if isinstance(data, bytes) and data else None


def suffix_of(data: bytes) -> str:
    """Return the file name's ending that fits an image's first bytes; `.png` for unknown ones."""
    return next((end for start, end in SIGNATURES.items() if data.startswith(start)), ".png")


def safe_part(name: str, what: str, rows: HubRows) -> str:
    """Return a name from a row that is to be one part of a path.

    Args:
        name: The name.
        what: Where it stands, for the message.
        rows: Whose row.

    Raises:
        DataError: it cannot be part of a path.
    """
    if not is_safe_name(name) or "/" in name:
        raise DataError(f"{rows.name}: {what} {name!r} cannot be the name of a file or folder")
    return name


def put(path: Path, data: bytes) -> None:
    """Write a file of a new folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
