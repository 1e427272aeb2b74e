"""What is compared: each argument's runs, and which runs of them belong together.

An argument is a folder of runs (one run, a model's, a whole results folder), or a name: of a row of
the leaderboard, or of a folder below the results. Of several runs of one thing the best counts, as
in a leaderboard; runs of different things are kept apart by their settings, never chosen between.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adem_bench.errors import ResultsError, nearest_hint
from adem_bench.results.leaderboard.build import chosen_places
from adem_bench.results.runs import FinishedRun, finished_runs, nothing_finished
from adem_bench.results.variants import Place, Variant, variants_of

MAX_NAMED = 5
"""Runs or names that a message lists."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that may be compared, and what a leaderboard calls its model."""

    label: str
    run: FinishedRun

    @property
    def place(self) -> Place:
        """Its task and split."""
        return self.run.result.task, self.run.result.split

    @property
    def settings(self) -> str:
        """How it was run, apart from the model: equal texts mean equal settings."""
        run = self.run
        # What a manifest leaves out is at its default.
        defaults = {"blind": False, "limit": None, "repeats": 1, "seed": 0}
        options = {name: run.options.get(name) or value for name, value in defaults.items()}
        decoding = dict(run.decoding)
        return json.dumps([options, decoding, list(run.prompt)], sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class Side:
    """One argument of a comparison."""

    given: str
    """As it was written."""
    label: str
    """What a leaderboard calls the model; what was given if it holds several."""
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one task on one split, of several sides, that belong together."""

    place: Place
    settings: str
    """What sets it apart from other groups of the same place; empty if it is the only one."""
    members: tuple[tuple[int, Candidate], ...]
    """Each with the place of its side, in the sides' order."""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """What some sides have and others lack."""

    place: Place
    settings: str
    sides: tuple[int, ...]
    """The places of the sides that have it."""


def find_sides(given: Sequence[str], results: Path) -> tuple[list[Side], list[str]]:
    """Return what arguments stand for, and a warning for each folder that cannot be read.

    Args:
        given: Folders, or names below the results folder: a model's as a leaderboard calls it, or
            a folder's.
        results: The results folder.

    Raises:
        ResultsError: fewer than two, one that holds no finished run, an unknown name, or one run
            on two sides.
    """
    if len(given) < 2:
        call = f": `adem-bench compare {shlex.quote(given[0])} CANDIDATE`" if given else ""
        raise ResultsError(f"a comparison needs at least two runs or models{call}")
    shelf = _Shelf(results)
    sides = [shelf.side(name) for name in given]
    _refuse_one_run_twice(sides)
    return sides, shelf.warnings


def sides_of(given: Mapping[str, Sequence[FinishedRun]]) -> list[Side]:
    """Return sides of runs that were found already, by what each side is called.

    Raises:
        ResultsError: one run on two sides.
    """
    sides = [_side(name, variants_of(runs)) for name, runs in given.items()]
    _refuse_one_run_twice(sides)
    return sides


def _refuse_one_run_twice(sides: Sequence[Side]) -> None:
    owners: dict[Path, str] = {}
    for side in sides:
        for candidate in side.candidates:
            folder = candidate.run.folder.resolve()
            if folder in owners:
                both = f"is in both {owners[folder]} and {side.given}"
                if owners[folder] == side.given:
                    both = f"is given twice, as {side.given}"
                raise ResultsError(f"{folder} {both}; a run cannot be compared with itself")
        owners |= {c.run.folder.resolve(): side.given for c in side.candidates}


class _Shelf:
    """The results folder, read when a name asks for it."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.warnings: list[str] = []
        self._variants: list[Variant] | None = None

    def side(self, given: str) -> Side:
        path = Path(given)
        if not path.exists():
            named = [v for v in self._named() if v.label == given]
            if named:
                return _side(given, named)
            path = self.results / given
            if not path.is_dir():
                raise ResultsError(self._unknown(given))
        runs, warnings = finished_runs(path)
        if not runs:
            raise nothing_finished(path, warnings)
        self.warnings += warnings
        return _side(given, variants_of(runs))

    def _named(self) -> list[Variant]:
        if self._variants is None:
            runs: list[FinishedRun] = []
            if self.results.is_dir():
                runs, warnings = finished_runs(self.results)
                self.warnings += warnings
            self._variants = variants_of(runs)
        return self._variants

    def _unknown(self, given: str) -> str:
        if not self.results.is_dir():
            return (
                f"{given} is not a folder, and there is no results folder {self.results} to look "
                "for a model of this name; --results names one"
            )
        known = {variant.label for variant in self._named()}
        hint = nearest_hint(given, known)
        return f"{given} is neither a folder nor a model below {self.results}{hint}"


def _side(given: str, variants: Sequence[Variant]) -> Side:
    found = [Candidate(v.label, run) for v in variants for run in v.runs.values()]
    labels = list(dict.fromkeys(candidate.label for candidate in found))
    return Side(given, labels[0] if len(labels) == 1 else given, tuple(found))


def group_runs(
    sides: Sequence[Side], tasks: Sequence[str] = ()
) -> tuple[list[Group], list[Unpaired]]:
    """Return the runs that belong together, and what has no counterpart.

    Where every side has one run of a task and split, these belong together, whatever their
    settings. Where a side has several, they are told apart by their settings.

    Args:
        sides: At least two.
        tasks: Names as `sqa`, `sqa/test` or `mini` (a group); all if empty.

    Raises:
        ResultsError: several runs of one side are candidates for the same; no task in common; no
            run of a task in `tasks`.
    """
    if not tasks and all(len(side.candidates) == 1 for side in sides):
        # Run by run: what stands against it is said of the runs themselves.
        members = tuple((number, side.candidates[0]) for number, side in enumerate(sides))
        return [Group(members[0][1].place, "", members)], []
    places = {candidate.place for side in sides for candidate in side.candidates}
    groups: list[Group] = []
    unpaired: list[Unpaired] = []
    for place in chosen_places(list(places), tasks):
        there = [[c for c in side.candidates if c.place == place] for side in sides]
        having = tuple(number for number, found in enumerate(there) if found)
        if len(having) < 2:
            unpaired.append(Unpaired(place, "", having))
        elif all(len(found) < 2 for found in there):
            groups.append(Group(place, "", tuple((n, there[n][0]) for n in having)))
            if len(having) < len(sides):
                unpaired.append(Unpaired(place, "", having))
        else:
            found_groups, rest = _by_settings(sides, place, there)
            groups += found_groups
            unpaired += rest
    if not groups:
        raise ResultsError(_nothing_in_common(sides, unpaired))
    return groups, unpaired


def _by_settings(
    sides: Sequence[Side], place: Place, there: Sequence[Sequence[Candidate]]
) -> tuple[list[Group], list[Unpaired]]:
    """Return the groups of a place where some side has several runs.

    Raises:
        ResultsError: two runs of one side have the same settings, or no two sides have.
    """
    keys = list(dict.fromkeys(c.settings for found in there for c in found))
    words = _apart(keys, there)
    groups, unpaired = [], []
    for key in keys:
        same = [[c for c in found if c.settings == key] for found in there]
        having = [number for number, found in enumerate(same) if found]
        if len(having) > 1:
            for number in having:
                if len(same[number]) > 1:
                    raise _several(sides[number], place, same[number])
            members = tuple((number, same[number][0]) for number in having)
            groups.append(Group(place, words[key], members))
        if len(having) < len(sides):
            unpaired.append(Unpaired(place, words[key], tuple(having)))
    if not groups:
        number = max(range(len(there)), key=lambda n: len(there[n]))
        raise _several(sides[number], place, there[number])
    return groups, unpaired


def _apart(keys: Sequence[str], there: Sequence[Sequence[Candidate]]) -> dict[str, str]:
    """Return what sets settings apart from each other, in words."""
    facts = {c.settings: set(_facts(c.run)) for found in there for c in found}
    common = set.intersection(*facts.values())
    return {key: ", ".join(sorted(facts[key] - common)) for key in keys}


def _facts(run: FinishedRun) -> Iterator[str]:
    if run.options.get("blind"):
        yield "blind"
    for name in ("limit", "repeats"):
        if run.options.get(name) not in (None, 1):
            yield f"{name}={run.options[name]}"
    for name, value in (*run.decoding.items(), ("seed", run.options.get("seed"))):
        yield f"{name}={value}"
    yield from run.prompt


def _several(side: Side, place: Place, found: Sequence[Candidate]) -> ResultsError:
    names = [f"{c.label} ({c.run.folder})" for c in found]
    listed = ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
    return ResultsError(
        f"{side.given} has {len(found)} runs of {'/'.join(place)} to compare; name one of them, "
        f"as a leaderboard does or by its folder: {listed}"
    )


def _nothing_in_common(sides: Sequence[Side], unpaired: Sequence[Unpaired]) -> str:
    parts = []
    for number, side in enumerate(sides):
        had = [place_name(u.place) for u in unpaired if number in u.sides]
        parts.append(f"{side.given} has {', '.join(dict.fromkeys(had)) or 'none of them'}")
    return f"nothing to compare: {'; '.join(parts)}; run both models on the same tasks"


def place_name(place: Place, settings: str = "") -> str:
    """Return `mini_sqa/test`, or `mini_sqa/test (blind)`."""
    return "/".join(place) + (f" ({settings})" if settings else "")
