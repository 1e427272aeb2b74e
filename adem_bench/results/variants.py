"""What runs are called: which share a row of a leaderboard, and what distinguishes them elsewhere.

Nothing that was measured in two ways may pass for one model: a blind run, another adapter, an
overridden setting, retrained weights or another prompt format each get their own row and name.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from adem_bench.cards import (
    as_mapping,
    list_cards,
    load_model_card,
    load_task_card,
    model_card_fields,
)
from adem_bench.errors import CardError
from adem_bench.results.runs import FinishedRun, OpenedRun
from adem_bench.schemas import FORMER, TaskCard

NEUTRAL_OPTIONS = ("batch_size", "limit", "seed", "decoding", "max_failed")
"""Options that make no other model by themselves: what decoding came of them is named, and a limit
shows as a subset."""
GREEDY = "greedy"
CARD_FIELDS = (
    "adapter",
    "decoding",
    "dtype",
    "fusion",
    "image_normalization",
    "image_reading",
    "max_sequence_length",
    "overflow",
    "quantization",
)
"""Fields of a card that change answers."""

ASKING = ("options", "prompt_format")
"""Fields of a task's card that change what is asked, or how answers are read."""
Place = tuple[str, str]
"""A task and its split."""


@dataclass(slots=True)
class Variant:
    """One model, run in one way: at most one run of each task and split."""

    model: str
    tags: tuple[str, ...]
    """What distinguishes it from other variants of the model, as the table shows it."""
    runs: dict[Place, FinishedRun] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return the model's name with its tags."""
        return f"{self.model} [{', '.join(self.tags)}]" if self.tags else self.model


def variants_of(runs: Sequence[FinishedRun]) -> list[Variant]:
    """Return the variants among runs; of several runs of one thing only the best stays.

    That is the newest of the complete runs, or the newest if none is complete.
    """
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], _Group] = {}
    known = set(list_cards("models"))
    cards = {name: _card_settings(name) for name in {run.model for run in runs} & known}
    plain = _plain(runs)
    # Runs with their task's own options first: they share a row, and others open new ones.
    best_first = sorted(
        runs,
        key=lambda run: (run.folder in plain, run.result.complete, run.finished),
        reverse=True,
    )
    for run in best_first:
        loud, quiet = _settings(run, cards.get(run.model))
        groups.setdefault((run.model, loud, quiet), _Group()).place(run, loud)
    _distinguish(groups, plain)
    return [variant for group in groups.values() for variant in group.variants]


def _plain(runs: Sequence[FinishedRun]) -> set[Path]:
    """Return the folders of runs that asked as the card of their task's name does."""
    known = set(list_cards("tasks"))
    cards: dict[str, TaskCard | None] = {}
    for name in {run.result.task for run in runs} & known:
        try:
            cards[name] = load_task_card(name)
        except CardError:
            continue
    found = set()
    for run in runs:
        card = cards.get(run.result.task)
        if card and all(run.task_card.get(part) == as_mapping(card).get(part) for part in ASKING):
            found.add(run.folder)
    return found


def _card_settings(name: str) -> set[str] | None:
    """Return what a model's card says by itself; None if it cannot be read."""
    try:
        card = as_mapping(load_model_card(name))
    except CardError:
        return None
    return set(_flat({name: card.get(name) for name in CARD_FIELDS}))


