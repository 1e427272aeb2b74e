"""Cards: the YAML files that name and configure a model or a task, where they are found, checked.

A name is looked up, in this order, as a path to a YAML file, in the folders of the environment
variable `ADEM_BENCH_CARDS` (each with `models/`, `tasks/` inside), and among the cards that
travel with the package.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adem_bench.errors import CardError, nearest_hint

CardKind = Literal["models", "tasks", "trainers", "results"]
C = TypeVar("C", bound="Card")

# The safe loader written in C, where PyYAML was built with it: listings read every card.
YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Strict(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Card(Strict):
    """What every card has."""

    name: str
    title: str = ""
    path: Path | None = Field(default=None, exclude=True)
    """The file the card was read from."""

    def digest(self) -> str:
        """Return 16 hexadecimal digits over the resolved fields, wherever the file lies."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class DataSource(Strict):
    """Where a task's files are to be had, for messages and `models`/`data` listings."""

    url: str = ""
    licence: str = ""
    layout: str = ""
    """The files expected below the data root, in words."""
    generator: Literal["mini"] | None = None
    """Set for data that the package makes itself when no data root is given."""


class TaskCard(Card):
    """A benchmark: a kind (the class that knows its layout), a split, a size and its settings."""

    kind: str
    version: int = Field(default=1, ge=1)
    """Raised whenever scores could change."""
    split: str
    expected: dict[str, int] = {}
    """Published number of samples of each split."""
    headline: str
    """The metric that leaderboards show first."""
    columns: tuple[str, ...] = ()
    """Further metrics for leaderboards; the headline alone if empty."""
    prompt_format: str | None = None
    data: DataSource = DataSource()
    options: dict[str, Any] = {}
    """Settings of the kind; each kind checks its own."""


class GroupCard(Card):
    """A name for several tasks, in order."""

    tasks: tuple[str, ...]


class AdapterSource(Strict):
    """One adapter on disk, and where it is published."""

    path: str
    """Below the card's own folder or the weights folder."""
    url: str = ""
    size: int | None = None
    """Bytes."""
    sha256: str = ""


class LanguageModelSource(Strict):
    """The frozen language model."""

    path: str
    """A folder in the published layout or the Hugging Face layout, or (`hub: true`) a hub id."""
    hub: bool = False
    """Whether transformers may fetch `path` from its hub where no such folder exists."""
    tokenizer: str = ""
    """tokenizer.model; by default looked for in the folder and beside it."""
    source: str = ""
    """Where it is to be had, for the message when it is missing."""


class VisionSource(Strict):
    """The frozen CLIP image tower."""

    path: str = ""
    """A file in OpenAI layout (`visual.…` keys); tried before the tag."""
    name: str = "ViT-L-14-quickgelu"
    """open_clip's name of the architecture."""
    pretrained: str = "openai"
    """open_clip's tag of the weights."""


class FusionSettings(Strict):
    """Hyper-parameters of ADEM-VL; what a checkpoint says of itself fills the empty ones (Q28)."""

    kind: str = "adem"
    alpha: float | None = None
    """Weight of the fused term in each decoder layer (paper: 0.1)."""
    beta: float | None = None
    """Weight of the projected visual features (paper: 0.01)."""
    drop_ratio: float | None = Field(default=None, lt=1)
    """Share of visual slots dropped per token (paper: 0.1)."""
    scales: tuple[int, ...] | None = None
    """Patch counts after pooling, in order (paper: 256, 64)."""
    cls_token: bool | None = None
    """Whether the class token and its prefix enter the input (paper: yes)."""


class PublishedScore(Strict):
    """A score that a paper or a repository states for the model."""

    task: str
    metric: str
    value: float
    source: str


class ModelCard(Card):
    """A model: where its weights are and how they are to be used."""

    kind: str = "adem"
    language_model: LanguageModelSource
    vision: VisionSource = VisionSource()
    fusion: FusionSettings = FusionSettings()
    adapters: dict[str, AdapterSource] = {}
    """Task name to the adapter tuned for it; `default` serves every other task."""
    adapter: str = ""
    """One adapter for every task, before `adapters` (`--adapter`)."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """`auto` is float16 on a GPU, as published, and float32 on the CPU."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """`eager` rounds as the published code does; `sdpa` is faster."""
    max_sequence_length: int = Field(default=512, ge=16)
    """Prompt and answer together (published: 512)."""
    overflow: Literal["published", "fix"] = "published"
    """What happens to prompts that do not fit (Q9)."""
    image_normalization: Literal["task", "imagenet", "clip"] = "task"
    """`task` follows each benchmark's published pipeline (Q14)."""
    prompts: dict[str, dict[str, Any]] = {}
    """Task kind to the prompt settings the weights were tuned on, where their file is silent."""
    language_model_name: str = ""
    """For tables, for example `LLaMA-7B`."""
    trainable_parameters: int | None = None
    published: tuple[PublishedScore, ...] = ()
    prompt_batch_tokens: int | None = Field(default=None, ge=64)
    """Most prompt and answer tokens in one batch, before memory back-off; by device if empty."""


CARD_CLASSES: dict[str, type[Card]] = {"models": ModelCard, "tasks": TaskCard}


def card_folders(kind: CardKind) -> list[Path]:
    """Return the folders that hold cards of a kind, the user's own before the package's."""
    folders = [
        Path(root).expanduser() / kind
        for root in os.environ.get("ADEM_BENCH_CARDS", "").split(os.pathsep)
        if root
    ]
    return [*folders, packaged_folder(kind)]


