"""How compared runs were not alike, in words for a reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from adem_bench.results.runs import OpenedRun

MUST_AGREE = {
    "task": "task",
    "task_version": "task version",
    "split": "split",
    "data": "data fingerprint",
    "judge": "judge",
}
"""Parts of the identity without which two figures are not of one thing."""
DEFAULTS = {"blind": False, "repeats": 1, "judge": "none"}
"""What parts are that an identity does not name."""
SETTINGS = ("task_options", "prompt_settings")
"""Parts of the identity that are settings by name, some of them in both."""


def obstacles(runs: Sequence[OpenedRun]) -> list[str]:
    """Return `task version: 1 and 2` for each part in which runs must agree and do not."""
    return [
        f"{words}: {' and '.join(dict.fromkeys(map(str, values)))}"
        for key, words in MUST_AGREE.items()
        if len(set(map(str, values := _values(runs, key)))) > 1
    ]


def asked_differently(runs: Sequence[OpenedRun], names: Sequence[str]) -> list[str]:
    """Return a sentence for each way of asking that is not the same in all runs.

    These are often what is compared; a reader must know of them all the same.

    Args:
        runs: As compared.
        names: Their letters.
    """
    found = [*_settings(runs, names)]
    for key, words in _SENTENCES.items():
        who = _who(names, [_plain(value) for value in _values(runs, key)])
        if len(who) > 1:
            found.append(words(who))
    return found


def _values(runs: Sequence[OpenedRun], key: str) -> list[Any]:
    default = DEFAULTS.get(key)
    return [run.manifest.get("identity", {}).get(key, default) for run in runs]


def _plain(value: Any) -> int | str | None:
    """Return a value that can be looked up: a manifest may have been edited by hand."""
    return value if value is None or isinstance(value, int) else str(value)


def _who(names: Sequence[str], values: Sequence[Any]) -> dict[Any, list[str]]:
    """Return runs' letters by their values, in order."""
    found: dict[Any, list[str]] = {}
    for letter, value in zip(names, values, strict=True):
        found.setdefault(value, []).append(letter)
    return found


def _settings(runs: Sequence[OpenedRun], letters: Sequence[str]) -> Iterator[str]:
    settings: list[dict[str, Any]] = [{} for _ in runs]
    for part in SETTINGS:
        for own, values in zip(settings, _values(runs, part), strict=True):
            own |= values if isinstance(values, Mapping) else {}
    for name in dict.fromkeys(name for own in settings for name in sorted(own)):
        who = _who(letters, [_shown(own.get(name)) for own in settings])
        if len(who) > 1:
            places = " and ".join(f"{value} in {_listed(names)}" for value, names in who.items())
            yield f"{name} is {places}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not set" if value in (None, "") else str(value)


def _images(who: Mapping[Any, Sequence[str]]) -> str:
    shown = [name for blind, names in who.items() if not blind for name in names]
    withheld = [name for blind, names in who.items() if blind for name in names]
    if not shown or not withheld:  # a file that was edited says the same in two ways
        return f"blind is {' and '.join(map(str, who))}"
    return f"images were shown to {_listed(shown)} and withheld from {_listed(withheld)}"


def _limits(who: Mapping[Any, Sequence[str]]) -> str:
    def samples(limit: int | str | None) -> str:
        if limit is None:
            return "all samples"
        return "the first sample" if limit == 1 else f"the first {limit} samples"

    return _each(who, "asked", samples)


def _repeats(who: Mapping[Any, Sequence[str]]) -> str:
    def times(number: int | str | None) -> str:
        return "once" if number == 1 else f"{number} times"

    return _each(who, "asked each sample", times)


def _each(who: Mapping[Any, Sequence[str]], verb: str, words: Callable[[Any], str]) -> str:
    """Return `A was asked all samples, B and C the first 4 samples`."""
    (first, names), *rest = who.items()
    begin = f"{_listed(names)} {'was' if len(names) == 1 else 'were'} {verb} {words(first)}"
    return ", ".join([begin, *(f"{_listed(others)} {words(value)}" for value, others in rest)])


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


_SENTENCES: Mapping[str, Callable[[Mapping[Any, Sequence[str]]], str]] = {
    "blind": _images,
    "limit": _limits,
    "repeats": _repeats,
}
"""What to say of the other parts of the identity that may differ."""
