"""Cards: the YAML files that configure a model, a task or a recipe, where they are found, checked.

A name is looked up, in this order, as a path to a YAML file (or to a folder that training made),
in the folders that the user includes (in `models/`, `tasks/`, `trainers/` inside, or directly in
them), and among the cards that travel with this package or with plug-in packages (entry points of
the group `adem_bench.cards`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError, create_model

from adem_bench.entry_points import entry_points
from adem_bench.errors import MOST_SAID, CardError, in_shell, nearest_hint, why_unread
from adem_bench.files import exists, expand_home, file_state, is_file, read_text
from adem_bench.listing import listing
from adem_bench.misnamed import CARD_SUFFIXES, WEIGHTS_SUFFIXES, not_a_card
from adem_bench.registry import METHODS, MODEL_CARDS, MODEL_KINDS, TASK_KINDS, included_folders
from adem_bench.schemas import (
    CARD_FILE,
    DEFAULT_METHOD,
    Card,
    GroupCard,
    ModelCard,
    RecipeCard,
    Strict,
    TaskCard,
)
from adem_bench.yaml_text import YamlTextError, loader_for, parse_yaml

CardKind = Literal["models", "tasks", "trainers", "results"]
NOUNS: dict[CardKind, str] = {"models": "model", "tasks": "task", "trainers": "recipe"}
MODEL_CARD_NAME = "model.yaml"
"""The card in a training output: `--model FOLDER` stands for it."""
SCHEME = re.compile("([a-z][a-z0-9_]+):(.+)", re.DOTALL)
"""`KIND:SOURCE`: a model that needs no card. One letter alone would be a drive."""
PATTERN = re.compile(r"[*?[\]]")
UNREAD = "unread"
OF_A_CLASS = re.compile(r" or instance of \w+")
"""With which pydantic names a class of ours."""
NO_NAME = re.compile(r"[/\\:]|\.ya?ml$")
"""What no name of a card has, but paths and `KIND:SOURCE` have."""
FILE_SUFFIXES = (".md", ".txt", ".json", ".py", *WEIGHTS_SUFFIXES)
"""Ends of names that are meant as files."""
PLUGIN_GROUP = "adem_bench.cards"
C = TypeVar("C", bound="Card")
Options = TypeVar("Options", bound="Strict")


def packaged_folder(kind: CardKind) -> Path:
    """Return the folder of a kind that travels with the package, from a wheel or a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "_cards" / kind
    return installed if installed.is_dir() else here.parent / kind


def list_cards(kind: CardKind) -> dict[str, Path]:
    """Return every card's name (the file's stem) and path; an included one hides a packaged one.

    Names that stand for two cards are left out; `known_cards` says which those are.

    Raises:
        CardError: an included folder does not exist, or a plug-in names none.
    """
    return known_cards(kind)[0]


def known_cards(kind: CardKind) -> tuple[dict[str, Path], dict[str, str]]:
    """Return what `list_cards` does, and what to do of names that stand for two cards.

    Those are names that two included cards have, or two packaged ones.

    Raises:
        CardError: as for `list_cards`.
    """
    included = [path for folder in included_folders() for path in _included_cards(folder, kind)]
    packaged = [
        path
        for folder in (packaged_folder(kind), *_plugin_folders(kind))
        for path in _cards_in(folder)
    ]
    found: dict[str, Path] = {}
    doubled: dict[str, str] = {}
    for paths in (included, packaged):
        by_name: dict[str, list[Path]] = {}
        for path in dict.fromkeys(paths):
            by_name.setdefault(path.stem, []).append(path)
        for name, same in by_name.items():
            if name in found or name in doubled:
                continue
            if len(same) == 1:
                found[name] = same[0]
            else:
                doubled[name] = (
                    f"{NOUNS[kind]} {name!r} is claimed by both {same[0]} and {same[1]}; rename one"
                )
    return dict(sorted(found.items())), doubled


def _included_cards(folder: Path, kind: CardKind) -> list[Path]:
    """Return the cards of a kind in its folder of that name, and those next to that folder."""
    loose = [path for path in _cards_in(folder) if _may_be(path, kind)]
    return [*_cards_in(folder / kind), *loose]


def _cards_in(folder: Path) -> list[Path]:
    return [folder / name for name in listing(folder).cards]