def packaged_folder(kind: CardKind) -> Path:
    """Return the folder of a kind that travels with the package, from a wheel or a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "_cards" / kind
    return installed if installed.is_dir() else here.parent / kind


def list_cards(kind: CardKind) -> dict[str, Path]:
    """Return every card's name (the file's stem) and path; a user's card hides a packaged one."""
    found: dict[str, Path] = {}
    for folder in card_folders(kind):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find_card(kind: CardKind, name: str) -> Path:
    """Return the file that a name or a path stands for.

    Raises:
        CardError: there is none; the message proposes the nearest names.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise CardError(f"card {name} does not exist; give a YAML file or one of {kind}/")
    known = list_cards(kind)
    if name not in known:
        noun = kind.removesuffix("s")
        raise CardError(f"unknown {noun} {name!r}{nearest_hint(name, known)}")
    return known[name]


def load_model_card(name: str, overrides: Sequence[str] = ()) -> ModelCard:
    """Return a model's card, with `key=value` overrides applied.

    Raises:
        CardError: not found, not YAML, or a field is wrong; file, line and field are named.
    """
    return _read(find_card("models", name), ModelCard, overrides)


def load_task_card(name: str, overrides: Sequence[str] = ()) -> TaskCard:
    """Return a task's card, with `key=value` overrides applied; errors as `load_model_card`."""
    return _read(find_card("tasks", name), TaskCard, overrides)


def expand_tasks(names: Sequence[str]) -> list[str]:
    """Return task names with every group replaced by its members, in order, none twice."""
    expanded: list[str] = []
    for name in names:
        path = find_card("tasks", name)
        group = "tasks" in _parse_yaml(path)
        members = _read(path, GroupCard, ()).tasks if group else (name,)
        expanded += [member for member in members if member not in expanded]
    return expanded


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sort `--set` values into those for the model's card and those for the tasks' cards.

    `model.alpha=…` and `task.split=…` say which they mean; a bare key goes to whichever card
    has such a field, the model's first.

    Raises:
        CardError: neither card has the field.
    """
    model: list[str] = []
    task: list[str] = []
    for override in overrides:
        key = override.partition("=")[0]
        first, _, rest = key.partition(".")
        if first == "model" and rest:
            model.append(override.removeprefix("model."))
        elif first == "task" and rest:
            task.append(override.removeprefix("task."))
        elif first in ModelCard.model_fields and first not in ("name", "title", "path"):
            model.append(override)
        elif first in TaskCard.model_fields:
            task.append(override)
        else:
            known = {*ModelCard.model_fields, *TaskCard.model_fields} - {"path"}
            raise CardError(
                f"--set {override}: no card has a field {first!r}{nearest_hint(first, known)}"
            )
    return model, task


def _parse_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=YAML_LOADER)  # noqa: S506 - safe
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise CardError(f"{path}, line {line}: not YAML: {error.problem}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise CardError(f"{path}: expected a mapping of fields, found {type(data).__name__}")
    return data


def _read(path: Path, card_class: type[C], overrides: Sequence[str]) -> C:
    data = _parse_yaml(path)
    for override in overrides:
        _apply_override(data, override)
    data.setdefault("name", path.stem)
    try:
        return card_class.model_validate({**data, "path": path.resolve()})
    except ValidationError as error:
        raise CardError(_explain(path, card_class, error)) from error


def _apply_override(data: dict[str, Any], override: str) -> None:
    """Set one dotted `key=value` in a card's raw fields; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise CardError(f"--set {override}: expected key=value, for example fusion.alpha=0.2")
    *parents, last = key.split(".")
    target = data
    for parent in parents:
        child = target.setdefault(parent, {})
        if not isinstance(child, dict):
            raise CardError(f"--set {override}: {parent!r} has no fields of its own")
        target = child
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CardError(f"--set {override}: the value is not YAML") from error


def _explain(path: Path, card_class: type[Card], error: ValidationError) -> str:
    """Turn pydantic's report into one line that names file, line and field."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    where = ".".join(names) or "card"
    line = _line_of(path, names)
    place = f"{path}, line {line}" if line else str(path)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        fields = _fields_at(card_class, names[:-1])
        close = difflib.get_close_matches(names[-1], fields, n=3, cutoff=0.5) or sorted(fields)
        return f"{place}: unknown field {where!r}; did you mean: {', '.join(close)}?{more}"
    found = "" if first["type"] == "missing" else f", found {first['input']!r}"
    return f"{place}: field {where!r}: {first['msg'].lower()}{found}{more}"


def _fields_at(card_class: type[BaseModel], names: Sequence[str]) -> list[str]:
    """Return the field names of the (nested) model that `names` leads to."""
    current: type[BaseModel] = card_class
    for name in names:
        field = current.model_fields.get(name)
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            current = annotation
    return [name for name in current.model_fields if name != "path"]


def _line_of(path: Path, names: Sequence[str]) -> int | None:
    """Return the line of the deepest of the nested keys `names` that the file has."""
    node: yaml.Node | None = yaml.compose(path.read_text(encoding="utf-8"))
    line = None
    for name in names:
        if not isinstance(node, yaml.MappingNode):
            break
        match = next(((k, v) for k, v in node.value if k.value == name), None)
        if match is None:
            break
        line, node = match[0].start_mark.line + 1, match[1]
    return line


def as_mapping(card: Card) -> Mapping[str, Any]:
    """Return a card as plain JSON data for manifests."""
    return card.model_dump(mode="json")
