"""The names of other harnesses' benchmarks: what each asks, what it needs, why it cannot be run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from adem_bench.data.paths import cache_root
from adem_bench.digests import digest
from adem_bench.errors import CardError, ResultsError, nearest_hint, why_unread
from adem_bench.files import exists, expand_home, read_json, write_json
from adem_bench.tasks.harnesses import lmms_eval_names, vlmevalkit_names
from adem_bench.tasks.harnesses.process import (
    LMMS_EVAL,
    VLMEVALKIT,
    Harness,
    Installed,
    data_folder,
    find,
    run_job,
)

if TYPE_CHECKING:  # at run time it would bring every schema, and the list is to be there at once
    from adem_bench.tasks.base import Judging

READERS: Mapping[str, Callable[[Path, Mapping[str, str]], dict[str, dict[str, str]]]] = {
    VLMEVALKIT.kind: vlmevalkit_names.read_names,
    LMMS_EVAL.kind: lmms_eval_names.read_names,
}
FORMAT = 9
"""Of the cached catalogue; raised when what is read changes."""
PATTERN = re.compile(r"[*?[\]]")
PATIENCE = 600.0
"""Seconds for a harness to list its benchmarks."""
MESSAGES = "messages"
"""The modality of what is known to have messages, with whatever they show."""
REFUSED_MODALITIES = {
    "video": "it shows videos",
    "audio": "it plays audio",
    "text": "it shows no image",
}
REFUSED_KINDS = {
    "several_turns": "its questions are conversations of several turns",
    "several_rounds": "its questions take several rounds",
    "agentic": "its questions are worked on by an agent",
    "visual_chain_of_thought": "its answers hold images",
    "choices": "it asks for log-probabilities of options",
    "loglikelihood": "it asks for log-likelihoods",
    "generate_until_and_loglikelihood": "it asks for log-likelihoods",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A benchmark of another harness."""

    name: str
    kind: str
    """What is asked, in one word: `mcq`, `yes_no`, `vqa`, `caption`, `generate`, …"""
    modality: str
    judge: str
    """Whether a judge model scores: `no`, `optional`, `needed`."""
    data: str = ""
    """Place of the data on the hub, where it is stated."""
    owner: str = ""
    """The class that reads it, of VLMEvalKit."""
    file: str = ""
    """Where it is defined, if that is a file of its own."""
    groups: str = ""
    """Groups and tags that it belongs to, with spaces between them."""
    url: str = ""
    """Of its only file, where that is stated and any other code can fetch it."""
    md5: str = ""
    """Of what the URL leads to."""
    parts: str = ""
    """Names of the data sets that it joins, with spaces between."""
    config: str = ""
    """Part of a data set of the hub, where every row of a split of it is asked."""
    split: str = ""
    """That split."""
    samples: str = ""
    """How many rows its published file has, in digits: what cards of our own say of that MD5."""

    @property
    def refused(self) -> str:
        """Why it cannot be run here; empty if it can."""
        return REFUSED_MODALITIES.get(self.modality) or REFUSED_KINDS.get(self.kind, "")

    @property
    def judging(self) -> Judging:
        """Whether a judge model reads its answers."""
        return _judging(self.judge)


ENTRY_FIELDS = tuple(field.name for field in fields(Entry) if field.name != "name")


def catalogue(harness: Harness, complete: bool = False) -> dict[str, Entry]:
    """Return a harness's benchmarks by name, read from its files once for each version.

    Args:
        harness: Whose.
        complete: Whether to ask the harness itself, once, for names that its code computes.

    Raises:
        CardError: the harness is not installed, or not whole.
        DataError: it cannot be asked.
    """
    installed = find(harness)
    file = _cache_file(harness, installed)
    names = _kept_names(file, complete)
    if names is None:
        computed = _computed(harness) if complete else {}
        try:
            names = READERS[harness.kind](installed.folder, computed)
        except OSError as error:
            raise CardError(
                f"{harness.title} in {installed.folder} is not whole: {error.filename} cannot be "
                f"read ({why_unread(error)}); install it again"
            ) from error
        published = _published_sizes() if harness is VLMEVALKIT else {}
        for one in names.values():
            one["samples"] = published.get(one.get("md5", ""), "")
        with suppress(ResultsError):  # it is read again next time
            write_json(file, {"complete": complete, "names": names})
    return {
        name: Entry(name=name, **{part: one[part] for part in ENTRY_FIELDS if part in one})
        for name, one in sorted(names.items())
    }


