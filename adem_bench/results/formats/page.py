"""The leaderboard as one web page that needs nothing else; without its script it is complete."""

from __future__ import annotations

from adem_bench.results.board import Leaderboard
from adem_bench.results.formats.shared import PARTIAL, RATE, remarks, visible
from adem_bench.results.pages import render_page


def leaderboard_html(board: Leaderboard, intervals: bool) -> str:
    """Return the page; its script only adds sorting by a click on a header."""
    return render_page(
        "leaderboard.html",
        style="leaderboard.css",
        script="leaderboard.js",
        board=board,
        groups=visible(board),
        intervals=intervals,
        remarks=remarks(board, intervals),
        partial=PARTIAL,
        rate=RATE,
    )