def _may_be(path: Path, kind: CardKind) -> bool:
    """Return whether a card is of a kind; one that cannot be read may be of each, and says why."""
    try:
        state = file_state(path)
    except OSError:
        return True
    found = _kind_on_disk(path, state)
    return found in (kind, UNREAD)


@lru_cache(maxsize=1024)
def _kind_on_disk(path: Path, state: tuple[int, ...]) -> str | None:
    """Return the kind of a card, `UNREAD` of one that cannot be read.

    Args:
        path: The card.
        state: Of the file: one that changes is read again.
    """
    try:
        return _kind_of(_parse_yaml(path))
    except CardError:
        return UNREAD


def _kind_of(fields: Mapping[str, Any]) -> CardKind | None:
    """Return the kind of a card by its fields; None for other files."""
    if "epochs" in fields:
        return "trainers"
    if "split" in fields or "tasks" in fields:
        return "tasks"
    return "models" if {"kind", "language_model"} & set(fields) else None


def _plugin_folders(kind: CardKind) -> list[Path]:
    """Return the folders of a kind in packages that say `package:folder`; none is imported.

    Raises:
        CardError: an entry point names no package.
    """
    folders = []
    for entry in sorted(set(entry_points(PLUGIN_GROUP))):
        package, _, inner = entry.value.partition(":")
        spec = find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise CardError(
                f"entry point {entry.name!r} of group {PLUGIN_GROUP} names {entry.value}, which is "
                "not a folder of an installed package; expected `package:folder`"
            )
        folders += [Path(place) / inner / kind for place in spec.submodule_search_locations]
    return folders


def find_card(kind: CardKind, name: str) -> Path:
    """Return the file that a name or a path stands for.

    Raises:
        CardError: there is none; the message proposes the nearest names.
    """
    path, noun = expand_home(name), NOUNS[kind]
    if not name.strip():
        raise CardError(f"the {noun}'s name is empty; `adem-bench {noun}s` lists those there are")
    if name.endswith(CARD_SUFFIXES) and is_file(path):
        return path
    if kind == "models" and is_file(path / MODEL_CARD_NAME):
        return path / MODEL_CARD_NAME
    known, doubled = known_cards(kind)
    if name in known:
        return known[name]
    if name in doubled:
        raise CardError(doubled[name])
    if kind == "models" and name.endswith(":"):
        raise CardError(f"{name} names no source; expected {name}SOURCE (docs/models.md)")
    wrong = not_a_card(path, noun)
    if wrong:
        raise CardError(wrong)
    listing = f"adem-bench {noun}s"
    if name.endswith(CARD_SUFFIXES):
        raise CardError(f"card {name} does not exist; `{listing}` lists those that are known")
    hint = nearest_hint(name, known, listing)
    if kind == "models" and not PATTERN.search(name) and Path(name).suffix.lower() in FILE_SUFFIXES:
        raise CardError(f"{name}: there is no such file, and no model of that name{hint}")
    nowhere = "; there is no such file or folder either" if "/" in name or "\\" in name else ""
    raise CardError(f"unknown {noun} {name!r}{nowhere}{hint}")


def load_model_card(name: str, overrides: Sequence[str] = ()) -> ModelCard:
    """Return a model's card, with `key=value` overrides applied; its class is that of its kind.

    A name like `hf:FOLDER` needs no card: it is a model of kind `hf` whose source is `FOLDER`.

    Args:
        name: Name or path of a card, or `KIND:SOURCE`.
        overrides: `key=value` settings of its fields.

    Raises:
        CardError: not found, not YAML, or a field is wrong; file, line and field are named.
    """
    data, path = _model_fields(name)
    for override in overrides:
        _apply_override(data, override)
    card = _checked(
        data, path, _model_schema(data), overrides, f"adem-bench models show {in_shell(name)}"
    )
    typed = [] if path else ["options.source"]
    card.note_given([*typed, *(override.partition("=")[0] for override in overrides)])
    return card


def model_card_of(fields: Mapping[str, Any]) -> ModelCard:
    """Return the card of raw fields, as a manifest holds them.

    Raises:
        CardError: an unknown kind or method.
        ValidationError: a field is wrong.
    """
    return _model_schema(fields).model_validate(fields)


def model_card_fields(kind: Any) -> Collection[str]:
    """Return the fields that a card of this kind may have; of an unknown kind, those of all."""
    is_known = isinstance(kind, str) and kind in MODEL_CARDS.table()
    schema: type[ModelCard] = MODEL_CARDS.load(kind) if is_known else ModelCard
    return _stated(schema)


