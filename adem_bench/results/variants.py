"""What runs are called: which share a row of a leaderboard, and what distinguishes them.

A row is one model (the same weights and settings, by their fingerprint), decoded in one way and
asked in one way. Its name is the newest that its runs were given; the words behind it
(`run_settings.py`) are the same wherever a run is shown, and whatever it is shown with. More is
added only where two rows would have the same label.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from adem_bench.results.run_settings import KnownCards, RunSettings, run_settings
from adem_bench.results.runs import FinishedRun

Place = tuple[str, str]
"""A task and its split."""
Facts = Mapping[Path, RunSettings]
"""Of every run, by its folder."""
FINGERPRINT_LENGTH = 8
"""Digits of a fingerprint in a label."""


@dataclass(slots=True)
class Variant:
    """One model, run in one way: at most one run of each task and split."""

    model: str
    """The newest name that these weights were given."""
    tags: tuple[str, ...]
    """What distinguishes it from other variants of the model, as the table shows it."""
    runs: dict[Place, FinishedRun] = field(default_factory=dict)
    older: list[FinishedRun] = field(default_factory=list)
    """Runs of the same thing that are not shown."""

    @property
    def label(self) -> str:
        """Return the name with its tags."""
        return f"{self.model} [{', '.join(self.tags)}]" if self.tags else self.model

    def all_runs(self) -> list[FinishedRun]:
        """Return the runs that are shown and the older ones."""
        return [*self.runs.values(), *self.older]


def variants_of(runs: Sequence[FinishedRun]) -> list[Variant]:
    """Return the variants among runs; of several runs of one thing only the best is shown.

    That is the newest of the complete runs, or the newest if none is complete.
    """
    cards = KnownCards()
    facts = {run.folder: run_settings(run, cards) for run in runs}
    # Complete runs first: they share a row, and others open new ones.
    best_first = sorted(runs, key=lambda run: (run.result.complete, run.finished), reverse=True)
    models = _models(best_first, facts)
    groups: dict[tuple[int, tuple[str, ...], tuple[str, ...], str], _Group] = {}
    for number, members in enumerate(models):
        for run in members:
            of_run = facts[run.folder]
            group = groups.setdefault((number, of_run.how, of_run.asked, of_run.judge), _Group())
            group.place(run, *_name(members, facts))
    variants = [variant for group in groups.values() for variant in group.variants]
    _distinguish(variants, facts)
    return variants


def _models(runs: Sequence[FinishedRun], facts: Facts) -> list[list[FinishedRun]]:
    """Return the runs model by model.

    Runs of one fingerprint are of one model, whatever it was called. A card may name one adapter
    per task, so that different fingerprints are one model too where name and settings agree.
    """
    leader: dict[object, object] = {}

    def find(node: object) -> object:
        while leader.setdefault(node, node) != node:
            node = leader[node]
        return node

    for run in runs:
        if not has_one_adapter(run):
            of_run = facts[run.folder]
            leader[find(("card", run.model, of_run.changed, of_run.quiet))] = find(run.fingerprint)
    found: dict[object, list[FinishedRun]] = {}
    for run in runs:
        found.setdefault(find(run.fingerprint), []).append(run)
    return list(found.values())


def has_one_adapter(run: FinishedRun) -> bool:
    """Return whether all tasks are answered by the same weights."""
    adapters = run.card.get("adapters")
    return bool(run.card.get("adapter")) or (isinstance(adapters, Mapping) and len(adapters) == 1)


def _name(runs: Sequence[FinishedRun], facts: Facts) -> tuple[str, tuple[str, ...]]:
    """Return what the runs' model is called: the newest name, and what was changed of its card."""
    newest = max(runs, key=lambda run: run.finished).model
    changed = [facts[run.folder].changed for run in runs if run.model == newest]
    return newest, min(changed, key=len)


@dataclass(slots=True)
class _Group:
    """Variants of one model that was asked in one way, each found without a look at the others."""

    variants: list[Variant] = field(default_factory=list)
    by_fingerprint: dict[str, list[int]] = field(default_factory=dict)
    """Indices of the variants that have a run of these weights, in order."""
    full: Counter[Place] = field(default_factory=Counter)
    """How many of the first variants have a run of the place."""

    def place(self, run: FinishedRun, name: str, changed: tuple[str, ...]) -> None:
        """Put a run into the variant of its weights; a better one that is there already is shown.

        Different fingerprints on different tasks share a variant; two fingerprints (or ways of
        prompting that no card explains) on the same task cannot.

        Args:
            run: Better ones come first.
            name: Of its model.
            changed: What was changed of the model's card.
        """
        place = (run.result.task, run.result.split)
        same = self.by_fingerprint.setdefault(run.fingerprint, [])
        for index in same:
            other = self.variants[index].runs.get(place)
            if other is None:
                self.variants[index].runs[place] = run
                return
            if (other.fingerprint, other.prompt) == (run.fingerprint, run.prompt):
                self.variants[index].older.append(run)
                return
        index = self.full[place]
        while index < len(self.variants) and place in self.variants[index].runs:
            index += 1
        self.full[place] = index
        if index == len(self.variants):
            self.variants.append(Variant(name, changed))
        self.variants[index].runs[place] = run
        insort(same, index)


