"""lmms-eval's tasks by their names, read out of its YAML files; nothing of it is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

KINDS = {
    "generate_until": "generate",
    "multiple_choice": "choices",
    "generate_until_multi_round": "several_rounds",
    "generate_until_agentic": "agentic",
    "generate_visual_cot": "visual_chain_of_thought",
}
JUDGE = re.compile(
    r"llm_judge|get_server\(|OPENAI_API_KEY|GPT_EVAL_MODEL|AzureOpenAI|OpenAI\(|chat/completions|"
    r"api_type="
)
MADE = re.compile(r"get_server\(|(\w+\.)*(Async)?(Azure)?OpenAI\(")
"""How a value begins that is a client of a judge."""
JUDGING = ("no", "optional", "needed")
HELPED = re.compile(r"\w*Evaluator\(.*(API_KEY|api_key)")
"""How one begins that reads answers by rule, and has a judge read the others."""
MEDIA = {
    "video": re.compile(r"video|\.mp4", re.IGNORECASE),
    "audio": re.compile(r"audio|\.wav", re.IGNORECASE),
}
SHOWS_NOTHING = re.compile(r"def [^\n]*:\n\s*return (\[\]|None)\s*")
FUNCTION = "!function "


SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(SAFE_LOADER):  # type: ignore[misc]
    """The safe loader, which reads a function's name as text."""


_Loader.add_constructor("!function", lambda loader, node: FUNCTION + str(node.value))


