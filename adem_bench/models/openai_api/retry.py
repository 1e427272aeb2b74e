"""When a server is asked again: backoff with jitter, `Retry-After`, and rate-limit headers."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
"""As rate-limit headers write it: `6m0s`, `1.5s`, `20ms`."""
SECONDS = (3600, 60, 1, 0.001)
LIMITED = ("-requests", "-tokens", "")
"""Endings of the headers that count what is left of a rate."""


class Gate:
    """What all threads pass before a request, and where a server may make them wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0

    def hold(self, seconds: float) -> None:
        """Let no thread pass for so many seconds from now."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def wait(self) -> None:
        """Return once requests may be sent."""
        while (left := self._until - time.monotonic()) > 0:
            time.sleep(left)


def backoff_s(attempt: int, initial_s: float, max_s: float) -> float:
    """Return the seconds to wait after an attempt (0: the first).

    They double from one to the next; a random half keeps requests from coming all at once.

    Args:
        attempt: Number of the attempt that failed.
        initial_s: Seconds after the first one, at most.
        max_s: Seconds after any, at most.
    """
    doubled: float = initial_s * 2**attempt
    return min(max_s, doubled) * random.uniform(0.5, 1)  # noqa: S311 - no secret


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds a server asks to wait; None if it does not say.

    Args:
        headers: Names in lower case; `retry-after` holds seconds or a date.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # A date without a zone is in UTC.
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def pause_s(headers: Mapping[str, str]) -> float:
    """Return the seconds until a used-up rate is full again; 0 while something is left of it."""
    waits = [0.0]
    for prefix in ("x-ratelimit", "ratelimit"):
        for ending in LIMITED:
            if headers.get(f"{prefix}-remaining{ending}", "").strip() == "0":
                waits.append(_duration(headers.get(f"{prefix}-reset{ending}", "")))
    return max(waits)


def _duration(text: str) -> float:
    """Return seconds; 0 for what is not a duration (a point in time, say)."""
    seconds = _number(text)
    if seconds is not None:
        return seconds if seconds < 1e9 else 0.0
    found = DURATION.fullmatch(text.strip())
    if not found:
        return 0.0
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), SECONDS, strict=True))


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,15}(\.\d{1,9})?\s*", text) else None
