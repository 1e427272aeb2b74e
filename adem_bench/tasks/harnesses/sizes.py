"""How many questions a benchmark of another harness has, as far as that is known without it.

What was read here for a run is known to the question; of a table on disk the rows are counted, once
for each state of it; of a snapshot of the hub the card says; and of files whose MD5 is that of a
file of our own cards, the cards say.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from adem_bench.data.paths import cache_root
from adem_bench.errors import ResultsError
from adem_bench.files import file_name, is_file, read_json, read_text, write_json
from adem_bench.tasks.harnesses.catalogue import Entry, hub_snapshots
from adem_bench.tasks.harnesses.process import VLMEVALKIT, Harness, data_folder

MOST_BYTES = 32 << 20
"""Of tables whose rows one call counts, the smallest first: a list is to be there at once."""
MOST_CHARACTERS = 1 << 30
"""Of one cell, which may hold an image."""
ROWS = "rows.json"
SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def sizes(harness: Harness, entries: Sequence[Entry]) -> dict[str, int]:
    """Return the numbers of questions, by benchmark; those that are not known are missing.

    Args:
        harness: Whose.
        entries: The benchmarks.
    """
    found = {one.name: int(one.samples) for one in entries if one.samples.isdecimal()}
    if harness is VLMEVALKIT:
        found |= _of_tables(entries)
    else:
        told = ((one.name, _of_snapshots(one)) for one in entries)
        found |= {name: count for name, count in told if count}
    made = cache_root() / "harnesses" / harness.kind
    folders = {path.name: path for path in made.iterdir()} if made.is_dir() else {}
    for one in entries:
        folder = folders.get(file_name(one.name))
        count = _of_earlier(folder) if folder else None
        if count is not None:
            found[one.name] = count
    return found


def is_unchanged(built: Mapping[str, Any]) -> bool:
    """Return whether samples are still those of the data: no file that was read has changed.

    Args:
        built: What a worker said of the samples that it wrote.
    """
    try:
        states = ((Path(path).stat(), size, time) for path, size, time in built["reads"])
        same = all((now.st_size, now.st_mtime_ns) == (size, time) for now, size, time in states)
        samples = Path(built["samples"])
        return same and samples.stat().st_size == built.get("bytes", samples.stat().st_size)
    except (OSError, KeyError, TypeError, ValueError):
        return False


def _of_earlier(folder: Path) -> int | None:
    """Return the number of samples that were last read for a run, from the data that is there."""
    for path in sorted(folder.glob("built-*.json"), key=os.path.getmtime, reverse=True):
        try:
            built = read_json(path)
        except (OSError, ValueError):
            continue
        if not isinstance(built, dict) or built.get("data") != str(data_folder()):
            continue
        if is_unchanged(built) and isinstance(built.get("count"), int):
            return int(built["count"])
    return None


def _of_tables(entries: Sequence[Entry]) -> dict[str, int]:
    """Return the numbers of rows of VLMEvalKit's TSVs that are on disk."""
    folder = data_folder()
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    wanted: dict[str, list[Path]] = {}
    for one in entries:
        names = [f"{name}.tsv" for name in one.parts.split() or [one.name]]
        if there.issuperset(names):
            wanted[one.name] = [folder / name for name in names]
    counts = _counts(sorted({path for paths in wanted.values() for path in paths}))
    return {
        name: sum(counts[path] for path in paths)
        for name, paths in wanted.items()
        if counts.keys() >= set(paths)
    }


def _counts(paths: Sequence[Path]) -> dict[Path, int]:
    """Return the rows of tables: those that are kept, and of the others as many as may be."""
    file = cache_root() / "harnesses" / ROWS
    kept: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        read = read_json(file)
        kept = read if isinstance(read, dict) else {}
    found: dict[Path, int] = {}
    unknown: list[tuple[int, Path, list[int]]] = []
    for path in paths:
        try:
            state = path.stat()
        except OSError:
            continue
        now, known = [state.st_size, state.st_mtime_ns], kept.get(str(path))
        if isinstance(known, list) and known[:2] == now and all(type(n) is int for n in known[2:]):
            found[path] = known[2]
        else:
            unknown.append((state.st_size, path, now))
    left, before = MOST_BYTES, len(found)
    for size, path, now in sorted(unknown):
        if size > left:
            break
        left -= size
        count = _rows(path)
        if count is not None:
            found[path] = count
            kept[str(path)] = [*now, count]
    if len(found) > before:
        with suppress(ResultsError):  # they are counted again next time
            write_json(file, kept)
    return found


def _rows(path: Path) -> int | None:
    """Return the number of rows below a table's header; None if it is not a table."""
    csv.field_size_limit(max(csv.field_size_limit(), MOST_CHARACTERS))
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return max(0, sum(bool(row) for row in csv.reader(stream, delimiter="\t")) - 1)
    except (OSError, ValueError, csv.Error):
        return None


def _of_snapshots(entry: Entry) -> int | None:
    """Return what the card of a data set's snapshot says of the split, where all of it is asked."""
    if not entry.split or "/" not in entry.data:
        return None
    for folder in hub_snapshots(entry):
        card = folder / "README.md"
        if is_file(card) and (count := _stated(card, entry)) is not None:
            return count
    return None


def _stated(card: Path, entry: Entry) -> int | None:
    try:
        head = read_text(card).split("\n---", 1)[0].removeprefix("---")
        about = yaml.load(head, SAFE_LOADER)["dataset_info"]  # noqa: S506 - safe
        parts = about if isinstance(about, list) else [about]
        [part] = [one for one in parts if str(one.get("config_name", "default")) == entry.config]
        [count] = [one["num_examples"] for one in part["splits"] if one["name"] == entry.split]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return None
    return count if type(count) is int else None
