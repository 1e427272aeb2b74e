"""VLMEvalKit's data sets by their names, read out of its source text; nothing of it is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LISTS = {"IMAGE_DATASET": "image", "VIDEO_DATASET": "video", "TEXT_DATASET": "text"}
"""Lists of classes in its `dataset/__init__.py`, and what their questions are about."""
JOINED = "ConcatDataset"
"""The class whose data sets are several others'."""
KINDS = {"Y/N": "yes_no", "MT": "several_turns"}
JUDGE, EXACT = "build_judge", "exact_matching"


@dataclass(slots=True)
class _Class:
    bases: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    """Source text of methods."""


def read_names(package: Path, computed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return each name's kind, modality, need of a judge and class (`owner`).

    Args:
        package: Folder of `vlmeval`.
        computed: Names that classes compute, which no text holds, with their classes.
    """
    folder = package / "dataset"
    classes: dict[str, _Class] = {}
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "class " in text:
            classes |= _classes(text)
    found: dict[str, dict[str, str]] = {}
    lists = _lists((folder / "__init__.py").read_text(encoding="utf-8"))
    for name, modality in LISTS.items():
        for member in lists.get(name, ()):
            more = [one for one, owner in computed.items() if owner == member]
            for data_set in (*_names(classes, member), *more):
                about = {"modality": modality, "owner": member, **_about(classes, member)}
                found.setdefault(data_set, about)
    for data_set, parts in (_value(classes, JOINED, "DATASET_SETS") or {}).items():
        if parts and parts[0] in found:
            found.setdefault(data_set, {**found[parts[0]], "owner": JOINED})
    return found


def _classes(text: str) -> dict[str, _Class]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return {}
    lines = text.splitlines()
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        one = _Class([getattr(base, "id", getattr(base, "attr", "")) for base in node.bases])
        for part in node.body:
            if isinstance(part, ast.FunctionDef):
                one.functions[part.name] = "\n".join(lines[part.lineno - 1 : part.end_lineno])
            elif isinstance(part, ast.Assign | ast.AnnAssign) and part.value is not None:
                targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        one.values[target.id] = _literal(part.value)
        found[node.name] = one
    return found


def _literal(node: ast.expr) -> Any:
    """Return a value, of a dictionary at least its keys, None for what would have to be run."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        if isinstance(node, ast.Dict):
            return {key.value: None for key in node.keys if isinstance(key, ast.Constant)}
        return None


def _lists(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign | ast.AugAssign) and isinstance(node.value, ast.List):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            names = [one.id for one in node.value.elts if isinstance(one, ast.Name)]
            found.setdefault(getattr(target, "id", ""), []).extend(names)
    return found


def _lineage(classes: Mapping[str, _Class], name: str) -> Iterator[_Class]:
    if name in classes:
        yield classes[name]
        for base in classes[name].bases:
            yield from _lineage(classes, base)


def _value(classes: Mapping[str, _Class], name: str, attribute: str) -> Any:
    for one in _lineage(classes, name):
        if attribute in one.values:
            return one.values[attribute]
    return None


def _names(classes: Mapping[str, _Class], name: str) -> list[str]:
    urls = _value(classes, name, "DATASET_URL")
    return [key for key in urls if isinstance(key, str)] if isinstance(urls, dict) else []


def _about(classes: Mapping[str, _Class], name: str) -> dict[str, str]:
    stated = _value(classes, name, "TYPE")
    kind = str(stated) if stated else "other"
    methods: dict[str, str] = {}
    for one in reversed(list(_lineage(classes, name))):
        methods |= one.functions
    scoring = "\n".join(
        text for method, text in methods.items() if method.startswith(("evaluate", "_eval", "eval"))
    )
    judge = "no"
    if JUDGE in scoring:
        judge = "optional" if EXACT in scoring else "needed"
    return {"kind": KINDS.get(kind, kind.lower()), "judge": judge}
