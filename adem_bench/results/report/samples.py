"""The samples of runs of one task as compressed JSON that the page's script unpacks.

Rows are made and compressed one by one: the page of 100,000 samples is never in memory at once.
"""

from __future__ import annotations

import base64
import io
import json
import math
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from markupsafe import Markup

from adem_bench.images import UnreadableImageError, open_rgb
from adem_bench.metrics.intervals import Statistics
from adem_bench.records import Json, Record, record_key
from adem_bench.tasks.base import Task

GZIP, LEVEL = 31, 5
"""zlib's window bits for a gzip stream, which browsers unpack; a middling level."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
RIGHT, WRONG, FIGURE, FAILED, MISSING, NOT_ASKED = range(6)
"""How a cell of the page was judged; `FIGURE`: it has a figure of its own instead."""


@dataclass(slots=True)
class SampleTable:
    """What the page's sample table needs."""

    data: Markup
    """Base64 of gzip of JSON (see `sample_table`), which no page needs to escape."""
    count: int
    prompt_lengths: list[list[int]]
    """In characters: one list for all runs, one for each if they were not asked alike, or none."""
    images: int
    """Distinct images of the samples."""
    thumbnails: int
    """How many of them the page shows."""


@dataclass(slots=True)
class _Images:
    """Images met so far; of each, whether some run went wrong on it."""

    places: dict[Path, int] = field(default_factory=dict)
    urgent: set[Path] = field(default_factory=set)

    def place(self, path: Path, is_urgent: bool) -> int:
        if is_urgent:
            self.urgent.add(path)
        return self.places.setdefault(path, len(self.places))

    def chosen(self, most: int) -> dict[Path, int]:
        """Return the images to show: first those of samples that went wrong or apart."""
        order = sorted(self.places, key=lambda path: path not in self.urgent)
        return {path: self.places[path] for path in order[:most]}


class Answered(Protocol):
    """What has records: a finished run, or one that goes on."""

    @property
    def records(self) -> Mapping[str, Record]:
        """By their keys, in the data's order."""


def sample_table(
    runs: Sequence[Answered],
    tasks: Sequence[Task | None],
    figures: Mapping[int, Statistics],
    headline: str,
    most_thumbnails: int,
    imported: Collection[int] = (),
) -> SampleTable:
    """Return the samples of runs of one task, in the data's order.

    The JSON is `{"rows": […], "groups": […], "images": {place: data URI}}`; a row is
    `[id, groups, image, prompt, reference, gap, cells]`, a cell of a run
    `[response, prediction, verdict, figure]`. A prompt is a list, one for each run, where the runs
    were not all asked the same; None stands for one that is not available.

    Args:
        runs: All of one task.
        tasks: Of each run, as it asked, with the data; None where that is not available.
        figures: By place in `runs`: statistics of samples that have no score of their own.
        headline: The metric that is such a sample's figure.
        most_thumbnails: Images to show at most.
        imported: Places in `runs` of answers that other code was given, to prompts of its own.
    """
    values = {
        place: dict(zip(s.units, (100 * s.formulas[headline](s.rows)).tolist(), strict=True))
        for place, s in figures.items()
        if headline in s.formulas
    }
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    parts = [compressor.compress(b'{"rows":[')]
    groups: dict[str, int] = {}
    images = _Images()
    lengths: list[list[int]] = []
    count = 0
    for asked in _asked(runs, tasks, imported):
        records = [run.records.get(asked.key) for run in runs]
        cells = [
            _cell(record, values.get(place, {}), asked.choices, place in imported)
            for place, record in enumerate(records)
        ]
        gap = _gap(cells)
        wrong = gap > 0 or any(cell[2] in (WRONG, FAILED, NOT_ASKED) for cell in cells)
        first = next(record for record in records if record is not None)
        alike = len(asked.prompts) == 1
        row = [
            f"{first.sample_id}, repeat {first.repeat}" if first.repeat else first.sample_id,
            [groups.setdefault(group, len(groups)) for group in first.groups],
            images.place(asked.image, wrong) if asked.image else -1,
            asked.prompts[0] if alike else asked.prompts,
            _shown(first.reference, asked.choices),
            round(gap, 4),
            cells,
        ]
        lengths = lengths or [[] for _ in asked.prompts]
        for found, prompt in zip(lengths, asked.prompts, strict=False):
            if prompt is not None:
                found.append(len(prompt))
        text = json.dumps(row, separators=(",", ":"))
        parts.append(compressor.compress((f",{text}" if count else text).encode()))
        count += 1
    shown = thumbnails(images.chosen(most_thumbnails))
    rest = f'],"groups":{json.dumps(list(groups))},"images":{json.dumps(shown)}}}'
    parts += [compressor.compress(rest.encode()), compressor.flush()]
    data = Markup(base64.b64encode(b"".join(parts)).decode())  # noqa: S704 - letters and digits
    known = lengths if any(lengths) else []
    return SampleTable(data, count, known, len(images.places), len(shown))


