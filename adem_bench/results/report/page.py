"""The report: runs as one page that needs no network, and its plots as files."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from pydantic import ValidationError

from adem_bench.errors import AdemBenchError, ResultsError
from adem_bench.files import write_atomically
from adem_bench.metrics.intervals import Statistics
from adem_bench.metrics.paired import Difference
from adem_bench.records import Metric
from adem_bench.results.comparison import Comparison, compare_runs
from adem_bench.results.comparison_text import counted, difference_cells
from adem_bench.results.html import Live, page_pieces
from adem_bench.results.report.charts import Plot
from adem_bench.results.report.plots import UNITS, Shown, task_plots
from adem_bench.results.report.samples import SampleTable, sample_table
from adem_bench.results.run_folder import is_imported
from adem_bench.results.runs import OpenedRun, foreign_card, own_statistics
from adem_bench.results.variants import labels, letters, shown_places
from adem_bench.tasks.base import Task, task_of
from adem_bench.tasks.recorded import recorded_card

MAX_THUMBNAILS = 2000
MOST_COMPARED = 32
"""Runs of a task that are compared with each other: 496 pairs; 4,950 took 94 seconds."""
ASKED = ("task_options", "prompt_settings", "data")
"""Parts of a run's identity that say how it asked, and of what data."""


@dataclass(frozen=True, slots=True)
class Member:
    """A run in a report."""

    letter: str
    """Of the label: the same on every task, as is the colour."""
    label: str
    """The model with what sets the run apart."""
    place: int
    """Of the label among all labels."""
    run: OpenedRun


@dataclass(slots=True)
class TaskPart:
    """What a report says of the runs of one task."""

    name: str
    """`TASK, split SPLIT`."""
    place: str
    """`TASK/SPLIT`, as in links to samples."""
    anchor: str
    members: list[Member]
    compared: list[Member]
    """Those that `comparison` is of: complete runs, or all if there are fewer than two."""
    samples: SampleTable
    plots: list[Plot]
    comparison: Comparison | None
    notes: list[str] = field(default_factory=list)
    """What is missing, and why."""
    remarks: list[str] = field(default_factory=list)
    """What a plot would say less well."""


def report_parts(
    runs: Sequence[OpenedRun],
    data_root: Path | None = None,
    most_thumbnails: int = MAX_THUMBNAILS,
) -> list[TaskPart]:
    """Return what a report says, task by task.

    Prompts and images come from the data; where it is not available, or is not what the runs
    answered, the report says so and goes without.

    Args:
        runs: Those to show.
        data_root: Folder of the data, as for a run.
        most_thumbnails: Images to show at most, for each task.

    Raises:
        ResultsError: no run was given.
    """
    if not runs:
        raise ResultsError("a report needs at least one finished run")
    by_task: dict[tuple[str, str], list[Member]] = {}
    for member in _members(runs):
        result = member.run.result
        by_task.setdefault((result.task, result.split), []).append(member)
    order = dict.fromkeys((run.result.task, run.result.split) for run in runs)
    return [
        _part(number, key, by_task[key], data_root, most_thumbnails)
        for number, key in enumerate(order)
    ]


def _members(runs: Sequence[OpenedRun]) -> list[Member]:
    """Return the runs in the order in which every task shows them; a label keeps its letter."""
    finished = [run.run for run in runs]
    called = labels(finished)
    places = shown_places(called, finished)
    names = letters(range(len(runs)))
    members = [
        Member(names[place], label, place, run)
        for label, place, run in zip(called, places, runs, strict=True)
    ]
    return sorted(members, key=lambda member: member.place)


def _part(
    number: int,
    key: tuple[str, str],
    members: list[Member],
    data_root: Path | None,
    most_thumbnails: int,
) -> TaskPart:
    runs = [member.run for member in members]
    notes: list[str] = []
    compared = _comparable(members, notes)
    comparison = None
    if len(compared) > MOST_COMPARED:
        pairs = math.comb(len(compared), 2)
        notes.append(
            f"No comparison: {len(compared)} runs make {pairs:,} pairs; a page of at most "
            f"{MOST_COMPARED} runs of a task compares them, and `adem-bench compare` any number."
        )
    elif len(compared) > 1:
        try:
            comparison = compare_runs([member.run for member in compared])
        except AdemBenchError as error:
            notes.append(f"No comparison: {error}")
    statistics = enumerate(map(_own_statistics, runs))
    figures = {place: found for place, found in statistics if found}
    tasks = _tasks(members, data_root, notes)
    headline = runs[0].result.headline
    imported = [n for n, run in enumerate(runs) if is_imported(run.manifest)]
    if imported and any(tasks):
        who = (
            ""
            if len(imported) == len(members)
            else " of " + ", ".join(members[n].letter for n in imported)
        )
        notes.append(f"Prompts{who} are not shown: other code asked, and how is not known.")
    samples = sample_table(runs, tasks, figures, headline, most_thumbnails, imported)
    if samples.thumbnails < samples.images:
        notes.append(
            f"Of {counted(samples.images, 'images')} {samples.thumbnails} are shown, first those "
            "of samples that went wrong."
        )
    shown = [
        Shown(f"{m.letter} {m.label}", m.place, m.run, figures.get(n))
        for n, m in enumerate(members)
    ]
    remarks: list[str] = []
    plots = list(task_plots(key[0], shown, samples.prompt_lengths, remarks))
    return TaskPart(
        name=f"{key[0]}, split {key[1]}",
        place="/".join(key),
        anchor=f"task-{number}",
        members=members,
        compared=compared,
        samples=samples,
        plots=plots,
        comparison=comparison,
        notes=notes,
        remarks=remarks,
    )


