"""Plots of figures with intervals, each with its table; every text in them is data, never markup.

A figure of less than the whole split is drawn hollow and dashed, and never sets the scale where
there are whole ones.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from adem_bench.errors import printable
from adem_bench.records import MIN_UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_OF_FEW = f"none of fewer than {MIN_UNITS} independent units"
INK, LINE, PAPER, LAST = "#1b1f24", "#dddddd", "#ffffff", "#8c564b"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", INK, LAST)
"""Okabe and Ito's, which people distinguish whatever colours they see; one more at the end."""
DARK = {INK: "#e6eaef", LINE: "#39424d", PAPER: "#14181d", LAST: "#c89f97"}
"""What stands for these colours on a page in dark mode; the others are seen on both papers."""
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++", "oo")
"""So that series differ in print too."""
SETTINGS: Any = {
    "svg.hashsalt": "adem-bench",  # the same figures give the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
DPI = 144
STYLE = '<style type="text/css">'
"""Where matplotlib's own style sheet begins in an SVG file."""
MAX_LENGTH, START = 40, 24
NARROW, WIDTH, WIDE = 3.4, 5.0, 7.0
"""Widths in inches: of a plot without its names; of most, whose letters are read on a phone; and
above which one needs more room than half a page."""
HEADROOM = 1.08
"""Of bars above the highest whole figure."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, as printed: per cent or points."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """What one run contributes to a plot."""

    label: str
    place: int
    """Of the run: gives the colour."""
    estimates: Sequence[Estimate | None] = ()
    values: Sequence[float] = ()
    partial: bool = False
    """Whether it rests on less than the whole split."""

    @property
    def colour(self) -> str:
        """The run's, the same in every plot."""
        return COLOURS[self.place % len(COLOURS)]

    def texts(self) -> list[str]:
        """Return the estimates as tables show them; empty where there is none."""
        return [_shown(estimate) for estimate in self.estimates]


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawn plot with its words."""

    name: str
    """For files: `mini_sqa-groups`."""
    title: str
    alt: str
    """What it shows, for readers who cannot see it."""
    figure: Figure
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    """The table behind it: what was drawn, in figures."""

    @property
    def is_wide(self) -> bool:
        """Whether it needs more room than half a page."""
        return bool(self.figure.get_figwidth() > WIDE)

    def image(self, form: str) -> bytes:
        """Return the plot as a file's content; `form` is `svg` or `png`."""
        import matplotlib as mpl

        stream = io.BytesIO()
        with mpl.rc_context(SETTINGS):
            # No date, so that equal runs give equal files.
            metadata: dict[str, Any] = {"Date": None} if form == "svg" else {}
            self.figure.savefig(stream, format=form, dpi=DPI, metadata=metadata)
        return stream.getvalue()

    def page_image(self) -> bytes:
        """Return the plot as SVG on the paper of a page, light or dark as the reader's is."""
        import matplotlib as mpl

        stream = io.BytesIO()
        with mpl.rc_context(SETTINGS):
            metadata: dict[str, Any] = {"Date": None}
            self.figure.savefig(stream, format="svg", transparent=True, metadata=metadata)
        text = stream.getvalue().decode()
        names = {colour: f"--c{number}" for number, colour in enumerate(DARK)}
        for colour, name in names.items():
            text = text.replace(colour, f"var({name})")
        light = "".join(f"{name}:{colour};" for colour, name in names.items())
        dark = "".join(f"{names[colour]}:{other};" for colour, other in DARK.items())
        rules = f":root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"
        return text.replace(STYLE, STYLE + rules, 1).encode()


def bars(name: str, title: str, names: Sequence[str], series: Sequence[Series], unit: str) -> Plot:
    """Return grouped bars with intervals: a group for each name, in it a bar for each series.

    Args:
        name: For files.
        title: Above the plot.
        names: Of the groups.
        series: Each with an estimate for every name, None where it has none.
        unit: Of all figures, for the axis.
    """
    figure, axes = _axes(width=max(WIDTH, 1.2 + 0.22 * len(names) * (len(series) + 1)))
    width = 0.8 / len(series)
    top = _top(series)
    for number, one in enumerate(series):
        known = [(at, e) for at, e in enumerate(one.estimates) if e is not None]
        places = [at + (number - (len(series) - 1) / 2) * width for at, _ in known]
        drawn: dict[str, Any] = (
            {"color": "none", "edgecolor": one.colour, "linestyle": "--", "linewidth": 1.1}
            if one.partial
            else {
                "color": one.colour,
                "hatch": HATCHES[one.place % len(HATCHES)],
                "edgecolor": PAPER,
                "linewidth": 0.4,
            }
        )
        axes.bar(
            places,
            [e.value for _, e in known],
            width * 0.92,
            yerr=_errors([e for _, e in known]),
            label=_label(one.label),
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": INK},
            **drawn,
        )
        for at, (_, e) in zip(places, known, strict=True):
            if top is not None and e.value > top:
                # It goes on: the table has its figure.
                axes.annotate(
                    "\u25b2", (at, top), ha="center", va="top", color=one.colour, fontsize=8
                )
    if top is not None:
        axes.set_ylim(top=top)
    tilt = 35 if sum(map(len, names)) > 60 else 0
    axes.set_xticks(
        range(len(names)),
        [_label(n) for n in names],
        rotation=tilt,
        ha="right" if tilt else "center",
    )
    axes.set_ylabel(unit)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    _legend(axes, series)
    words = "; ".join(f"{one.label}: {_in_words(names, one.estimates)}" for one in series)
    alt = f"Bars with 95% intervals ({NOT_OF_FEW}), {unit}. {words}"
    rows = list(zip(names, *(one.texts() for one in series), strict=True))
    return _plot(name, title, alt, figure, ["", *(one.label for one in series)], rows)


def _top(series: Sequence[Series]) -> float | None:
    """Return where the axis ends: above whole figures, if those of subsets would go beyond."""
    ends = [
        [e.high for one in series if one.partial == partial for e in one.estimates if e]
        for partial in (False, True)
    ]
    whole, partial = (max(found, default=0.0) for found in ends)
    return whole * HEADROOM if 0 < whole * HEADROOM < partial else None


def dots(name: str, title: str, series: Sequence[Series], unit: str) -> Plot:
    """Return a dot with its interval for each series.

    Args:
        name: For files.
        title: Above the plot.
        series: Each with one estimate.
        unit: Of the figures, for the axis.
    """
    longest = max(len(_label(one.label)) for one in series)
    figure, axes = _axes(width=NARROW + 0.05 * longest, height=0.9 + 0.34 * len(series))
    for row, one in enumerate(series):
        estimate = one.estimates[0]
        if estimate is None:
            continue
        axes.errorbar(
            estimate.value,
            row,
            xerr=_errors([estimate]),
            fmt="o",
            capsize=3,
            color=one.colour,
            markerfacecolor="none" if one.partial else one.colour,
        )
    axes.set_yticks(range(len(series)), [_label(one.label) for one in series])
    axes.set_ylim(len(series) - 0.5, -0.5)
    axes.set_xlabel(unit)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    words = "; ".join(_in_words([one.label], one.estimates) for one in series)
    rows = [(one.label, *one.texts()) for one in series]
    return _plot(
        name,
        title,
        f"Dots with 95% intervals ({NOT_OF_FEW}), {unit}. {words}",
        figure,
        ("Run", unit),
        rows,
    )


def histogram(name: str, title: str, series: Sequence[Series], axis: str, counted: str) -> Plot:
    """Return outlines of how values are distributed, over bins that all series share.

    Args:
        name: For files.
        title: Above the plot.
        series: Each with its values.
        axis: What the values are, with their unit.
        counted: What is counted, in the plural.
    """
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(width=WIDTH)
    everything = np.concatenate([np.asarray(one.values, float) for one in series])
    is_whole = bool((everything == np.round(everything)).all())
    low, high = float(everything.min()), float(everything.max())
    if is_whole and high - low < 40:
        edges = np.arange(low - 1.5, high + 2.5)
    else:
        edges = np.linspace(low, high if high > low else low + 1, 31)
    for one in series:
        axes.hist(
            one.values,
            bins=edges.tolist(),
            histtype="stepfilled" if len(series) == 1 else "step",
            linewidth=1.4,
            linestyle=("-", "--", ":", "-.")[one.place % 4] if len(series) > 1 else "-",
            color=one.colour,
            label=_label(one.label),
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=is_whole))
    axes.set_xlabel(axis)
    axes.set_ylabel(counted)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    _legend(axes, series)
    words = "; ".join(
        f"{one.label}: median {np.median(one.values):.4g}, from {min(one.values):.4g} "
        f"to {max(one.values):.4g}"
        for one in series
    )
    counts = [np.histogram(one.values, edges)[0].tolist() for one in series]
    ranges = [
        f"{high - 0.5:.0f}" if is_whole and high - low == 1 else f"{low:.4g} to {high:.4g}"
        for low, high in pairwise(edges.tolist())
    ]
    rows = [
        (between, *map(str, found))
        for between, *found in zip(ranges, *counts, strict=True)
        if any(found)
    ]
    header = [axis, *(f"{one.label}: {counted}" for one in series)]
    return _plot(name, title, f"Histogram of {axis}. {words}", figure, header, rows)