def _kept_names(file: Path, complete: bool) -> dict[str, dict[str, str]] | None:
    """Return the names that are kept; None if there are none, or a file that is damaged.

    Args:
        file: Of the cache.
        complete: Whether those that code computes must be among them.
    """
    try:
        kept = read_json(file)
        names: dict[str, dict[str, str]] = kept["names"]
        if complete and not kept["complete"]:
            return None
        texts = [value for one in names.values() for value in one.values()]
        is_whole = all({"kind", "modality", "judge"} <= one.keys() for one in names.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return names if is_whole and all(isinstance(text, str) for text in texts) else None


def _published_sizes() -> dict[str, str]:
    """Return the rows of published files by their MD5, as the cards of our own tasks state them."""
    from adem_bench.cards import list_cards, load_task_card

    found: dict[str, str] = {}
    for path in list_cards("tasks").values():
        try:
            card = load_task_card(str(path))
        except CardError:
            continue  # a group, or one that `tasks list` names
        for file in card.data.files if "rows" not in card.options else ():  # else it asks some
            split = file.splits[0] if file.splits else card.split
            if file.md5 and split in card.expected:
                found[file.md5] = str(card.expected[split])
    return found


def _computed(harness: Harness) -> dict[str, str]:
    """Return the class of every name, from the harness itself."""
    log = cache_root() / "harnesses" / f"names-{harness.kind}.log"
    asked = run_job(harness, {"do": "names"}, log, PATIENCE, "listing its benchmarks")
    names: dict[str, str] = asked["names"]
    return names


def _cache_file(harness: Harness, installed: Installed) -> Path:
    changed = installed.folder.stat().st_mtime_ns
    key = digest([FORMAT, str(installed.folder), installed.version, changed])
    return cache_root() / "harnesses" / f"names-{harness.kind}-{key}.json"


def entry_of(harness: Harness, name: str) -> Entry:
    """Return one benchmark; of VLMEvalKit also a TSV of one's own in its data folder.

    Raises:
        CardError: there is none of that name, or it cannot be run here; the message says why.
    """
    known = catalogue(harness)
    if name not in known and harness is VLMEVALKIT:
        known = catalogue(harness, complete=True)
    entry = known.get(name)
    if entry is None and harness is VLMEVALKIT and exists(data_folder() / f"{name}.tsv"):
        entry = Entry(name, "own", "image", "no")
    if entry is None:
        hint = (
            nearest_hint(name, known)
            if _is_near(name, known)
            else (f"; `adem-bench tasks list --source {harness.kind}` lists {len(known)} names")
        )
        raise CardError(f"{harness.title} has no benchmark {name!r}{hint}")
    if entry.refused:
        raise CardError(f"{harness.kind}:{name} cannot be run: {entry.refused}")
    return entry


def judging_of_source(harness: Harness, name: str, include_path: str) -> Judging:
    """Return whether a judge model reads the answers of a benchmark that a card names.

    Args:
        harness: Whose.
        name: The benchmark's.
        include_path: Folder of lmms-eval tasks of one's own, which go before its own.

    Raises:
        CardError: there is none of that name, or it cannot be run here.
    """
    if include_path:
        own = lmms_eval_names.names_in(expand_home(include_path)).get(name)
        if own is not None:
            return _judging(own["judge"])
    return entry_of(harness, name).judging


def _judging(stated: str) -> Judging:
    return "needed" if stated == "needed" else "optional" if stated != "no" else "no"


def names_like(harness: Harness, name: str) -> list[str]:
    """Return what a name, a pattern (`mmbench_*`) or a group stands for, without what is refused.

    Args:
        harness: Whose.
        name: A benchmark's own name is returned as it is.

    Raises:
        CardError: the harness is not installed, or nothing that can be run matches a pattern.
    """
    is_pattern = bool(PATTERN.search(name))
    if not is_pattern and harness is VLMEVALKIT:
        return [name]  # it has no groups
    known = catalogue(harness)
    if name in known:
        return [name]
    found = [
        one
        for one, entry in known.items()
        if (fnmatchcase(one, name) if is_pattern else name in entry.groups.split())
    ]
    usable = [one for one in found if not known[one].refused]
    if found and not usable:
        reasons = " or ".join(dict.fromkeys(known[one].refused for one in found))
        raise CardError(
            f"{harness.kind}:{name} stands for {len(found)} names, none of which can be run: "
            f"{reasons}"
        )
    if is_pattern and not usable:
        raise CardError(
            f"{harness.title} has no benchmark like {name!r}; `adem-bench tasks list --source "
            f"{harness.kind}` lists {len(known)} names"
        )
    return usable or [name]


def _is_near(name: str, known: Mapping[str, Entry]) -> bool:
    return "did you mean" in nearest_hint(name, known)


def is_on_disk(harness: Harness, entry: Entry) -> bool | None:
    """Return whether a benchmark's data is on disk, by its file's name; None if that says nothing.

    Args:
        harness: Whose.
        entry: The benchmark.
    """
    if harness is VLMEVALKIT:
        names = entry.parts.split() or [entry.name]
        return all(exists(data_folder() / f"{name}.tsv") for name in names)
    if "/" not in entry.data:
        return None
    return exists(_hub_folder(entry))


def hub_snapshots(entry: Entry) -> list[Path]:
    """Return the folders of a data set's snapshots in the hub's cache."""
    folder = _hub_folder(entry) / "snapshots"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _hub_folder(entry: Entry) -> Path:
    hub = os.environ.get("HF_HUB_CACHE") or os.path.join(  # noqa: PTH118
        os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser(), "hub"
    )
    return Path(hub) / f"datasets--{entry.data.replace('/', '--')}"
