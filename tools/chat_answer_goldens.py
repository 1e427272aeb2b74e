"""Say in tests/fixtures/chat_answers what other harnesses read in its answers, and show it in docs.

The answers were made up for this package; what each means was written down before any rule read it.
The functions of the harnesses are run by themselves, without installing them:

    python tools/chat_answer_goldens.py VLMEVALKIT-CHECKOUT LMMS-EVAL-CHECKOUT
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from adem_bench.metrics.chat_answers import read_choice

ROOT = Path(__file__).resolve().parents[1]
FIXTURE = ROOT / "tests" / "fixtures" / "chat_answers" / "answers.json"
PAGE = ROOT / "docs" / "answers-compared.md"
FILES = {
    "vlmevalkit": "vlmeval/utils/matching_util.py",
    "lmms_eval": "lmms_eval/tasks/_task_utils/mcq_extract.py",
}
HARNESSES = {"vlmevalkit": "VLMEvalKit", "lmms_eval": "lmms-eval"}
INTRODUCTION = """# The rule `chat` next to other harnesses

{answers} answers in {kinds} kinds, made up for this package, with what a reader takes each to mean
(`tests/fixtures/chat_answers`). They are read by the rule `chat` ([answers](answers.md)), by
VLMEvalKit's `can_infer` (commit {vlmevalkit:.8}, without a judge model) and by lmms-eval's
`extract_mcq_answer` (commit {lmms_eval:.8}). All three see the letters; lmms-eval's function is not
given the options' texts. `tools/chat_answer_goldens.py` makes the page.

Of each kind: how many are read as meant, and, behind the stroke, how many as another option.

| kind | answers | `chat` | VLMEvalKit | lmms-eval |
|---|---|---|---|---|
{summary}

Reading another option than was meant is worse than reading none: nobody sees it. These are all
answers in which one of the three differs from what is meant; *none* is nothing read.

| options | answer | meant | `chat` | VLMEvalKit | lmms-eval |
|---|---|---|---|---|---|
{rows}
"""


def main(checkouts: Mapping[str, Path]) -> None:
    """Run each harness's own function on every answer, and write fixture and page."""
    data = json.loads(FIXTURE.read_text(encoding="utf-8"))
    modules = {name: loaded(path / FILES[name]) for name, path in checkouts.items()}
    data["commits"] = {name: commit(path) for name, path in checkouts.items()}
    for entry in data["answers"]:
        options = data["options"][entry["options"]]
        infer = modules["vlmevalkit"].can_infer
        entry["vlmevalkit"] = str(infer(entry["answer"], dict(options)) or "")
        extract = modules["lmms_eval"].extract_mcq_answer
        entry["lmms_eval"] = extract(entry["answer"], list(options))
    FIXTURE.write_text(dumped(data), encoding="utf-8")
    PAGE.write_text(page(data), encoding="utf-8")


def loaded(path: Path) -> ModuleType:
    """Return a module of a harness, read from its file; of the rest it needs a logger alone."""
    log = ModuleType("vlmeval.smp.log")
    log.get_logger = logging.getLogger  # type: ignore[attr-defined]
    packages = {name: ModuleType(name) for name in ("vlmeval", "vlmeval.smp")}
    sys.modules.update(packages | {"vlmeval.smp.log": log})
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commit(checkout: Path) -> str:
    """Return the commit of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def dumped(data: Mapping[str, Any]) -> str:
    """Return the fixture's text: one answer a line."""
    head = {name: value for name, value in data.items() if name != "answers"}
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in data["answers"])
    return json.dumps(head, ensure_ascii=False, indent=1)[:-2] + f',\n "answers": [\n{lines}\n]}}\n'


def page(data: Mapping[str, Any]) -> str:
    """Return the page that shows where the three differ."""
    entries = [
        {**entry, "chat": read_choice(entry["answer"], data["options"][entry["options"]])}
        for entry in data["answers"]
    ]
    kinds = dict.fromkeys(entry["kind"] for entry in entries)
    groups = [[entry for entry in entries if entry["kind"] == kind] for kind in kinds]
    summary = [_summed(kind, group) for kind, group in zip(kinds, groups, strict=True)]
    rows = [_row(data["options"], entry) for entry in entries if _differs(entry)]
    return INTRODUCTION.format(
        answers=len(entries),
        kinds=len(kinds),
        summary="\n".join([*summary, _summed("all", entries)]),
        rows="\n".join(rows),
        **data["commits"],
    )


def _summed(kind: str, entries: Sequence[Mapping[str, str]]) -> str:
    rules = ("chat", *HARNESSES)
    right = Counter(rule for entry in entries for rule in rules if entry[rule] == entry["meant"])
    wrong = Counter(rule for e in entries for rule in rules if e[rule] not in ("", "Z", e["meant"]))
    cells = [kind, len(entries), *(f"{right[rule]} / {wrong[rule]}" for rule in rules)]
    return f"| {' | '.join(map(str, cells))} |"


def _differs(entry: Mapping[str, str]) -> bool:
    return any(entry[rule] != entry["meant"] for rule in ("chat", *HARNESSES))


def _row(options: Mapping[str, Mapping[str, str]], entry: Mapping[str, str]) -> str:
    shown = "; ".join(f"{letter} {text}" for letter, text in options[entry["options"]].items())
    answer = entry["answer"].replace("\n", "\u23ce").replace("|", "\\|")
    mark = "``" if "`" in answer else "`"
    blank = " " if "`" in answer else ""
    quoted = f"{mark}{blank}{answer}{blank}{mark}" if answer else "(empty)"
    read = (entry[rule] or "*none*" for rule in ("meant", "chat", *HARNESSES))
    return f"| {shown} | {quoted} | {' | '.join(read)} |"


if __name__ == "__main__":
    main(dict(zip(FILES, map(Path, sys.argv[1:3]), strict=True)))
