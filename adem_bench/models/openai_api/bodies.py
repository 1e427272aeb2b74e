"""What any body that a server sends is made of: bytes, text, JSON, and what of it is kept."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import Any

from adem_bench.prompts import whole

MAX_CHARACTERS = 300
"""Of a server's own text, what is kept."""
MAX_READ = 20_000
"""Characters of a page or an error that are looked at."""
MAX_MIXED = 1000
"""Places that are not UTF-8 in a text that is it otherwise."""
MAX_DEPTH = 64
"""Of JSON."""
MAX_DIGITS = 100
"""Of a whole number: none that counts anything has so many."""
WESTERN = "adem_bench.western"
"""Name of the way in which bytes are read that are not UTF-8."""
NO_PAGE = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->|<[^<>]*>", re.DOTALL | re.IGNORECASE)
Hide = Callable[[str], str]
"""Takes out of a text what must not be kept."""


def decoded(raw: bytes) -> str:
    """Return a body as text: UTF-8 (or 16, or 32), and what is neither as Windows-1252."""
    try:
        return raw.decode(json.detect_encoding(raw), "surrogatepass")
    except UnicodeDecodeError:
        # Byte by byte is slow: megabytes of anything but text would take minutes.
        broken = raw.decode("utf-8", "replace").count("\ufffd")
        return (
            raw.decode("utf-8", WESTERN) if broken <= MAX_MIXED else raw.decode("cp1252", "replace")
        )


def _western(error: UnicodeError) -> tuple[str, int]:
    """Return the bytes that are not UTF-8, as the most common of the older encodings has them."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(WESTERN, _western)


def parsed(raw: bytes, hide: Hide) -> Any:
    """Return a body's JSON, all its texts without what must not be kept.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested more deeply than any answer.
    """

    def hidden(found: Any, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise RecursionError
        if isinstance(found, str):
            return hide(found)
        if isinstance(found, list):
            return [hidden(inner, depth + 1) for inner in found]
        if isinstance(found, dict):
            return {hide(name): hidden(inner, depth + 1) for name, inner in found.items()}
        return found

    return hidden(json.loads(decoded(raw), strict=False, parse_int=_number))


def _number(digits: str) -> int | float:
    """Return a whole number; one of more digits than Python reads is infinite, and no count."""
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def clean(text: str) -> str:
    """Return foreign text as one line of bounded length."""
    return " ".join(whole(text[: 4 * MAX_CHARACTERS]).split())[:MAX_CHARACTERS]


def is_page(text: str) -> bool:
    """Return whether a text is a web page."""
    start = text[:1000].lstrip("\ufeff \t\r\n").lower()
    return start.startswith("<") and any(tag in start for tag in ("<html", "<!doctype", "<head"))


def page_text(text: str) -> str:
    """Return the words of a web page, its markup left out."""
    return " ".join(NO_PAGE.sub(" ", text[:MAX_READ]).split())
