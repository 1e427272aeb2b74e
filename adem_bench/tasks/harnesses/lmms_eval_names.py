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
    r"llm_judge|get_server\(|OPENAI_API_KEY|GPT_EVAL_MODEL|AzureOpenAI|OpenAI\(|chat/completions"
)
MEDIA = {
    "video": re.compile(r"video|\.mp4", re.IGNORECASE),
    "audio": re.compile(r"audio|\.wav", re.IGNORECASE),
}
FUNCTION = "!function "


SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(SAFE_LOADER):  # type: ignore[misc]
    """The safe loader, which reads a function's name as text."""


_Loader.add_constructor("!function", lambda loader, node: FUNCTION + str(node.value))


def read_names(package: Path, computed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return each task's kind, modality, need of a judge, place of data and file.

    Args:
        package: Folder of `lmms_eval`.
        computed: Names that no file holds; there are none.
    """
    found: dict[str, dict[str, str]] = {}
    files: dict[Path, dict[str, Any]] = {}
    for path in sorted((package / "tasks").rglob("*.yaml")):
        task = _loaded(path, files)
        name = task.get("task")
        if isinstance(name, str):
            found[name] = {**_about(path, task), "file": str(path)}
    _functions.cache_clear()
    return found


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
        "judge": "needed" if any(JUDGE.search(_source(path, one)) for one in scoring) else "no",
        "data": str(task.get("dataset_path") or ""),
    }


def _modality(path: Path, task: Mapping[str, Any]) -> str:
    shown = task.get("doc_to_visual")
    if shown is None:
        return "messages" if task.get("doc_to_messages") else "text"
    data = task.get("dataset_kwargs")
    if isinstance(data, dict) and data.get("video"):
        return "video"
    text = f"{shown}\n{_source(path, shown)}"
    return next((name for name, words in MEDIA.items() if words.search(text)), "image")


def _source(path: Path, value: Any) -> str:
    """Return the source text of a function that a file names, with those that it calls."""
    if not isinstance(value, str) or not value.startswith(FUNCTION):
        return ""
    module, _, name = value.removeprefix(FUNCTION).rpartition(".")
    functions = _functions(path.parent / f"{module.replace('.', '/')}.py")
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
