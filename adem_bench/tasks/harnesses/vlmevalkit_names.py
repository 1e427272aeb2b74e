"""VLMEvalKit's data sets by their names, read out of its source text; nothing of it is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LISTS = {"IMAGE_DATASET": "image", "VIDEO_DATASET": "video", "TEXT_DATASET": "text"}
"""Lists of classes in its `dataset/__init__.py`, and what their questions are about."""
JOINED = "ConcatDataset"
"""The class whose data sets are several others'."""
BASE = "ImageBaseDataset"
"""The class that loads a TSV by its URL; those that load otherwise have methods of their own."""
MD5 = re.compile("[0-9a-f]{32}")
KINDS = {"Y/N": "yes_no", "MT": "several_turns"}
JUDGE, EXACT = "build_judge", "exact_matching"
JUDGED = frozenset(
    (
        *("ImageShortQADataset", "PathVQA_VAL", "PathVQA_TEST", "HLEDataset", "EMMADataset"),
        *("MMESCIDataset", "SFE", "LogicVista", "VLMBias", "SimpleVQA"),
    )
)
"""Classes whose scoring names exact matching, or no judge, and fails or gives no figure without a
judge model; seen in 0.0.20, by `tools/harness_coverage.py`."""


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
                found.setdefault(data_set, {**about, **_published(classes, member, data_set)})
    if computed:  # what classes compute is what they have: URLs of parts are no data sets
        found = {name: about for name, about in found.items() if name in computed}
    for data_set, parts in (_value(classes, JOINED, "DATASET_SETS") or {}).items():
        if parts and parts[0] in found:
            about = {key: found[parts[0]][key] for key in ("modality", "kind", "judge")}
            found.setdefault(data_set, {**about, "owner": JOINED, "parts": " ".join(parts)})
    return found


def _classes(text: str) -> dict[str, _Class]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return {}
    lines = text.splitlines()
    known = _texts(tree.body, {})
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        one = _Class([getattr(base, "id", getattr(base, "attr", "")) for base in node.bases])
        names = known | _texts(node.body, known)
        for part in node.body:
            if isinstance(part, ast.FunctionDef):
                one.functions[part.name] = "\n".join(lines[part.lineno - 1 : part.end_lineno])
            elif isinstance(part, ast.Assign | ast.AnnAssign) and part.value is not None:
                targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        one.values[target.id] = _literal(part.value, names)
        found[node.name] = one
    return found


def _texts(body: Iterable[ast.stmt], known: Mapping[str, str]) -> dict[str, str]:
    """Return the names that stand for texts among statements."""
    found: dict[str, str] = {}
    for part in body:
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
            text = _text(part.value, {**known, **found})
            if text is not None:
                found[part.targets[0].id] = text
    return found


def _text(node: ast.expr, known: Mapping[str, str]) -> str | None:
    """Return a text that is written out, perhaps with the names of others in it."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    parts: Sequence[ast.expr] = ()
    if isinstance(node, ast.JoinedStr):
        parts = [getattr(part, "value", part) if isinstance(part, ast.FormattedValue) else part
                 for part in node.values]  # fmt: skip
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [node.left, node.right]
    texts = [_text(part, known) for part in parts]
    return "".join(map(str, texts)) if texts and None not in texts else None


def _literal(node: ast.expr, known: Mapping[str, str]) -> Any:
    """Return a value, of a dictionary at least its keys, None for what would have to be run."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            return {key.value: _text(value, known) for key, value in pairs
                    if isinstance(key, ast.Constant)}  # fmt: skip
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


def _published(classes: Mapping[str, _Class], name: str, data_set: str) -> dict[str, str]:
    """Return where the TSV of a data set is published, and its MD5; nothing of what code loads."""
    loaders = [
        one for one in _lineage(classes, name) if {"load_data", "prepare_tsv"} & {*one.functions}
    ]
    if any(one is not classes.get(BASE) for one in loaders):
        return {}
    stated = {"url": "DATASET_URL", "md5": "DATASET_MD5"}
    values = {key: _value(classes, name, attribute) for key, attribute in stated.items()}
    found = {key: one.get(data_set) for key, one in values.items() if isinstance(one, dict)}
    url, md5 = str(found.get("url") or ""), str(found.get("md5") or "")
    if not url.startswith(("https://", "http://")):
        return {}
    return {"url": url, "md5": md5 if MD5.fullmatch(md5) else ""}


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
    if name in JUDGED:
        judge = "needed"
    return {"kind": KINDS.get(kind, kind.lower()), "judge": judge}