def reliability(
    name: str, title: str, series: Sequence[tuple[Series, Sequence[float], float]]
) -> Plot:
    """Return how often answers are right against how probable the model held them.

    Args:
        name: For files.
        title: Above the plot.
        series: Each with the share right in a bin and its interval, the mean probability in that
            bin, and the expected calibration error.
    """
    figure, axes = _axes(width=4.6, height=4.2)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    for one, confidences, _ in series:
        estimates = [e for e in one.estimates if e is not None]
        axes.errorbar(
            confidences,
            [e.value for e in estimates],
            yerr=_errors(estimates),
            fmt="o-",
            capsize=3,
            color=one.colour,
            label=_label(one.label),
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("probability of the likeliest option, among the options")
    axes.set_ylabel("share right")
    _legend(axes, [one for one, _, _ in series])
    words = "; ".join(f"{one.label}: {error:.3f}" for one, _, error in series)
    rows = [
        (one.label, f"{confidence:.3f}", f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]")
        for one, confidences, _ in series
        for confidence, e in zip(confidences, filter(None, one.estimates), strict=True)
    ]
    return _plot(
        name,
        title,
        f"Reliability diagram. Expected calibration error: {words}",
        figure,
        ("Run", "mean probability", "share right"),
        rows,
    )


def _axes(width: float, height: float = 2.9) -> tuple[Figure, Axes]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(min(width, 14.0), height), layout="constrained")
        return figure, figure.subplots()


