"""The comparison as Markdown tables, put between the marks that documents have for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Line = dict[str, Any]
NAMES = {
    "mini_mme": "mini MME accuracy",
    "mini_sqa": "mini ScienceQA",
    "mini_caption": "mini caption CIDEr",
}


def summary(scores: Sequence[Line], timings: Sequence[Line]) -> str:
    """Return a row per method: what it costs, and the mean over seeds on each task."""
    rows = [
        "| method | tuned | CPU s/step | training memory | answers/CPU s | "
        + " | ".join(NAMES.values())
        + " |",
        "|---" * (5 + len(NAMES)) + "|",
    ]
    for timing in timings:
        cells = [
            timing["method"],
            f"{timing['parameters']:,.0f}",
            f"{timing['seconds_per_step']:.2f}",
            f"{timing['step peak_bytes'] / 2**20:,.0f} MiB",
            f"{timing['answers_per_second']:.0f}",
        ]
        own = {line["task"]: line for line in scores if line["method"] == timing["method"]}
        rows.append(f"| {' | '.join([*cells, *(_score(own[task]) for task in NAMES)])} |")
    return "\n".join(rows)


def by_seed(scores: Sequence[Line]) -> str:
    """Return a row per method and task: each seed's figure, their spread, the samples' interval.

    A method with fewer seeds than others has dashes at the end.
    """
    seeds = max(len(line["seeds"]) for line in scores)
    head = [f"seed {n + 1}" for n in range(seeds)]
    rows = [
        f"| task | method | {' | '.join(head)} | highest - lowest | interval over samples |",
        "|---" * (4 + seeds) + "|",
    ]
    for task, name in NAMES.items():
        for line in (one for one in scores if one["task"] == task):
            values = [f"{100 * value:.1f}" for value in line["seeds"]]
            spread = "-"
            if len(values) > 1:
                spread = f"{100 * (max(line['seeds']) - min(line['seeds'])):.1f}"
            values += ["-"] * (seeds - len(values))
            width = 100 * (line["high"] - line["low"])
            rows.append(
                f"| {name} | {line['method']} | {' | '.join(values)} | {spread} | "
                f"[{100 * line['low']:.1f}, {100 * line['high']:.1f}], {width:.1f} wide |"
            )
    return "\n".join(rows)


def pairs(differences: Sequence[Line]) -> str:
    """Return a row per task and pair of methods."""
    rows = ["| task | methods | difference | 95% interval | p, Holm |", "|---|---|---|---|---|"]
    for line in differences:
        p = "< 0.001" if line["p_holm"] < 0.001 else f"{line['p_holm']:.3f}"
        rows.append(
            f"| {NAMES[line['task']]} | {line['second']} - {line['first']} | "
            f"{100 * line['difference']:+.1f} | "
            f"[{100 * line['low']:+.1f}, {100 * line['high']:+.1f}] | {p} |"
        )
    return "\n".join(rows)


def put(document: Path, name: str, table: str) -> None:
    """Replace what stands between a document's marks for a table.

    Args:
        document: Markdown.
        name: Of the marks, `<!-- figures: NAME -->` and `<!-- end -->`.
        table: Without a final newline.

    Raises:
        ValueError: the document has no such marks.
    """
    text = document.read_text(encoding="utf-8")
    marks = re.compile(rf"(<!-- figures: {name} -->\n)(.*\n)*?(<!-- end -->)")
    if not marks.search(text):
        raise ValueError(f"{document} has no place for the table {name!r}")
    document.write_text(marks.sub(lambda found: f"{found[1]}{table}\n{found[3]}", text), "utf-8")


def _score(line: Line) -> str:
    return f"{100 * line['mean']:.1f} [{100 * line['low']:.1f}, {100 * line['high']:.1f}]"
