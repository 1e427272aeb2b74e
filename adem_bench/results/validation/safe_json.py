"""Reading JSON that may be torn, edited or hostile: bounded in size and depth, errors in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from adem_bench.files import MAX_NESTED, is_deep, open_bytes

MAX_LINE_BYTES = 16 << 20
MAX_DOCUMENT_BYTES = 64 << 20


class BadJsonError(ValueError):
    """What is wrong with a text that should be JSON; never quotes it."""


def parse(raw: bytes, finite: bool = True) -> Any:
    """Return the value that JSON in UTF-8 stands for.

    Args:
        raw: The text.
        finite: Whether `NaN` and `Infinity`, which are not JSON, are refused.

    Raises:
        BadJsonError: not UTF-8, not JSON, a key that appears twice, or nested too deeply.
    """
    try:
        value = (FINITE if finite else ANY).decode(raw.decode("utf-8"))
        if is_deep(value):
            raise RecursionError
    except UnicodeDecodeError as error:
        raise BadJsonError(f"not UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        place = f"character {error.pos + 1}"
        if b"\n" in raw:
            place = f"line {error.lineno}, column {error.colno}"
        reason = error.msg.lower().removesuffix(" at").removesuffix(" starting")
        raise BadJsonError(f"not JSON at {place}: {reason}") from error
    except RecursionError as error:
        raise BadJsonError(
            f"nested too deeply, expected at most {MAX_NESTED} levels of lists and objects"
        ) from error
    except BadJsonError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise BadJsonError("not JSON: a number is too long") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJsonError(f"key {twice[:40]!r} appears twice in one object")
    return found


def _refuse(name: str) -> NoReturn:
    raise BadJsonError(f"not JSON: {name} is not a number")


FINITE = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)
ANY = json.JSONDecoder(object_pairs_hook=_object)


def read_document(path: Path) -> Any:
    """Return what a small JSON file holds.

    Raises:
        BadJsonError: as for `parse`; or not a file, too large, not readable.
    """
    try:
        if not path.is_file():
            raise BadJsonError("not a regular file")
        size = path.stat().st_size
        if size > MAX_DOCUMENT_BYTES:
            most = MAX_DOCUMENT_BYTES >> 20
            raise BadJsonError(f"{size >> 20} MiB large, expected at most {most} MiB")
        return parse(path.read_bytes())
    except OSError as error:
        raise BadJsonError(f"cannot be read: {error.strerror}") from error


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line's number and bytes, line feed included; None for a line that is too long.

    Raises:
        OSError: the file cannot be read.
    """
    with open_bytes(path) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES):
            number += 1
            whole = line.endswith(b"\n") or len(line) < MAX_LINE_BYTES
            yield number, line if whole else None
            while not whole:  # on to the next line, a piece at a time
                rest = stream.readline(MAX_LINE_BYTES)
                whole = not rest or rest.endswith(b"\n")