def _plot(
    name: str,
    title: str,
    alt: str,
    figure: Figure,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> Plot:
    import matplotlib as mpl

    # Laid out once and for all: each saving would otherwise move things by fractions of a pixel.
    with mpl.rc_context(SETTINGS):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return Plot(name, title, printable(alt), figure, tuple(header), tuple(map(tuple, rows)))


def _errors(estimates: Sequence[Estimate]) -> list[list[float]]:
    return [
        [max(e.value - e.low, 0.0) for e in estimates],
        [max(e.high - e.value, 0.0) for e in estimates],
    ]


def _legend(axes: Axes, series: Sequence[Series]) -> None:
    if len(series) < 2:
        return
    longest = max(len(_label(one.label)) for one in series)
    figure = axes.get_figure(root=True)
    width, height = figure.get_size_inches() if figure else (6.5, 2.9)
    columns = max(1, min(len(series), int(width * 13 / (longest + 8))))
    rows = -(-len(series) // columns)
    if figure:
        figure.set_figheight(height + 0.17 * rows)
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )


def _label(text: str) -> str:
    text = printable(text)
    # Both ends say something: the run's letter, and how many samples a subset has.
    shown = text if len(text) <= MAX_LENGTH else f"{text[:START]}…{text[START + 1 - MAX_LENGTH :]}"
    return shown.replace("$", r"\$")  # a dollar in a model's name does not start a formula


def _in_words(names: Sequence[str], estimates: Sequence[Estimate | None]) -> str:
    return ", ".join(
        f"{name} {_shown(e)}" for name, e in zip(names, estimates, strict=True) if e is not None
    )


def _shown(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    interval = f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f}{interval if estimate.low < estimate.high else ''}"
