"""What is wrong with a run folder, line by line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

MAX_PER_FILE = 50
"""Issues that are listed for one file; of the others, their number."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong."""

    file: Path
    line: int | None
    """From 1; None if the issue is about the whole file."""
    text: str
    """What is wrong and what was expected; may hold hostile text of the file."""

    def __str__(self) -> str:
        """Return `FILE[:LINE]: what is wrong`."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.text}"


class Issues:
    """Issues of one run folder, and what could not be checked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: list[Issue] = []
        self._counts: Counter[str] = Counter()
        self.unchecked: list[str] = []
        """What was not checked and why."""

    def add(self, file: str, text: str, line: int | None = None) -> None:
        """Note an issue.

        Args:
            file: Name of a file of the folder.
            text: What is wrong and what was expected.
            line: From 1; None if it is about the whole file.
        """
        self._counts[file] += 1
        if self._counts[file] <= MAX_PER_FILE:
            self._found.append(Issue(self._folder / file, line, text))

    def __bool__(self) -> bool:
        return bool(self._found)

    def listed(self) -> list[Issue]:
        """Return the issues in the order in which they were made."""
        more = [
            Issue(self._folder / file, None, f"and {count - MAX_PER_FILE} more issues")
            for file, count in self._counts.items()
            if count > MAX_PER_FILE
        ]
        return self._found + more
