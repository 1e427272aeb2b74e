"""What a judge was asked about a run's answers, and what it said: `judge.jsonl` in the run folder.

A line for each question, handed to the operating system as soon as it is answered. What a judge
says is kept as it is, and read by the task alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from io import BufferedWriter
from pathlib import Path
from typing import Any

from adem_bench.errors import ResultsError
from adem_bench.files import disk_error, open_to_append
from adem_bench.records import Json, Response
from adem_bench.results.run_folder import JUDGEMENTS
from adem_bench.tasks.base import Question

FIELDS = {"key": str, "judge": str, "prompt": str, "answer": str}
"""Texts that every line has."""


class JudgeLog:
    """The questions to one judge in a folder, by the digest of each."""

    def __init__(self, folder: Path | None, judge: str) -> None:
        """Read what is kept.

        Args:
            folder: The run's; None: nothing is kept beyond this object.
            judge: Its name and fingerprint: what others said is no answer of its own.
        """
        self._path = folder / JUDGEMENTS if folder else None
        self._judge = judge
        self._stream: BufferedWriter | None = None
        self._lines: dict[str, dict[str, Any]] = {}
        self.tokens = [0, 0]
        self._counts_tokens = False
        if self._path is not None and self._path.is_file():
            for line in self._path.read_bytes().splitlines():
                self._take(_line(line))

    def _take(self, line: dict[str, Any] | None) -> None:
        if line is None or line["judge"] != self._judge:
            return
        self._lines[line["key"]] = line
        tokens = line.get("tokens")
        if isinstance(tokens, list) and _is_pair(tokens) and not line.get("reused"):
            self._counts_tokens = True
            self.tokens = [sum(pair) for pair in zip(self.tokens, tokens, strict=True)]

    def find(self, question: Question) -> Response | None:
        """Return what was said to a question, or why nothing was; None if it was not asked."""
        line = self._lines.get(question.request.digest())
        if line is None:
            return None
        error = line.get("error")
        return Response(line["answer"], error=error if isinstance(error, str) else None)

    def append(self, question: Question, response: Response, reused: bool) -> None:
        """Keep what was said to a question.

        Args:
            question: As asked.
            response: With the text that counts, or an error.
            reused: Whether it was known from another run, and so costs nothing.

        Raises:
            ResultsError: no space is left, or the folder cannot be written.
        """
        request = question.request
        line: dict[str, Any] = {
            "key": request.digest(),
            "judge": self._judge,
            "sample_id": question.sample_id,
            "prompt": request.prompt,
            "answer": response.answer_text,
        }
        optional = {
            "images": [path.name for path in request.images],
            "temperature": request.decoding.temperature,
            "error": response.error,
            "tokens": list(response.tokens) if response.tokens else None,
            "reused": reused,
        }
        line |= {name: value for name, value in optional.items() if value}
        self._take(line)
        if self._path is None:
            return
        try:
            if self._stream is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                _end_line(self._path)
                self._stream = open_to_append(self._path)
            self._stream.write(json.dumps(line).encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise disk_error(self._path, error) from error

    def counts(self) -> dict[str, Json]:
        """Return how many questions there are, how many failed, and tokens where counted."""
        failed = sum(isinstance(line.get("error"), str) for line in self._lines.values())
        found: dict[str, Json] = {"questions": len(self._lines), "failed": failed}
        if self._counts_tokens:
            found |= {"prompt_tokens": self.tokens[0], "answer_tokens": self.tokens[1]}
        return found

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            with contextlib.suppress(OSError):  # which the line that was not written has told
                self._stream.close()
            self._stream = None


class KeptJudge:
    """The judge of a finished run, which says what it said then; nothing is asked."""

    at_once = 1

    def __init__(self, folder: Path, name: str) -> None:
        """Read what it said.

        Args:
            folder: The run's.
            name: The judge's, with its fingerprint.
        """
        self.name = name
        self._log = JudgeLog(folder, name)
        self._path = folder / JUDGEMENTS

    def ask(self, questions: Sequence[Question]) -> list[Response]:
        """Return what was said.

        Raises:
            ResultsError: a question was not asked.
        """
        found = []
        for question in questions:
            response = self._log.find(question)
            if response is None:
                raise ResultsError(
                    f"{self._path} has no answer to a question about sample "
                    f"{question.sample_id!r:.80}; `adem-bench score RUN --judge "
                    f"{self.name.rpartition(' ')[0]}` asks it"
                )
            found.append(response)
        return found


def kept_judge(folder: Path, manifest: Mapping[str, Any]) -> KeptJudge | None:
    """Return the judge of a finished run, None where none judged it.

    Args:
        folder: The run's.
        manifest: Its manifest.
    """
    name = manifest["identity"].get("judge")
    return KeptJudge(folder, name) if isinstance(name, str) else None


def _line(raw: bytes) -> dict[str, Any] | None:
    """Return a line's object; None for one that was torn by a kill, or is none of ours."""
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    good = all(isinstance(line.get(name), kind) for name, kind in FIELDS.items())
    return line if good else None


def _is_pair(tokens: Sequence[Any]) -> bool:
    return len(tokens) == 2 and all(type(number) is int for number in tokens)


def _end_line(path: Path) -> None:
    """End a line that was torn by a kill, so that the next one stands alone."""
    if path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("ab") as stream:
            stream.write(b"\n")
