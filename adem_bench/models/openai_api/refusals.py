"""How servers refuse: an error's words and what it amounts to, in all the usual shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from adem_bench.models.openai_api.bodies import (
    MAX_READ,
    Hide,
    clean,
    decoded,
    is_page,
    page_text,
    parsed,
)

FILTERED = ("content_filter", "content_policy_violation", "data_inspection_failed")
"""Codes of requests that a filter refuses."""
STATUS_NAMES = {
    400: ("invalid_request_error", "context_length_exceeded", *FILTERED),
    401: (
        "invalid_api_key", "invalidapikey", "authentication_error", "unauthorized",
        "unauthenticated",
    ),
    402: (
        "insufficient_quota", "insufficient_balance", "insufficient_credits", "payment_required",
        "billing_hard_limit_reached", "billing_not_active", "arrearage",
    ),
    403: ("permission_denied", "permission_error", "forbidden"),
    404: ("model_not_found", "not_found_error", "not_found"),
    429: ("rate_limit_exceeded", "rate_limit_error", "too_many_requests"),
    500: ("server_error", "internal_server_error", "internal_error"),
    503: ("overloaded", "overloaded_error", "service_unavailable", "unavailable"),
}  # fmt: skip
"""Errors that have a name in place of a number, in lower case."""
WORDS = (
    "message", "msg", "detail", "error", "errors", "error_description", "error_message",
    "error_msg", "status_msg", "title",
)  # fmt: skip
"""Keys under which servers put what they have to say of an error."""


def error_text(raw: bytes, hide: Hide = str) -> str:
    """Return a server's own words about a request that it refuses, in a line.

    Args:
        raw: The body of its reply: JSON in any of the usual shapes, a web page, or text.
        hide: Applied to what is kept.
    """
    text = decoded(raw)
    try:
        found = parsed(raw, hide)
    except (ValueError, RecursionError):
        return clean(page_text(hide(text)) if is_page(text) else hide(text[:MAX_READ]))
    return clean(words_of(found) or (json.dumps(found, ensure_ascii=False) if found else ""))


def error_status(raw: bytes) -> int:
    """Return the status of HTTP that the error in a body amounts to; 0 if it does not say."""
    try:
        return status_of(parsed(raw, str))
    except (ValueError, RecursionError):
        return 0


def is_filtered(raw: bytes) -> bool:
    """Return whether a refusal is a content filter's."""
    return any(f'"{code}"'.encode() in raw for code in FILTERED)


def words_of(found: Any) -> str:
    """Return what an error says, whatever its shape; empty if it says nothing."""
    return "; ".join(dict.fromkeys(_words(found)))


def means_success(error: Any) -> bool:
    """Return whether an `error` says that there is none, as some servers do in every reply."""
    if isinstance(error, dict):
        return str(error.get("code")).lower() in ("0", "200", "ok", "success")
    return str(error).lower() in ("0", "ok", "success", "none")


def _words(found: Any) -> Iterator[str]:
    """Yield what an error says: texts under the usual keys, at any depth."""
    if isinstance(found, str) and found.strip():
        yield found.strip()
    elif isinstance(found, list):
        for inner in found:
            yield from _words(inner)
    elif isinstance(found, dict):
        # FastAPI's list of what is wrong: each with its place.
        place = found.get("loc")
        where = ".".join(map(str, place)) + ": " if isinstance(place, list) and place else ""
        for name in WORDS:
            yield from (where + words for words in _words(found.get(name)))
        metadata = found.get("metadata")
        if isinstance(metadata, dict):
            yield from _words(metadata.get("raw"))  # OpenRouter: the words of who is behind it


def status_of(error: Any) -> int:
    """Return the status of HTTP that an error amounts to; 0 if it does not say."""
    if isinstance(error, list) and error:
        return status_of(error[0])
    if not isinstance(error, dict):
        return 0
    for name in ("code", "status", "status_code", "http_status", "type"):
        value = error.get(name)
        if isinstance(value, str):
            known = (number for number, names in STATUS_NAMES.items() if value.lower() in names)
            value = next(known, int(value) if re.fullmatch("[45][0-9]{2}", value) else 0)
        if type(value) is int and 400 <= value < 600:
            return value
    return status_of(error.get("error"))