def _distinguish(variants: Sequence[Variant], facts: Facts) -> None:
    """Give variants their tags, and to those of one label whatever they do not have in common."""
    for variant in variants:
        of_run = facts[next(iter(variant.runs.values())).folder]
        variant.tags = (*of_run.how, *of_run.asked, *variant.tags)
    for alike in _alike(variants):
        _name_adapters(alike)
    for alike in _alike(variants):
        _add(alike, [_quiet(variant, facts) for variant in alike])
    for alike in _alike(variants):
        _add_prompts(alike)
    for alike in _alike(variants):
        _add(alike, [_fingerprints(variant) for variant in alike])


def _alike(variants: Iterable[Variant]) -> list[list[Variant]]:
    """Return the variants that have their label in common with another one, label by label."""
    found: dict[str, list[Variant]] = {}
    for variant in variants:
        found.setdefault(variant.label, []).append(variant)
    return [alike for alike in found.values() if len(alike) > 1]


def _add(alike: Sequence[Variant], facts: Sequence[set[str]]) -> None:
    common = set.intersection(*facts)
    for variant, found in zip(alike, facts, strict=True):
        variant.tags = (*variant.tags, *sorted(found - common))


def _quiet(variant: Variant, facts: Facts) -> set[str]:
    return {fact for run in variant.runs.values() for fact in facts[run.folder].quiet}


def _fingerprints(variant: Variant) -> set[str]:
    return {run.fingerprint[:FINGERPRINT_LENGTH] for run in variant.runs.values()}


def _name_adapters(alike: Sequence[Variant]) -> None:
    """Name adapters by as much of their paths as tells them apart, if anything does."""
    paths = []
    for variant in alike:
        run = next(iter(variant.runs.values()))
        paths.append(PurePath(str(run.card.get("adapter") or "")).parts)
    if len(set(paths)) < len(paths):
        return
    length = 1
    while len({parts[-length:] for parts in paths}) < len(paths):
        length += 1
    for variant, parts in zip(alike, paths, strict=True):
        tail = "/".join(parts[-length:])
        variant.tags = tuple(
            f"adapter={tail}" if tag.startswith("adapter=") else tag for tag in variant.tags
        )


def _add_prompts(alike: Sequence[Variant]) -> None:
    """Add how tasks were asked, where several variants ran them."""
    tags: dict[int, set[str]] = {id(variant): set() for variant in alike}
    for place in {place for variant in alike for place in variant.runs}:
        there = [variant for variant in alike if place in variant.runs]
        shared = set.intersection(*(set(variant.runs[place].prompt) for variant in there))
        for variant in there:
            tags[id(variant)] |= set(variant.runs[place].prompt) - shared
    for variant in alike:
        variant.tags = (*variant.tags, *sorted(tags[id(variant)]))


def run_labels(runs: Sequence[FinishedRun]) -> dict[Path, str]:
    """Return the label of every run's row, by the run's folder."""
    return {
        run.folder: variant.label for variant in variants_of(runs) for run in variant.all_runs()
    }


def labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the runs' labels, in order: those of leaderboards, told apart where they agree.

    Two runs of a task in one row are told apart by their limits, or else by their folders.
    """
    by_folder = run_labels(runs)
    names = [by_folder[run.folder] for run in runs]
    places = [(name, run.result.task) for name, run in zip(names, runs, strict=True)]
    limits = [run.options.get("limit") for run in runs]
    found = []
    for name, run, limit in zip(names, runs, limits, strict=True):
        same = [n for n, place in enumerate(places) if place == (name, run.result.task)]
        alike = [n for n in same if limits[n] == limit]
        facts = [f"limit={limit}"] if limit and len(same) > 1 else []
        facts += [run.folder.name] if len(alike) > 1 else []
        found.append(_with_tags(name, facts))
    return found


def shown_places(labels: Sequence[str], runs: Sequence[FinishedRun]) -> list[int]:
    """Return the place of each run among the rows of pages, from 0; a label has one on all tasks.

    Models stand as they were given, each first as its card says, then in other ways; what was run
    on subsets alone comes last.

    Args:
        labels: Of the runs; the second run of a task with one label has a place of its own.
        runs: In the order in which they were given.
    """
    again: Counter[tuple[str, Place]] = Counter()
    keys: list[tuple[str, int]] = []
    for label, run in zip(labels, runs, strict=True):
        of_task = (label, (run.result.task, run.result.split))
        keys.append((label, again[of_task]))
        again[of_task] += 1
    whole = {key for key, run in zip(keys, runs, strict=True) if run.result.complete}
    models = {key: run.model for key, run in zip(keys, runs, strict=True)}
    first = list(dict.fromkeys(models.values()))
    order = sorted(
        models, key=lambda key: (key not in whole, first.index(models[key]), key[0] != models[key])
    )
    return [order.index(key) for key in keys]


def _with_tags(label: str, tags: Sequence[str]) -> str:
    if not tags:
        return label
    return (
        f"{label[:-1]}, {', '.join(tags)}]"
        if label.endswith("]")
        else (f"{label} [{', '.join(tags)}]")
    )


def letters(runs: Sequence[object]) -> list[str]:
    """Return short names for runs, in order: A, B, and A1 after Z."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        alphabet[place % 26] + (str(place // 26) if place >= 26 else "")
        for place in range(len(runs))
    ]