def _model_fields(name: str) -> tuple[dict[str, Any], Path | None]:
    """Return the raw fields of the card that a name stands for, and its file."""
    schemed = SCHEME.fullmatch(name)
    if schemed and not exists(Path(name)):
        kind, source = schemed.groups()
        return {"name": name, "kind": kind, "options": {"source": source}}, None
    path = find_card("models", name)
    return _fields_of(path, "models"), path


def _model_schema(fields: Mapping[str, Any]) -> type[ModelCard]:
    """Return the schema of a model's card, by its kind and, of a fused model, by its method."""
    kind = fields.get("kind", ModelCard.model_fields["kind"].default)
    if not isinstance(kind, str):
        return ModelCard  # which says what is wrong
    if kind not in MODEL_CARDS.table():
        if not MODEL_KINDS.is_builtin(kind):
            MODEL_KINDS.load(kind)
        return ModelCard
    schema: type[ModelCard] = MODEL_CARDS.load(kind)
    return _with_method(schema, "fusion", fields, "overrides")


def _with_method(schema: type[C], field: str, fields: Mapping[str, Any], part: str) -> type[C]:
    """Return a card's schema with a method's own settings in one field.

    Methods import torch, so one is looked at only where a card sets more than its name.

    Args:
        schema: The card's.
        field: Holds the settings; their `kind` names the method.
        fields: The card's raw fields.
        part: `settings`, or `overrides` for those of a card.

    Raises:
        CardError: an unknown method; the nearest names are proposed.
    """
    chosen = fields.get(field)
    if field not in schema.model_fields or not isinstance(chosen, Mapping):
        return schema
    kind = chosen.get("kind", DEFAULT_METHOD)
    if not isinstance(kind, str):
        return schema
    if kind not in METHODS.table():
        METHODS.load(kind)
    if not set(chosen) - {"kind"} and part == "overrides":
        return schema
    settings = getattr(METHODS.load(kind), part)
    return _schema_with(schema, field, settings)


@lru_cache
def _schema_with(schema: type[C], field: str, settings: type[BaseModel]) -> type[C]:
    fields: Any = {field: (settings, settings())}
    return create_model(schema.__name__, __base__=schema, **fields)


def load_task_card(name: str, overrides: Sequence[str] = ()) -> TaskCard:
    """Return a task's card, with `key=value` overrides applied; errors as `load_model_card`.

    A name like `vlmevalkit:MMStar` needs no card: its kind knows the fields of its benchmarks.
    """
    fields = _named_task(name)
    if fields is None:
        return _read(find_card("tasks", name), TaskCard, overrides)
    for override in overrides:
        _apply_override(fields, override)
    return _checked(fields, None, TaskCard, overrides)


def load_task_or_group(path: Path) -> TaskCard | GroupCard:
    """Return the card of a task or of a group in a file; errors as `load_model_card`."""
    fields = _fields_of(path, "tasks")
    if "tasks" in fields:
        return _checked(fields, path, GroupCard, ())
    return _checked(fields, path, TaskCard, ())


def _named_task(name: str) -> dict[str, Any] | None:
    """Return the fields of a task that is named `KIND:SOURCE`; None for the name of a card.

    Raises:
        CardError: no kind of task has such names, or this one has no such benchmark.
    """
    schemed = SCHEME.fullmatch(name)
    if not schemed or exists(Path(name)) or name.endswith((".yaml", ".yml")):
        return None
    kind, source = schemed.groups()
    if kind not in TASK_KINDS.table() or not hasattr(TASK_KINDS.load(kind), "card_fields"):
        named = [k for k in TASK_KINDS.table() if hasattr(TASK_KINDS.load(k), "card_fields")]
        raise CardError(
            f"unknown task {name!r}: names before a colon are {', '.join(named)}"
            f"{nearest_hint(kind, named)}"
        )
    return {"name": name, "kind": kind, **TASK_KINDS.load(kind).card_fields(source)}


def load_recipe_card(name: str, overrides: Sequence[str] = ()) -> RecipeCard:
    """Return a training recipe's card, with `key=value` overrides applied.

    Errors are as for `load_model_card`; `data.0.limit=100` reaches into the list of sources.
    """
    path = find_card("trainers", name)
    data = _fields_of(path, "trainers")
    for override in overrides:
        _apply_override(data, override)
    schema = _with_method(RecipeCard, "method", {"method": {}} | data, "settings")
    return _checked(data, path, schema, overrides)


