"""How far a long run has come: a bar on a terminal, lines everywhere else.

A line is printed for every 5% and every 30 seconds, and one at the end, but none within seconds of
another or of the beginning: a run that takes no longer shows its result alone. Of what is less than
20 there is no 5%.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from adem_bench.errors import printable

SECONDS = 30.0
"""After which there is a line, however little was done."""
APART = 5.0
"""Seconds between two lines at least, but for the last one."""
LINES = 20
"""Lines of a run that takes no such time: one for every 5%."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run has come."""

    done: int
    total: int | None
    """None where it is not known."""
    asked: int = 0
    """Of those done, what this call did: the rate is theirs."""
    failed: int = 0
    """Of those asked."""

    @property
    def known_total(self) -> int | None:
        """The total; None too where the data has more than its card says."""
        return None if self.total is None or self.done > self.total else self.total


OnProgress = Callable[[Standing], None]
"""Called whenever something was done."""
Clock = Callable[[], float]
"""Seconds from any beginning."""


class Pace:
    """How fast something goes, and when it is time for another line about it."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Begin now."""
        self._clock = clock
        self._started = self._last = clock()
        self._share = 0

    def is_due(self, done: int, total: int | None) -> bool:
        """Return whether 30 seconds or 5% went by since the last line, and count one as written.

        Never within 5 seconds of it.
        """
        now = self._clock()
        share = done * LINES // total if total and total >= LINES else 0
        waited = now - self._last
        due = waited >= SECONDS or (waited >= APART and share > self._share)
        if due:
            self._last, self._share = now, share
        return due

    def seconds(self) -> float:
        """Return the seconds since the beginning."""
        return self._clock() - self._started

    def rate(self, done: int) -> float:
        """Return how many a second are done, of which `done` were since the beginning."""
        return done / max(self.seconds(), 1e-9)


class ProgressLines:
    """Writes lines such as `sqa: 848 of 4,241 samples (20%), 3 failed, 12.1 samples/s, …`."""

    def __init__(
        self, name: str, write: Callable[[str], None], clock: Clock = time.monotonic
    ) -> None:
        """Begin now.

        Args:
            name: What is worked on.
            write: Takes a line.
            clock: What the time is read from.
        """
        self._name, self._write = name, write
        self._pace = Pace(clock)
        self._written: Standing | None = None
        self._latest: Standing | None = None

    def update(self, standing: Standing) -> None:
        """Take how far the run has come, and write it if it is time."""
        if not standing.asked:  # what was known before is no progress
            return
        self._latest = standing
        if self._pace.is_due(standing.done, standing.total):
            self._put(standing, is_last=standing.done == standing.total)

    def close(self) -> None:
        """Write how far a run came that has other lines, unless the last one says it."""
        latest, written = self._latest, self._written
        if latest is not None and written is not None and latest != written:
            self._put(latest, is_last=True)

    def _put(self, standing: Standing, is_last: bool) -> None:
        self._written = standing
        total = standing.known_total
        rate = self._pace.rate(standing.asked)
        facts = [f"{standing.failed:,} failed", *_answered_rate(standing, self._pace)]
        if is_last:
            facts.append(f"took {shown_time(self._pace.seconds())}")
        elif total:
            facts.append(f"{shown_time((total - standing.done) / rate)} left")
        count = f"{standing.done:,} samples"
        if total:
            count = f"{standing.done:,} of {total:,} samples ({standing.done / total:.0%})"
        self._write(f"{self._name}: {count}, {', '.join(facts)}")


def _answered_rate(standing: Standing, pace: Pace) -> list[str]:
    """Return how many samples a second were answered; samples that fail at once would raise it."""
    answered = standing.asked - standing.failed
    return [f"{shown_rate(pace.rate(answered))} samples/s"] if answered else []


def shown_rate(rate: float) -> str:
    """Return a rate with three figures at least: `0.0123`, `1.23`, `1,234`."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def shown_time(seconds: float) -> str:
    """Return seconds as `0:01:23`."""
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def no_progress(name: str) -> Iterator[OnProgress]:
    """Yield a function that shows nothing."""
    yield lambda standing: None


@contextmanager
def run_progress(name: str) -> Iterator[OnProgress]:
    """Yield a function that shows how far a run has come on standard error."""
    if sys.stderr.isatty():
        with _bar(name) as update:
            yield update
        return
    with progress_lines(name, _to_stderr) as update:
        yield update


@contextmanager
def progress_lines(name: str, write: Callable[[str], None]) -> Iterator[OnProgress]:
    """Yield a function that writes lines; the last one is written if all went well.

    Args:
        name: What is worked on.
        write: Takes a line.
    """
    lines = ProgressLines(name, write)
    yield lines.update
    lines.close()


def _to_stderr(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _download_lines(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function that writes a line every 30 seconds: most downloads take no such time."""
    pace = Pace()
    first: int | None = None

    def update(done: int, total: int | None) -> None:
        nonlocal first
        first = done if first is None else first
        if pace.is_due(done, None):
            rate = pace.rate(done - first)
            size = f"{done / 1e6:,.0f}{f' of {total / 1e6:,.0f}' if total else ''} MB"
            left = f", {shown_time((total - done) / rate)} left" if total and rate else ""
            _to_stderr(f"{name}: {size}, {rate / 1e6:.1f} MB/s{left}")

    yield update


@contextmanager
def _bar(name: str) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    pace = Pace()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(name, total=None, facts="")

        def update(standing: Standing) -> None:
            facts = _answered_rate(standing, pace)
            facts += [f"{standing.failed:,} failed"] if standing.failed else []
            total, told = standing.known_total, ", ".join(facts)
            bar.update(shown, completed=standing.done, total=total, facts=told)

        yield update


@contextmanager
def download_progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function that takes the bytes on disk and the total (None: unknown)."""
    if not sys.stderr.isatty():
        with _download_lines(name) as update:
            yield update
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
