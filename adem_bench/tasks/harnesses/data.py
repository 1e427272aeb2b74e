"""The data of VLMEvalKit's benchmarks: which files are on disk or missing, and fetching them."""

from __future__ import annotations

from pathlib import Path

from adem_bench.data.inventory import Listed
from adem_bench.schemas import DataFile, TaskCard
from adem_bench.tasks.harnesses.catalogue import Entry, catalogue, entry_of
from adem_bench.tasks.harnesses.process import VLMEVALKIT, data_folder
from adem_bench.tasks.harnesses.task import VlmEvalKitTask

BY_CODE = "VLMEvalKit's own code knows its files; `adem-bench data fetch` lets it fetch them"


def has_own_folder(card: TaskCard) -> bool:
    """Return whether a card's data is in VLMEvalKit's folder, whatever the data root is."""
    return card.kind == VLMEVALKIT.kind


def published_files(card: TaskCard) -> list[Listed]:
    """Return the TSVs of a data set of VLMEvalKit, with their URLs and MD5s where they are stated.

    Raises:
        CardError: there is no such data set, or VLMEvalKit is not installed.
    """
    entry = entry_of(VLMEVALKIT, str(card.options["source"]))
    known = catalogue(VLMEVALKIT) if entry.parts else {}
    parts = [known.get(name, Entry(name, "", "", "")) for name in entry.parts.split()] or [entry]
    folder = data_folder()
    files = [DataFile(path=f"{one.name}.tsv", url=one.url, md5=one.md5, note=BY_CODE)
             for one in parts]  # fmt: skip
    return [Listed(file, folder / file.path) for file in files]


def fetch_by_harness(card: TaskCard) -> Path:
    """Let VLMEvalKit fetch a data set by its own code; what is on disk stays as it is.

    Returns:
        The folder of its data.

    Raises:
        CardError: it is not installed.
        DataError: it cannot fetch it; its words are in the message.
    """
    folder = data_folder()
    VlmEvalKitTask(card, folder).fetch()
    return folder