def outline_recipe(path: Path) -> RecipeCard:
    """Return a recipe without its method's settings, which would cost an import of torch.

    Errors are as for `load_model_card`.
    """
    data = {"name": path.stem, **_parse_yaml(path)}
    method = data.pop("method", None)
    if isinstance(method, Mapping) and "kind" in method:
        data["method"] = {"kind": method["kind"]}
    return _checked(data, path, RecipeCard, ())


def expand_tasks(names: Sequence[str], for_training: bool = False) -> list[str]:
    """Return task names with groups and patterns (`mini_*`) replaced by what they stand for.

    Args:
        names: Names or paths of tasks or groups, or patterns of names.
        for_training: Whether a pattern also stands for data that is for training only.

    Returns:
        Names of tasks, in order, none twice.

    Raises:
        CardError: a name or a pattern stands for nothing.
    """
    expanded: list[str] = []
    for name in matching_names("tasks", _with_sources(names)):
        if _named_task(name):
            expanded += [name] if name not in expanded else []
            continue
        path = find_card("tasks", name)
        fields = _parse_yaml(path)
        if name not in names and not (for_training or {"tasks", "headline"} & set(fields)):
            continue
        members = _read(path, GroupCard, ()).tasks if "tasks" in fields else (name,)
        expanded += [member for member in members if member not in expanded]
    if names and not expanded:
        raise CardError(
            f"{', '.join(names)} stands for data for training alone; `adem-bench tasks list` names "
            "the tasks, which have a headline"
        )
    return expanded


def _with_sources(names: Sequence[str]) -> list[str]:
    """Return names with `KIND:GROUP` and `KIND:PATTERN` replaced by what they stand for."""
    found: list[str] = []
    for name in names:
        schemed = SCHEME.fullmatch(name)
        kind = schemed[1] if schemed and not exists(Path(name)) else ""
        owner = TASK_KINDS.load(kind) if kind in TASK_KINDS.table() else None
        if schemed and owner is not None and hasattr(owner, "sources_like"):
            found += [f"{kind}:{source}" for source in owner.sources_like(schemed[2])]
        else:
            found.append(name)
    return found


def matching_names(kind: CardKind, names: Sequence[str]) -> list[str]:
    """Return names with every pattern (`*`, `?`, `[…]`) replaced by the cards that it matches.

    Paths and names like `hf:FOLDER` are no patterns.

    Args:
        kind: Of the cards.
        names: Names, paths or patterns.

    Raises:
        CardError: a pattern matches no card, or a name that two have.
    """
    found: list[str] = []
    for name in names:
        is_pattern = PATTERN.search(name) and not NO_NAME.search(name)
        matches = _matching(kind, name) if is_pattern else [name]
        if not matches:
            hint = nearest_hint(PATTERN.sub("", name), list_cards(kind))
            raise CardError(f"no {NOUNS[kind]} has a name like {name!r}{hint}")
        found += [match for match in matches if match not in found]
    return found


def _matching(kind: CardKind, pattern: str) -> list[str]:
    """Return the names that a pattern matches.

    Raises:
        CardError: one of them stands for two cards.
    """
    known, doubled = known_cards(kind)
    for name in fnmatch.filter(doubled, pattern):
        raise CardError(doubled[name])
    return fnmatch.filter(known, pattern)


def split_overrides(overrides: Sequence[str], model: str) -> tuple[list[str], list[str]]:
    """Sort `--set` values into those for the model's card and those for the tasks' cards.

    `model.alpha=…` and `task.split=…` say which they mean; a bare key goes to whichever card
    has such a field, the model's first; `options.…` is the tasks'.

    Args:
        overrides: The values.
        model: Name or path of the model's card.

    Raises:
        CardError: neither card has the field.
    """
    fields = _stated(_model_schema(_model_fields(model)[0]))
    of_tasks = _stated(TaskCard)
    for_model: list[str] = []
    for_task: list[str] = []
    for override in overrides:
        key = override.partition("=")[0]
        first, _, rest = key.partition(".")
        if first == "model" and rest:
            for_model.append(override.removeprefix("model."))
        elif first == "task" and rest:
            for_task.append(override.removeprefix("task."))
        elif first in fields and first not in ("name", "title", "options"):
            for_model.append(override)
        elif first in of_tasks:
            for_task.append(override)
        else:
            hint = nearest_hint(first, {*fields, *of_tasks})
            raise CardError(
                f"--set {override}: no card has a field {first!r}{hint}; "
                f"an option of a task is written options.{first}=…"
            )
    return for_model, for_task


