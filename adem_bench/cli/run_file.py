"""Run files: models, tasks and settings of `adem-bench run --config`, in YAML.

Every key is an option of `adem-bench run`, spelled as there, and that option checks its value.
`models` and `settings` are lists whose entries may set options too: each model is run in each
setting on all tasks. What stands nearer goes first: the command line, an entry of `settings`, one
of `models`, then the file's own keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from adem_bench.errors import CardError, nearest_hint, why_unread
from adem_bench.files import read_settings

Given = dict[str, Any]
"""Values of the command's parameters, by their names there."""

OF_THE_CALL = ("config", "part", "dry_run", "form", "include", "harness_python")
"""Parameters that are no part of a suite."""
OF_THE_FILE = ("tasks", "data_root", "results", "loggers", "skip_missing")
"""Parameters that are the same for all entries."""
SPELLED = {"overrides": "set", "loggers": "log_to"}
"""Parameters whose key is not their name."""
TASKS, ONLY = "tasks", "only"
MODELS, MODEL, SETTINGS, NAMES, OVERRIDES = "models", "model", "settings", "names", "overrides"


def read_run_file(
    path: Path, command: click.Command, given: Given, typed: Sequence[str]
) -> list[Given]:
    """Return what a run file asks for: the command's parameters for each model in each setting.

    Args:
        path: The file.
        command: `adem-bench run`, whose parameters the keys are.
        given: Its parameters as the command line gives them, defaults included.
        typed: Those that the command line names, which go before the file's.

    Raises:
        CardError: it cannot be read, or a key or a value is wrong; file and place are named.
    """
    loaded = _load(path)
    if loaded is None:
        raise CardError(f"{path} is empty; docs/run-files.md shows a run file")
    fields = _mapping(path, loaded, "")
    file = _File(path, command)
    entries = {name: fields.pop(name, None) for name in (MODELS, SETTINGS)}
    common = file.options(fields, "", of_the_file=True)
    models = [(str(path), {MODELS: given[MODELS], NAMES: given.get(NAMES, ())})]
    if MODELS not in typed:
        models = list(file.models(entries[MODELS]))
    found = []
    for _, of_model in models:
        for setting in file.settings(entries[SETTINGS]):
            levels = [common, of_model, setting, {name: given[name] for name in typed}]
            overrides = [one for level in levels for one in level.get(OVERRIDES, ())]
            merged = given | {k: v for level in levels for k, v in level.items()}
            if TASKS in typed and TASKS in common:
                # The file's settings may address tasks that this call leaves out.
                merged |= {TASKS: f"{common[TASKS]},{given[TASKS]}", ONLY: given[TASKS]}
            found.append(merged | {OVERRIDES: tuple(overrides)})
    return found


def _load(path: Path) -> Any:
    from adem_bench.yaml_text import YamlTextError, parse_yaml

    try:
        return parse_yaml(read_settings(path))
    except YamlTextError as error:
        place = f"{path}, line {error.line}" if error.line else f"{path}"
        raise CardError(f"{place}: not YAML: {error.reason}") from error
    except (OSError, ValueError) as error:
        raise CardError(f"{path}: cannot be read: {why_unread(error)}") from error


def _mapping(path: Path, value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise CardError(
            f"{path}{place}: expected a mapping of keys, found {type(value).__name__}; "
            "docs/run-files.md shows one"
        )
    found: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise CardError(
                f"{path}{place}: key {key!r} is not a text; docs/run-files.md names the keys"
            )
        name = key.replace("-", "_")
        if name in found:
            raise CardError(f"{path}{place}: key {key!r} appears twice, with - and with _")
        found[name] = item
    return found


class _File:
    """What the readers of the parts have in common."""

    def __init__(self, path: Path, command: click.Command) -> None:
        self._path = path
        self._context = click.Context(command, info_name="run")
        parameters = {p.name: p for p in command.params if p.name and p.name not in OF_THE_CALL}
        self._keys = {SPELLED.get(name, name): option for name, option in parameters.items()}

    def models(self, listed: Any) -> Iterator[tuple[str, Given]]:
        """Yield the entries of `models`."""
        for number, entry in enumerate(_listed(listed)):
            place = f", models[{number}]"
            fields = (
                {MODEL: entry} if isinstance(entry, str) else _mapping(self._path, entry, place)
            )
            model, name = fields.pop(MODEL, None), fields.pop("name", None)
            for key, value in ((MODEL, model), ("name", name)):
                if not isinstance(value, str) and not (key == "name" and value is None):
                    raise CardError(f"{self._path}{place}: {key} is {value!r}, expected a text")
            known = {MODELS: (model,)} | ({NAMES: (name,)} if name else {})
            yield place, known | self.options(fields, place)
        if not _listed(listed):
            raise CardError(f"{self._path}: models is missing; name some there or with --model")

    def settings(self, listed: Any) -> Iterator[Given]:
        """Yield the entries of `settings`; one that says nothing if there is none."""
        for number, entry in enumerate(_listed(listed) or [{}]):
            place = f", settings[{number}]"
            yield self.options(_mapping(self._path, entry, place), place)

    def options(self, fields: Mapping[str, Any], place: str, of_the_file: bool = False) -> Given:
        """Return the parameters that a mapping sets.

        Args:
            fields: Keys and values.
            place: Where they stand, for messages.
            of_the_file: Whether these are the file's own.
        """
        entry_only = () if of_the_file else OF_THE_FILE
        lists = (MODELS, SETTINGS) if of_the_file else (MODEL, "name")
        known = [key for key, p in self._keys.items() if p.name not in (*entry_only, MODELS, NAMES)]
        found: Given = {}
        for key, value in fields.items():
            if key not in known:
                hint = nearest_hint(key, [*known, *lists])
                if key == "name":
                    hint = "; it belongs to an entry of models: {model: …, name: …}"
                elif key in self._keys and key not in (MODELS, NAMES):
                    hint = "; it is the same for all entries, and stands at the file's top"
                raise CardError(f"{self._path}{place}: unknown key {key!r}{hint}")
            option = self._keys[key]
            found[str(option.name)] = self._value(option, key, value, place)
        return found

    def _value(self, option: click.Parameter, key: str, value: Any, place: str) -> Any:
        where = f"{self._path}{place}: {key}"
        if option.name == OVERRIDES:
            return _overrides(where, value)
        if option.name == "tasks":
            value = ",".join(map(str, _listed(value)))
        is_switch = isinstance(option.type, click.types.BoolParamType)
        if value is None or isinstance(value, bool) != is_switch or isinstance(value, list | dict):
            expected = "true or false" if is_switch else "one value"
            raise CardError(f"{where} is {value!r}, expected {expected}")
        try:
            return option.type_cast_value(self._context, value if is_switch else str(value))
        except click.BadParameter as error:
            raise CardError(f"{where}: {error.message.rstrip('.')}") from error


def _listed(value: Any) -> list[Any]:
    """Return a list, also of a single entry or of names with commas between."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _overrides(where: str, value: Any) -> tuple[str, ...]:
    """Return `key=value` of a mapping, or of a list of such texts."""
    if isinstance(value, Mapping):
        # JSON is YAML, which values of `--set` are read as; a date is the text that it was.
        return tuple(f"{key}={json.dumps(item, default=str)}" for key, item in value.items())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise CardError(f"{where} is {value!r}, expected a mapping of card fields to values")
