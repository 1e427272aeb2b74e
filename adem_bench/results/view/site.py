"""Which page stands behind which address: those of other commands, kept current."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qs, urlencode, urlsplit

from markupsafe import escape

from adem_bench.errors import AdemBenchError, ResultsError, printable_lines
from adem_bench.results.comparison_formats import suite_html
from adem_bench.results.comparison_sides import sides_of
from adem_bench.results.comparison_sizes import Power
from adem_bench.results.comparison_suite import compare_suite
from adem_bench.results.comparison_text import Findings, counted
from adem_bench.results.html import Live, page_pieces
from adem_bench.results.leaderboard.build import View, build_leaderboard
from adem_bench.results.leaderboard.formats.markup import leaderboard_html
from adem_bench.results.leaderboard.published_figures import published_rows
from adem_bench.results.report.page import report_parts, report_pieces
from adem_bench.results.report.samples import SampleTable, sample_table
from adem_bench.results.runs import FinishedRun
from adem_bench.results.variants import labels, shown_places
from adem_bench.results.view.following import GrowingRun, ResultsFolder, Seen

HTML, TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
MAX_PAGES = 8
"""Pages that are kept as long as their runs do not change."""
MAX_GROWING = 1000
"""Samples that the page of a run without figures shows: the last ones."""
_Row = tuple[str, str, FinishedRun]
"""A run's folder below the root, its label, and the run."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    kind: str
    body: bytes
    location: str = ""
    """Where the page is, of one that has moved."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A page that can be made: of which runs it is, and how it is made of them."""

    names: list[str]
    make: Callable[[Seen, Live], str]


class Site:
    """The pages of one results folder; may be asked by several threads."""

    def __init__(
        self, results: ResultsFolder, data_root: Path | None = None, published: bool = False
    ) -> None:
        """Keep what the pages are made of.

        Args:
            results: The folder.
            data_root: Folder of the data, for prompts and images.
            published: Whether the leaderboard shows figures from papers too.
        """
        self.results = results
        self.data_root = data_root
        self.published = published
        self._drawing = Lock()  # matplotlib draws in one thread at a time
        self._keeping = Lock()
        self._kept: dict[str, tuple[str, bytes]] = {}

    def answer(self, address: str) -> Answer:
        """Return what stands behind an address such as `/report?below=adem-tiny`."""
        path, query = _split(address)
        try:
            seen = self.results.look()
            if path == "/version":
                page = self._page(*_split(query.get("page", "/")), seen)
                version = seen.version(page.names) if isinstance(page, _Page) else "none"
                return Answer(HTTPStatus.OK, TEXT, version.encode())
            page = self._page(path, query, seen)
            if isinstance(page, Answer):
                return page
            return Answer(HTTPStatus.OK, HTML, self._made(address, page, seen))
        except AdemBenchError as error:
            return _text(HTTPStatus.NOT_FOUND, str(error))

    def _page(self, path: str, query: Mapping[str, str], seen: Seen) -> _Page | Answer:
        """Return the page of an address, or what is said instead of it."""
        everything = list(seen.stamps)
        if path == "/":
            return _Page(everything, self._overview)
        if path == "/leaderboard":
            return _Page(everything, self._leaderboard)
        if path == "/report" and (below := seen.below(query.get("below", ""))):
            return _Page(below, lambda seen, live: self._report(below, seen, live))
        if path == "/task":
            names = [n for n, run in seen.finished.items() if _place(run) == query.get("name")]
            if names:
                return _Page(names, lambda seen, live: self._report(names, seen, live))
        if path == "/compare" and (page := _compared(query, seen)):
            return page
        if path == "/run":
            name = query.get("folder", "")
            if name in seen.growing:
                return _Page([name], lambda seen, live: _growing(seen.growing[name], live))
            if name in seen.finished:
                return Answer(HTTPStatus.FOUND, TEXT, b"", _link("/report", below=name))
        return _text(HTTPStatus.NOT_FOUND, "there is no such page, or no longer such a run")

    def _made(self, address: str, page: _Page, seen: Seen) -> bytes:
        version = seen.version(page.names)
        with self._keeping:
            kept = self._kept.get(address)
        if kept is None or kept[0] != version:
            text = page.make(seen, Live(version, self.results.root.resolve().name))
            kept = (version, text.encode(errors="backslashreplace"))
        with self._keeping:
            self._kept.pop(address, None)
            self._kept[address] = kept
            while len(self._kept) > MAX_PAGES:
                del self._kept[next(iter(self._kept))]
        return kept[1]

    def _overview(self, seen: Seen, live: Live) -> str:
        runs = list(seen.finished.values())
        called = labels(runs)
        rows = zip(shown_places(called, runs), seen.finished, called, runs, strict=True)
        by_task: dict[str, list[_Row]] = {_place(run): [] for run in runs}
        for _, name, label, run in sorted(rows, key=lambda row: row[0]):
            by_task[_place(run)].append((name, label, run))
        pieces = page_pieces(
            "view.html",
            style="report.css",
            live=live,
            growing=sorted(seen.growing.values(), key=lambda run: -run.changed),
            tasks=by_task,
            sides=_sides(seen),
            left_out=seen.left_out,
            link=_link,
            clock=_clock,
        )
        return "".join(pieces)

    def _leaderboard(self, seen: Seen, live: Live) -> str:
        published = published_rows() if self.published else ()
        board = build_leaderboard(list(seen.finished.values()), published, View(all_metrics=True))
        return leaderboard_html(board, intervals=True, live=live)

    def _report(self, names: list[str], seen: Seen, live: Live) -> str:
        runs, left_out = [], []
        for name in names:
            if name in seen.finished:
                try:
                    runs.append(self.results.open(name, seen))
                except AdemBenchError as error:
                    left_out.append(str(error))
        if not runs and left_out:
            raise AdemBenchError("; ".join(left_out))
        with self._drawing:
            parts = report_parts(runs, self.data_root)
            return "".join(report_pieces(parts, live=live, left_out=left_out))