@dataclass(frozen=True, slots=True)
class _Asked:
    key: str
    """Of the records."""
    prompts: Sequence[str | None] = (None,)
    """One for all runs, or one for each."""
    image: Path | None = None
    choices: Sequence[str] = ()


def _asked(
    runs: Sequence[Answered], tasks: Sequence[Task | None], imported: Collection[int]
) -> Iterator[_Asked]:
    """Yield every sample that some run has a record of, with its prompt where it is known.

    Args:
        runs: All of one task.
        tasks: Of each run.
        imported: Places of runs whose prompts were not the task's.
    """
    left = dict.fromkeys(key for run in runs for key in run.records)
    repeats = 1 + max((r.repeat for run in runs for r in run.records.values()), default=0)
    known = {id(task): task for task in tasks if task}
    first = next(iter(known.values()), None)
    asks = {id(task) for place, task in enumerate(tasks) if place not in imported}
    # The first is read as it is gone through: all prompts of a large task are never in memory.
    others = {
        place: {sample.id: task.request(sample).prompt for sample in task.samples()}
        for place, task in known.items()
        if task is not first and place in asks
    }
    alike = len({(id(task), n in imported) for n, task in enumerate(tasks)}) == 1
    for sample in first.samples() if first else ():
        for key in [record_key(sample.id, repeat) for repeat in range(repeats)]:
            if key in left:
                del left[key]
                choices = sample.fields.get("choices", ())
                image = sample.images[0] if sample.images else None
                own = first.request(sample).prompt if first and id(first) in asks else None
                prompts: tuple[str | None, ...] = (own,)
                if not alike:
                    prompts = tuple(
                        None
                        if n in imported
                        else own
                        if task is first
                        else others.get(id(task), {}).get(sample.id)
                        for n, task in enumerate(tasks)
                    )
                yield _Asked(key, prompts, image, choices)
    for key in left:
        yield _Asked(key, (None,) if alike else (None,) * len(tasks))


def _cell(
    record: Record | None, values: Mapping[str, float], choices: Sequence[str], imported: bool
) -> list[Any]:
    """Return what the page shows of a run's record.

    Args:
        record: None if the run has none of the sample.
        values: Figures of samples without a score, by their ids.
        choices: The sample's options, if it has some.
        imported: Whether other code asked, of which it is not known what could not be.
    """
    if record is None:
        return ["", "", MISSING, None]
    if record.error is not None:
        unusable = record.is_unusable_row and not imported
        return [record.error, "", NOT_ASKED if unusable else FAILED, None]
    figure = values.get(record.sample_id)
    verdict = FIGURE
    if record.score in (0, 1):
        verdict = RIGHT if record.score else WRONG
    elif record.score is not None:
        figure = 100 * record.score
    known = figure is not None and math.isfinite(figure)
    shown = round(figure, 2) if known and figure is not None else None
    return [record.response, _shown(record.prediction, choices), verdict, shown]


def _gap(cells: Sequence[Sequence[Any]]) -> float:
    """Return how far the runs differ on a sample: in scores, or in figures."""
    scores = [
        float(cell[2] == RIGHT) if cell[2] in (RIGHT, WRONG) else (cell[3] or 0.0) / 100
        for cell in cells
        if cell[2] in (RIGHT, WRONG, FIGURE)
    ]
    return max(scores) - min(scores) if scores else 0.0


def _shown(value: Json, choices: Sequence[str]) -> str:
    """Return a prediction or a reference as a reader knows it: an option by letter and text."""
    if isinstance(value, int) and not isinstance(value, bool) and choices:
        if 0 <= value < len(choices):
            return f"{LETTERS[value]}. {choices[value]}"
        return "not an option"
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return "" if value is None else str(value)


SIDE, QUALITY = 160, 70
"""Longest side in pixels, and JPEG's quality."""
WORKERS = 4


def thumbnails(images: Mapping[Path, int]) -> dict[int, str]:
    """Return data URIs of small copies of images by their places; unreadable ones are left out.

    Images are decoded and encoded again: no file of a data set goes into a page as it is.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        made = pool.map(_thumbnail, images)
        return {
            place: uri for place, uri in zip(images.values(), made, strict=True) if uri is not None
        }


def _thumbnail(path: Path) -> str | None:
    try:
        image = open_rgb(path, at_least=SIDE)
    except UnreadableImageError:
        return None
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