def _settings(run: FinishedRun, card: set[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return settings that a name must always show, and those that merely distinguish rows."""
    known = model_card_fields(run.card.get("kind"))
    # Manifests of older runs list fields of every kind.
    used_card = {
        name: run.card.get(name)
        for name in CARD_FIELDS
        if name in known or run.card.get(name) != FORMER.get(name)
    }
    # The folder of an adapter is private to its machine; its name says enough.
    used_card["adapter"] = PurePath(str(used_card.get("adapter") or "")).name
    options = {k: v for k, v in run.options.items() if k not in NEUTRAL_OPTIONS}
    blind = ("blind",) if options.pop("blind", False) else ()
    repeats = [f"repeats={number}"] if (number := options.pop("repeats", 1)) != 1 else []
    used = set(_flat(used_card))
    # A card's name does not say it, and a row of other figures must not pass for the weights' own.
    quantized = {text for text in used if text.startswith("quantization=")}
    if card is None:
        # The card is not available: only an adapter from the command line is surely an override.
        changed = {text for text in used if text.startswith("adapter=")}
    else:
        changed = used - card
    changed |= quantized
    quiet = {*_flat(options), *(used - changed)}
    return (*blind, *_decoding(run, card), *repeats, *sorted(changed)), tuple(sorted(quiet))


def _decoding(run: FinishedRun, card: set[str] | None) -> Iterator[str]:
    """Yield how tokens were chosen where the model's card would have chosen otherwise."""
    default = run.card.get("decoding") or {}
    samples = default.get("temperature") or any("decoding.temperature=" in x for x in card or ())
    if samples and not run.decoding.get("temperature"):
        yield GREEDY
        return
    for name, value in run.decoding.items():
        if value != default.get(name) and (name, value) != ("seed", 0):
            yield f"{name}={value}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield `fusion.alpha=0.2` for every setting that is not empty."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value not in (None, False, "", [], {}):
            yield f"{prefix}{name}={value}"


@dataclass(slots=True)
class _Group:
    """Variants of one model with the same settings, each found without a look at the others."""

    variants: list[Variant] = field(default_factory=list)
    by_fingerprint: dict[str, list[int]] = field(default_factory=dict)
    """Indices of the variants that have a run of these weights, in order."""
    full: Counter[Place] = field(default_factory=Counter)
    """How many of the first variants have a run of the place."""

    def place(self, run: FinishedRun, loud: tuple[str, ...]) -> None:
        """Put a run into the variant of its weights; drop it if a better one is there already.

        A card may name one adapter per task, so different fingerprints on different tasks share a
        variant; two fingerprints (or ways of prompting) on the same task cannot.
        """
        place = (run.result.task, run.result.split)
        same = self.by_fingerprint.setdefault(run.fingerprint, [])
        for index in same:
            other = self.variants[index].runs.get(place)
            if other is None:
                self.variants[index].runs[place] = run
                return
            if (other.fingerprint, other.prompt) == (run.fingerprint, run.prompt):
                return
        index = self.full[place]
        while index < len(self.variants) and place in self.variants[index].runs:
            index += 1
        self.full[place] = index
        if index == len(self.variants):
            self.variants.append(Variant(run.model, loud))
        self.variants[index].runs[place] = run
        insort(same, index)


def _distinguish(
    groups: Mapping[tuple[str, tuple[str, ...], tuple[str, ...]], _Group], plain: set[Path]
) -> None:
    """Add to variants of one model and one name whatever they do not have in common.

    How a task was asked distinguishes only variants that both ran it, and a variant that asked as
    the task's card does needs no word for it.
    """
    named: dict[tuple[str, tuple[str, ...]], list[tuple[Variant, set[str]]]] = {}
    for (model, loud, quiet), group in groups.items():
        for variant in group.variants:
            named.setdefault((model, loud), []).append((variant, set(quiet)))
    for alike in named.values():
        if len(alike) == 1:
            continue
        facts = {
            id(variant): quiet | {run.fingerprint[:8] for run in variant.runs.values()}
            for variant, quiet in alike
        }
        common = set.intersection(*facts.values())
        tags = {key: found - common for key, found in facts.items()}
        for place in {place for variant, _ in alike for place in variant.runs}:
            there = [variant for variant, _ in alike if place in variant.runs]
            shared = set.intersection(*(set(variant.runs[place].prompt) for variant in there))
            for variant in there:
                if variant.runs[place].folder not in plain:
                    tags[id(variant)] |= set(variant.runs[place].prompt) - shared
        for variant, _ in alike:
            variant.tags = (*variant.tags, *sorted(tags[id(variant)]))


def labels(runs: Sequence[OpenedRun]) -> list[str]:
    """Return the runs' models, in order, each with what sets it apart from the others.

    A run of fewer samples, or with other options of its task, is never called as the plain one.
    """
    tags = [_tags(run) for run in runs]
    options = [_options(run) for run in runs]
    found = []
    for place, run in enumerate(runs):
        same = [
            other
            for other in range(len(runs))
            if other != place
            and (runs[other].model, tags[other]) == (run.model, tags[place])
            and runs[other].result.task == run.result.task
        ]
        apart = {fact for other in same for fact in options[place] - options[other]}
        alike = any(options[other] == options[place] for other in same)
        facts = [*tags[place], *sorted(apart), *([run.folder.name] if alike else [])]
        found.append(f"{run.model} [{', '.join(facts)}]" if facts else run.model)
    return found


def _tags(run: OpenedRun) -> tuple[str, ...]:
    (variant,) = variants_of([run.run])
    limit = run.run.options.get("limit")
    return (*variant.tags, *([f"limit={limit}"] if limit else []))


def _options(run: OpenedRun) -> set[str]:
    identity = run.manifest.get("identity", {})
    settings = {**identity.get("task_options", {}), **identity.get("prompt_settings", {})}
    return {f"{name}={value}" for name, value in settings.items()}


def letters(runs: Sequence[object]) -> list[str]:
    """Return short names for runs, in order: A, B, and A1 after Z."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        alphabet[place % 26] + (str(place // 26) if place >= 26 else "")
        for place in range(len(runs))
    ]