def _comparable(members: list[Member], notes: list[str]) -> list[Member]:
    """Return the complete runs if there are two: a subset would shrink every comparison."""
    complete = [member for member in members if member.run.result.complete]
    if len(complete) < 2 or len(complete) == len(members):
        return members
    rest = ", ".join(m.letter for m in members if m not in complete)
    notes.append(
        f"Not compared, because they are not complete: {rest} (`adem-bench compare` does)."
    )
    return complete


def _own_statistics(run: OpenedRun) -> Statistics | None:
    """Return the statistics of a run on its own; None if its samples have scores of their own."""
    records = list(run.records.values())
    if any(record.score is not None for record in records):
        return None
    return own_statistics(run, records)


def _tasks(
    members: Sequence[Member], data_root: Path | None, notes: list[str]
) -> list[Task | None]:
    """Return each run's task as it asked, with its data; None where that is not available.

    Runs that asked alike share one.
    """
    tasks: dict[str, tuple[Task | None, str]] = {}
    found: list[Task | None] = []
    without: dict[str, list[str]] = {}
    for member in members:
        identity = member.run.manifest.get("identity", {})
        key = json.dumps([identity.get(part) for part in ASKED], sort_keys=True)
        if key not in tasks:
            tasks[key] = _task(member.run, data_root)
        task, reason = tasks[key]
        found.append(task)
        if reason:
            without.setdefault(reason, []).append(member.letter)
    for reason, names in without.items():
        of = "" if len(names) == len(members) else f" of {', '.join(names)}"
        notes.append(f"Prompts and images{of} are not shown: {reason}.")
    return found


def _task(run: OpenedRun, data_root: Path | None) -> tuple[Task | None, str]:
    """Return a run's task with the data that it answered; or None, and why it is not available."""
    try:
        task = task_of(recorded_card(run.manifest), data_root)
        if task.fingerprint() == run.manifest["task"]["data_fingerprint"]:
            return task, ""
        return None, "the data here is not what the runs answered; --data-root names another folder"
    except ValidationError as error:
        return None, foreign_card(error)
    except (AdemBenchError, ValueError, KeyError) as error:
        return None, str(error).splitlines()[0]


def report_pieces(
    parts: Sequence[TaskPart], live: Live | None = None, left_out: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the page piece by piece: with many samples it is large.

    Args:
        parts: What it says of each task.
        live: Of a page that a server keeps current.
        left_out: Why runs are not among them.
    """
    members = [member for part in parts for member in part.members]
    warnings: dict[tuple[str, str], list[str]] = {}
    for member in members:
        for warning in member.run.result.warnings:
            warnings.setdefault((member.letter, warning), []).append(member.run.result.task)
    return page_pieces(
        "report.html",
        script="report.js",
        style="report.css",
        images=True,
        live=live,
        left_out=left_out,
        parts=parts,
        members=members,
        warnings=warnings,
        picture=_picture,
        cells=_cells,
        counted=counted,
        units=UNITS,
        headline=_headline,
        metric_names=_metric_names,
        metric=_metric,
        json_text=_json_text,
    )


def write_plots(parts: Sequence[TaskPart], folder: Path, forms: Sequence[str]) -> list[Path]:
    """Write every plot to `FOLDER/NAME.FORM`; return the files.

    Args:
        parts: Of the report.
        folder: Made if it does not exist.
        forms: `png`, `svg` or both.

    Raises:
        ResultsError: the folder cannot be written.
    """
    files = []
    for part in parts:
        for plot in part.plots:
            for form in forms:
                files.append(folder / f"{_file_name(plot.name)}.{form}")
                write_atomically(files[-1], plot.image(form))
    return files


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _picture(plot: Plot) -> Markup:
    data = base64.b64encode(plot.page_image()).decode()
    return Markup('<img src="data:image/svg+xml;base64,{}" alt="{}">').format(data, plot.alt)


def _cells(part: TaskPart, pair: Any, difference: Difference) -> tuple[str, ...]:
    units = {metric.name: metric.unit for metric in part.members[0].run.result.metrics}
    who = part.compared[pair.first].letter, part.compared[pair.second].letter
    return difference_cells(difference, who, units.get(difference.metric, "fraction"))


def _metric_names(part: TaskPart) -> list[str]:
    metrics = [metric for member in part.members for metric in member.run.result.metrics]
    return list(dict.fromkeys(metric.name for metric in metrics if metric.count))


def _headline(run: OpenedRun) -> Metric:
    return run.result.metric(run.result.headline)


def _metric(run: OpenedRun, name: str) -> str:
    for metric in run.result.metrics:
        if metric.name == name:
            return f"{metric.format()} {metric.format_interval()}".strip()
    return ""


def _json_text(data: Mapping[str, Any]) -> Markup:
    # As it stands, line breaks and all; JSON has no control characters of its own.
    return escape(json.dumps(data, indent=2))