def read_names(package: Path, computed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return each task's kind, modality, need of a judge, place of data, file and groups.

    Args:
        package: Folder of `lmms_eval`.
        computed: Names that no file holds; there are none.
    """
    return names_in(package / "tasks")


def names_in(folder: Path) -> dict[str, dict[str, str]]:
    """Return the same of the tasks in a folder, of one's own perhaps."""
    found: dict[str, dict[str, str]] = {}
    files: dict[Path, dict[str, Any]] = {}
    groups: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        task = _loaded(path, files)
        name = task.get("task")
        if isinstance(name, str):
            found[name] = {**_about(path, task), "file": str(path)}
            for field in ("tag", "group"):
                for group in _list(task.get(field)):
                    groups.setdefault(str(group), []).append(name)
        elif isinstance(name, list):
            members = [one.get("task") if isinstance(one, dict) else one for one in name]
            groups.setdefault(str(task.get("group")), []).extend(map(str, members))
    for group in groups:
        for name in _members(group, groups, set()) & found.keys():
            found[name]["groups"] = " ".join([*found[name].get("groups", "").split(), group])
    _functions.cache_clear()
    _made.cache_clear()
    _hands_on.cache_clear()
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _members(group: str, groups: Mapping[str, list[str]], seen: set[str]) -> set[str]:
    """Return the names in a group, and in the groups in it."""
    seen.add(group)
    names = set(groups.get(group, ()))
    for name in names & groups.keys() - seen:
        names |= _members(name, groups, seen)
    return names


def _loaded(path: Path, files: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of a file, with those of the files that it includes."""
    if path in files:
        return files[path]
    files[path] = {}  # what includes itself includes nothing
    try:
        fields = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - safe
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    if not isinstance(fields, dict):
        return {}
    included = fields.pop("include", None)
    whole: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included or []:
        if (path.parent / str(name)).is_file():
            whole |= _loaded((path.parent / str(name)).resolve(), files)
    files[path] = whole | fields
    return files[path]


def _about(path: Path, task: Mapping[str, Any]) -> dict[str, str]:
    output = str(task.get("output_type", "generate_until"))
    metrics = [one for one in task.get("metric_list") or () if isinstance(one, dict)]
    scoring = [task.get("process_results"), *(one.get("aggregation") for one in metrics)]
    return {
        "kind": KINDS.get(output, output),
        "modality": _modality(path, task),
        "judge": max((_judge(path, one) for one in scoring), key=JUDGING.index, default="no"),
        "data": str(task.get("dataset_path") or ""),
        **_rows_asked(task),
    }


def _rows_asked(task: Mapping[str, Any]) -> dict[str, str]:
    """Return the part and the split of a data set that is asked, where all of it is."""
    if task.get("process_docs") or not task.get("test_split"):
        return {}
    return {"config": str(task.get("dataset_name") or "default"), "split": str(task["test_split"])}


def _modality(path: Path, task: Mapping[str, Any]) -> str:
    shown = task.get("doc_to_visual")
    source = _source(path, shown)
    if shown is None or SHOWS_NOTHING.fullmatch(source):
        return "messages" if task.get("doc_to_messages") else "text"
    data = task.get("dataset_kwargs")
    if isinstance(data, dict) and data.get("video"):
        return "video"
    text = f"{shown}\n{source}"
    return next((name for name, words in MEDIA.items() if words.search(text)), "image")


def _judge(path: Path, function: Any) -> str:
    """Return whether a function asks a judge, perhaps by a client that its module has made."""
    source = _source(path, function)
    if JUDGE.search(source):
        return JUDGING[-1]
    made = _made(_module(path, function)).items()
    used = (kind for name, kind in made if re.search(rf"\b{name}\.", source))
    return max(used, key=JUDGING.index, default=JUDGING[0])


@cache
def _made(module: Path) -> dict[str, str]:
    """Return the names that a module gives to judges outside its functions, and their need."""
    try:
        text = module.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    # What is indented may be below an `if`, as clients of one service or another are.
    found = re.findall(r"^ {0,4}(\w+) *= *(.*)$", text, re.MULTILINE)
    judges = (name for name, value in found if MADE.match(value) or _is_judge(module, text, value))
    needed = dict.fromkeys(judges, "needed")
    return {name: "optional" for name, value in found if HELPED.match(value)} | needed


def _is_judge(module: Path, text: str, value: str) -> bool:
    """Return whether a value is of a class of a module next to this one that makes a client.

    Args:
        module: This one.
        text: Of it.
        value: As it is written: `MathVistaEvaluator()`.
    """
    kind = value.partition("(")[0]
    if not kind.isidentifier():
        return False
    found = re.search(rf"^from ([\w.]+) import [^\n]*\b{kind}\b", text, re.MULTILINE)
    if found is None:
        return False
    beside = module.with_name(f"{found[1].rpartition('.')[2]}.py")
    try:
        return "get_server(" in beside.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _module(path: Path, value: Any) -> Path:
    """Return the file of a function; where that only hands on another's, the one above it."""
    name = str(value).removeprefix(FUNCTION).rpartition(".")[0]
    file = path.parent / f"{name.replace('.', '/')}.py"
    above = file.parent.parent / file.name
    return above if _hands_on(file) and above.is_file() else file


@cache
def _hands_on(module: Path) -> bool:
    """Return whether a module has all that it has from one of its own name."""
    try:
        text = module.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(rf"^from {module.stem} import \*", text, re.MULTILINE) is not None


def _source(path: Path, value: Any) -> str:
    """Return the source text of a function that a file names, with those that it calls."""
    if not isinstance(value, str) or not value.startswith(FUNCTION):
        return ""
    name = value.rpartition(".")[2]
    functions = _functions(_module(path, value))
    taken: list[str] = []
    wanted = [name]
    while wanted:
        one = wanted.pop()
        if one in functions and one not in taken:
            taken.append(one)
            wanted += set(re.findall(r"\b(\w+)\(", functions[one])) & functions.keys()
    return "\n".join(functions[one] for one in taken)


@cache
def _functions(path: Path) -> dict[str, str]:
    """Return the source text of a module's functions."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    starts = list(re.finditer(r"^(?:async )?def (\w+)\(", text, re.MULTILINE))
    ends = [*(start.start() for start in starts[1:]), len(text)]
    return {found[1]: text[found.start() : end] for found, end in zip(starts, ends, strict=False)}