def _parse_yaml(path: Path) -> dict[str, Any]:
    try:
        data = parse_yaml(read_text(path))
    except YamlTextError as error:
        place = f"{path}, line {error.line}" if error.line else f"{path}"
        raise CardError(f"{place}: not YAML: {error.reason}") from error
    except (OSError, ValueError) as error:
        raise CardError(f"{path}: cannot be read: {why_unread(error)}") from error
    if data is None:
        raise CardError(f"{path} is empty; expected a card's fields, such as `kind: …`")
    if not isinstance(data, dict):
        raise CardError(f"{path}: expected a mapping of fields, found {type(data).__name__}")
    return data


def _fields_of(path: Path, kind: CardKind) -> dict[str, Any]:
    """Return the raw fields of a card.

    Raises:
        CardError: it cannot be read, or is a card of something else.
    """
    fields = _parse_yaml(path)
    found = _kind_of(fields)
    if found not in (kind, None):
        raise CardError(f"{path} is a {NOUNS[found]}'s card; expected a {NOUNS[kind]}'s")
    return {"name": path.stem, **fields}


def _read(path: Path, card_class: type[C], overrides: Sequence[str]) -> C:
    data = _fields_of(path, "tasks")
    for override in overrides:
        _apply_override(data, override)
    return _checked(data, path, card_class, overrides)


def _checked(
    data: dict[str, Any],
    path: Path | None,
    card_class: type[C],
    overrides: Sequence[str],
    listing: str = "",
) -> C:
    """Return a card of raw fields.

    Args:
        data: The fields, overrides applied.
        path: The card's file, if it has one.
        card_class: Its schema.
        overrides: For messages.
        listing: A command that shows all fields, for messages.
    """
    try:
        return card_class.model_validate({**data, CARD_FILE: path.resolve() if path else None})
    except ValidationError as error:
        raise CardError(_explain(path, card_class, error, overrides, listing)) from error


def _apply_override(data: dict[str, Any], override: str) -> None:
    """Set one dotted `key=value` in a card's raw fields; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise CardError(f"--set {override}: expected key=value, for example fusion.alpha=0.2")
    *parents, last = key.split(".")
    target: Any = data
    for parent in parents:
        child = _child(target, parent, override)
        if not isinstance(child, dict | list):
            raise CardError(f"--set {override}: {parent!r} has no fields of its own")
        target = child
    try:
        value = parse_yaml(text)
    except YamlTextError as error:
        raise CardError(f"--set {override}: the value is not YAML: {error.reason}") from error
    if isinstance(target, list):
        target[_index(target, last, override)] = value
    else:
        target[last] = value


def _child(target: Any, name: str, override: str) -> Any:
    if isinstance(target, list):
        return target[_index(target, name, override)]
    return target.setdefault(name, {})


def _index(target: list[Any], text: str, override: str) -> int:
    """Return the place in a list that one part of a dotted key names."""
    place = text.lstrip("0") or "0"
    known = [str(index) for index in range(len(target))]
    if place not in known or not text:
        listed = ", ".join(known)
        raise CardError(f"--set {override}: {text!r} is not a place in the list; known: {listed}")
    return int(place)


def _explain(
    path: Path | None,
    card_class: type[Card],
    error: ValidationError,
    overrides: Sequence[str],
    listing: str,
) -> str:
    """Turn pydantic's report into one line that names file (or override), line and field."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    where = ".".join(names) or "card"
    line = _line_of(path, names) if path else None
    place = f"{path}, line {line}" if line else str(path or card_class.__name__)
    for override in overrides:
        key = override.partition("=")[0]
        if key.startswith(f"{where}.") or f"{where}.".startswith(f"{key}."):
            place = f"--set {override}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        foreign = _of_another_method(card_class, names)
        if foreign:
            return f"{place}: field {where!r} {foreign}{more}"
        fields = _fields_at(card_class, names[:-1])
        is_recipe = issubclass(card_class, RecipeCard)
        lists = f"adem-bench recipes show {path.stem}" if path and is_recipe else ""
        lists = listing if place.startswith("--set") and listing else lists
        hint = nearest_hint(names[-1], fields, lists)
        if place.startswith("--set") and len(names) == 1 and card_class.has_options:
            more += f"; an option is written options.{where}=…"
        return f"{place}: unknown field {where!r}{hint}{more}"
    found = "" if first["type"] == "missing" else f", found {first['input']!r:.{MOST_SAID}}"
    reason = OF_A_CLASS.sub("", first["msg"]).lower()
    return f"{place}: field {where!r}: {reason}{found}{more}"


