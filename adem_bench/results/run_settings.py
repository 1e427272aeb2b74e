"""In which way a run was made, as far as that makes another row of it: in words for labels.

Nothing that was measured in two ways may pass for one model: a blind run, another adapter, an
overridden setting or another prompt format each have their own word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from adem_bench.cards import (
    as_mapping,
    list_cards,
    load_model_card,
    load_task_card,
    model_card_fields,
)
from adem_bench.errors import CardError
from adem_bench.registry import TASK_KINDS
from adem_bench.results.runs import FinishedRun
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
OF_DATA = ("check_md5",)
"""Options of tasks that change neither what is asked nor how answers are read."""
OF_A_TRAINING = ("adapter", "best")
"""Names that every training gives; the folder that they are in has one of its own."""
CHECKPOINT = "step-"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run adds to its model's name."""

    how: tuple[str, ...]
    """Blind, decoding, repeats, judge: whatever the weights are."""
    asked: tuple[str, ...]
    """How the task was asked and read, where neither its card nor the model's says so."""
    changed: tuple[str, ...]
    """Fields of the model's card that the command line changed."""
    quiet: tuple[str, ...]
    """What else distinguishes it, for rows that would have the same label."""
    judge: str = ""
    """Name and fingerprint of the judge that read the answers."""


class KnownCards:
    """The cards that names of models and tasks stand for, each read once."""

    def __init__(self) -> None:
        """List them."""
        self._models, self._tasks = list_cards("models"), list_cards("tasks")
        self._settings: dict[str, set[str] | None] = {}
        self._cards: dict[str, TaskCard | None] = {}

    def model_settings(self, name: str) -> set[str] | None:
        """Return what a model's card says by itself; None if there is none that can be read."""
        if name not in self._settings:
            self._settings[name] = _card_settings(name) if name in self._models else None
        return self._settings[name]

    def task(self, name: str) -> TaskCard | None:
        """Return a task's card; None if there is none that can be read."""
        if name not in self._cards:
            self._cards[name] = _task_card(name) if name in self._tasks else None
        return self._cards[name]


def run_settings(run: FinishedRun, cards: KnownCards) -> RunSettings:
    """Return what a run adds to its model's name."""
    card = cards.model_settings(run.card_name or run.model)
    known = model_card_fields(run.card.get("kind"))
    # Manifests of older runs list fields of every kind.
    used_card = {
        name: run.card.get(name)
        for name in CARD_FIELDS
        if name in known or run.card.get(name) != FORMER.get(name)
    }
    used_card["adapter"] = _short_path(str(used_card.get("adapter") or ""))
    options = {k: v for k, v in run.options.items() if k not in NEUTRAL_OPTIONS}
    blind = ("blind",) if options.pop("blind", False) else ()
    repeats = [f"repeats={number}"] if (number := options.pop("repeats", 1)) != 1 else []
    judge = str(options.get("judge", ""))
    judged = [f"judge={judge.rpartition(' ')[0] or judge}"] if judge else []
    used = set(_flat(used_card))
    if run.card_name:
        changed = set()  # the name that was given stands for them
    elif card is None:
        # The card is not available: only an adapter from the command line is surely an override.
        changed = {text for text in used if text.startswith("adapter=")}
    else:
        changed = used - card
    # A card's name does not say it, and a row of other figures must not pass for the weights' own.
    changed |= {text for text in used if text.startswith("quantization=")}
    return RunSettings(
        how=(*blind, *_decoding(run, card), *repeats, *judged),
        asked=tuple(_asked(run, cards.task(run.result.task))),
        changed=tuple(sorted(changed)),
        quiet=tuple(sorted({*_flat(options), *(used - changed)})),
        judge=judge,
    )


def _task_card(name: str) -> TaskCard | None:
    try:
        return load_task_card(name)
    except CardError:
        return None


def _asked(run: FinishedRun, card: TaskCard | None) -> Iterator[str]:
    """Yield the options of a run's task that are neither its card's own nor the model's."""
    if card is None or not run.task_card:
        return
    own: Mapping[str, Any] = run.card.get("evaluation") or {}
    expected = {
        "prompt_format": card.prompt_format,
        **card.options,
        **own.get(card.kind, {}),
        **own.get(card.name, {}),
    }
    options = run.task_card.get("options") or {}
    used = {name: value for name, value in options.items() if name not in OF_DATA}
    prompt_format = run.task_card.get("prompt_format")
    if prompt_format and prompt_format != expected["prompt_format"]:
        default = TASK_KINDS.load(card.kind)
        formats = getattr(default, "prompt_formats", {})
        first = getattr(default, "default_format", "") or next(iter(formats), "")
        if expected["prompt_format"] or prompt_format != first:
            yield str(prompt_format)
    for name, value in used.items():
        if (name not in expected or expected[name] != value) and not _by_default(card, name, value):
            yield f"{name}={value}"


def _by_default(card: TaskCard, name: str, value: object) -> bool:
    """Return whether an option has a value that its kind gives it, perhaps for models that chat."""
    kind = TASK_KINDS.load(card.kind)
    chat: Mapping[str, object] = getattr(kind, "options_for_chat", lambda _: {})(card)
    field = getattr(kind, "options_schema", TaskCard).model_fields.get(name)
    given = name in card.options
    return value == chat.get(name) or (not given and field is not None and value == field.default)


def _card_settings(name: str) -> set[str] | None:
    try:
        card = as_mapping(load_model_card(name))
    except CardError:
        return None
    return set(_flat({name: card.get(name) for name in CARD_FIELDS}))


def _short_path(path: str) -> str:
    """Return a path's name, with its folder's if every training writes such a name.

    The rest is private to its machine.
    """
    place = PurePath(path)
    if place.name.startswith(CHECKPOINT):
        return f"{place.parent.parent.name}/{place.name}".lstrip("/")
    if place.name in OF_A_TRAINING:
        return f"{place.parent.name}/{place.name}".lstrip("/")
    return place.name


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
