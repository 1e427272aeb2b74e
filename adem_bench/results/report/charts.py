"""Plots of figures with intervals; every text in them is data, never markup."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adem_bench.errors import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444", "#8c564b")
"""Okabe and Ito's, which people distinguish whatever colours they see; two more at the end."""
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++", "oo")
"""So that series differ in print too."""
SETTINGS: Any = {
    "svg.hashsalt": "adem-bench",  # the same figures give the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
DPI = 144
MAX_LENGTH, WIDE = 48, 7.0


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


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawn plot with its words."""

    name: str
    """For files: `mini_sqa-groups`."""
    title: str
    alt: str
    """What it shows, for readers who cannot see it."""
    figure: Figure

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


def bars(name: str, title: str, names: Sequence[str], series: Sequence[Series], unit: str) -> Plot:
    """Return grouped bars with intervals: a group for each name, in it a bar for each series.

    Args:
        name: For files.
        title: Above the plot.
        names: Of the groups.
        series: Each with an estimate for every name, None where it has none.
        unit: Of all figures, for the axis.
    """
    figure, axes = _axes(width=max(6.0, 1.2 + 0.22 * len(names) * (len(series) + 1)))
    width = 0.8 / len(series)
    for number, one in enumerate(series):
        known = [(at, e) for at, e in enumerate(one.estimates) if e is not None]
        axes.bar(
            [at + (number - (len(series) - 1) / 2) * width for at, _ in known],
            [e.value for _, e in known],
            width * 0.92,
            yerr=_errors([e for _, e in known]),
            label=_label(one.label),
            color=COLOURS[one.place % len(COLOURS)],
            hatch=HATCHES[one.place % len(HATCHES)],
            edgecolor="white",
            linewidth=0.4,
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#222222"},
        )
    tilt = 35 if sum(map(len, names)) > 60 else 0
    axes.set_xticks(
        range(len(names)),
        [_label(n) for n in names],
        rotation=tilt,
        ha="right" if tilt else "center",
    )
    axes.set_ylabel(unit)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    _legend(axes, series)
    words = "; ".join(f"{one.label}: {_in_words(names, one.estimates)}" for one in series)
    return _plot(name, title, f"Bars with 95% intervals, {unit}. {words}", figure)


def dots(name: str, title: str, series: Sequence[Series], unit: str) -> Plot:
    """Return a dot with its interval for each series.

    Args:
        name: For files.
        title: Above the plot.
        series: Each with one estimate.
        unit: Of the figures, for the axis.
    """
    figure, axes = _axes(width=6.5, height=0.9 + 0.34 * len(series))
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
            color=COLOURS[one.place % len(COLOURS)],
        )
    axes.set_yticks(range(len(series)), [_label(one.label) for one in series])
    axes.set_ylim(len(series) - 0.5, -0.5)
    axes.set_xlabel(unit)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    words = "; ".join(_in_words([one.label], one.estimates) for one in series)
    return _plot(name, title, f"Dots with 95% intervals, {unit}. {words}", figure)


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

    figure, axes = _axes(width=6.5)
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
            color=COLOURS[one.place % len(COLOURS)],
            label=_label(one.label),
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=is_whole))
    axes.set_xlabel(axis)
    axes.set_ylabel(counted)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    _legend(axes, series)
    words = "; ".join(
        f"{one.label}: median {np.median(one.values):.4g}, from {min(one.values):.4g} "
        f"to {max(one.values):.4g}"
        for one in series
    )
    return _plot(name, title, f"Histogram of {axis}. {words}", figure)


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
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
    for one, confidences, _ in series:
        estimates = [e for e in one.estimates if e is not None]
        axes.errorbar(
            confidences,
            [e.value for e in estimates],
            yerr=_errors(estimates),
            fmt="o-",
            capsize=3,
            color=COLOURS[one.place % len(COLOURS)],
            label=_label(one.label),
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("probability of the likeliest option, among the options")
    axes.set_ylabel("share right")
    _legend(axes, [one for one, _, _ in series])
    words = "; ".join(f"{one.label}: {error:.3f}" for one, _, error in series)
    return _plot(name, title, f"Reliability diagram. Expected calibration error: {words}", figure)


def _axes(width: float, height: float = 2.9) -> tuple[Figure, Axes]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(min(width, 14.0), height), layout="constrained")
        return figure, figure.subplots()


def _plot(name: str, title: str, alt: str, figure: Figure) -> Plot:
    import matplotlib as mpl

    # Laid out once and for all: each saving would otherwise move things by fractions of a pixel.
    with mpl.rc_context(SETTINGS):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return Plot(name, title, printable(alt), figure)


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
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False, fontsize=8
    )


def _label(text: str) -> str:
    text = printable(text)
    shown = text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"
    return shown.replace("$", r"\$")  # a dollar in a model's name does not start a formula


def _in_words(names: Sequence[str], estimates: Sequence[Estimate | None]) -> str:
    return ", ".join(
        f"{name} {e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"
        for name, e in zip(names, estimates, strict=True)
        if e is not None
    )