def _finished(names: Iterable[str], seen: Seen) -> list[FinishedRun]:
    return [seen.finished[name] for name in names if name in seen.finished]


def _sides(seen: Seen) -> list[str]:
    """Return what can be compared: the folders of models, and single runs below them."""
    names = [name for name in seen.finished if name != "."]
    return list(dict.fromkeys([*(name.split("/")[0] for name in names), *names]))


def _compared(query: Mapping[str, str], seen: Seen) -> _Page | None:
    given = {name: seen.below(name) for name in (query.get("a", ""), query.get("b", ""))}
    if not all(name and _finished(below, seen) for name, below in given.items()):
        return None
    names = [name for below in given.values() for name in below]
    return _Page(names, lambda seen, live: _comparison(given, seen, live))


def _comparison(given: Mapping[str, list[str]], seen: Seen, live: Live) -> str:
    if len(given) < 2:
        raise ResultsError("a comparison needs two different models or runs")
    suite = compare_suite(sides_of({name: _finished(b, seen) for name, b in given.items()}))
    return suite_html(Findings(suite, Power(level=suite.level)), live)


def _growing(run: GrowingRun, live: Live) -> str:
    latest = dict(list(run.records.items())[-MAX_GROWING:])
    shown = GrowingRun(run.name, latest)
    table: SampleTable = sample_table([shown], [None], {}, "", 0)
    pieces = page_pieces(
        "running.html",
        style="report.css",
        script="report.js",
        live=live,
        run=run,
        log=escape(printable_lines(run.log)),
        table=table,
        members=[{"letter": "A", "label": ""}],
        clock=_clock,
        counted=counted,
    )
    return "".join(pieces)


def _split(address: str) -> tuple[str, dict[str, str]]:
    """Return an address's path, and the last value of every field of its query."""
    try:
        parts = urlsplit(address)
        fields = parse_qs(parts.query, errors="surrogateescape", max_num_fields=8)
    except ValueError:
        return "", {}
    return parts.path, {name: values[-1] for name, values in fields.items()}


def _link(path: str, **fields: str) -> str:
    return f"{path}?{urlencode(fields, errors='surrogateescape')}"


def _place(run: FinishedRun) -> str:
    return f"{run.result.task}/{run.result.split}"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _text(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, TEXT, f"{text}\n".encode(errors="backslashreplace"))