def _of_another_method(card_class: type[BaseModel], names: Sequence[str]) -> str:
    """Return what to do about a setting that other methods have; empty if none has it."""
    part = card_class.model_fields.get(names[0])
    own: Any = part.annotation if part else None
    if len(names) != 2 or "kind" not in getattr(own, "model_fields", {}):
        return ""
    owners = [
        kind for kind in METHODS.table() if names[1] in METHODS.load(kind).settings.model_fields
    ]
    kind = own.model_fields["kind"].default
    if not owners or kind in owners:
        return ""
    has = ", ".join(name for name in own.model_fields if name != "kind")
    return (
        f"is of the method {' or '.join(owners)}; {kind} has {has}: leave it out (--set "
        f"'{names[0]}={{kind: {kind}}}' leaves out all), or choose {names[0]}.kind={owners[0]}"
    )


def _fields_at(card_class: type[BaseModel], names: Sequence[str]) -> list[str]:
    """Return the field names of the (nested) model that `names` leads to."""
    current: type[BaseModel] = card_class
    for name in names:
        field = current.model_fields.get(name)
        annotation = field.annotation if field else None
        for inner in (annotation, *get_args(annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                current = inner
    return _stated(current)


def _stated(card_class: type[BaseModel]) -> list[str]:
    """Return the fields that a file may have."""
    return [name for name, field in card_class.model_fields.items() if not field.exclude]


def _line_of(path: Path, names: Sequence[str]) -> int | None:
    """Return the line of the deepest of the nested keys `names` that the file has."""
    try:
        text = read_text(path)
        node: yaml.Node | None = yaml.compose(text, loader_for(text))
    except (yaml.YAMLError, OSError, ValueError):  # it is not what it was a moment ago
        return None
    line = None
    for name in names:
        if isinstance(node, yaml.SequenceNode) and name.isdecimal() and int(name) < len(node.value):
            node = node.value[int(name)]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        match = next(((k, v) for k, v in node.value if k.value == name), None)
        if match is None:
            break
        line, node = match[0].start_mark.line + 1, match[1]
    return line


def check_options(what: str, card: ModelCard | TaskCard, kind: type[Options]) -> Options:
    """Return the `options` of a card, checked by the schema of its kind.

    Args:
        what: `model` or `task`, for the message.
        card: Whose options.
        kind: The schema.

    Raises:
        CardError: an unknown option or a wrong value; the nearest names are proposed.
    """
    try:
        return kind.model_validate(card.options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        place = f"{what} {card.name}: "
        if first["type"] == "extra_forbidden":
            shows = card_of_kind(card) if isinstance(card, TaskCard) else ""
            hint = nearest_hint(name, kind.model_fields, shows and f"adem-bench tasks show {shows}")
            raise CardError(f"{place}unknown option {name!r}{hint}") from error
        found = first["input"]
        hint = f": {first['msg'].lower()}"
        raise CardError(f"{place}option {name!r} cannot be {found!r:.{MOST_SAID}}{hint}") from error


def card_of_kind(card: TaskCard) -> str:
    """Return the name of a packaged card of a task card's kind: it shows what its kind takes.

    It is the card itself if that is packaged, and its path where there is none.
    """
    packaged = {
        path: path.stem for path in sorted(packaged_folder("tasks").resolve().glob("*.yaml"))
    }
    own = packaged.get(card.path) if card.path else None
    alike = (name for path, name in packaged.items() if _parse_yaml(path).get("kind") == card.kind)
    return own or next(alike, str(card.path or card.name))


def as_mapping(card: Card) -> Mapping[str, Any]:
    """Return a card as plain JSON data for manifests, where its digest can be taken again."""
    return card.stable_fields()
