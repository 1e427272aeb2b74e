"""Predictions of other code: the data sets' own result files, and vlm-evaluation's results.

Official files are a list of objects with an id and an answer, or one such object per line. The
suite writes an object of ids to rows: `results+rank-N.json` for each process, `full-results.json`
of all, and `metrics.json`, where the rows stand below `examples`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adem_bench.errors import PredictionsError
from adem_bench.files import read_text
from adem_bench.tasks.benchmark import read_predictions

SUITE_HOLDS = "an object of question ids to rows (results of vlm-evaluation)"
RANKS = "results+rank-*.json"
COMBINED = ("full-results.json", "metrics.json")


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers by question id."""

    texts: Mapping[str, str]
    from_suite: bool
    """Whether ids are the suite's own and texts are raw responses."""


def read_answers(
    path: Path, id_name: str, answer_name: str, suite_text: Callable[[Mapping[str, Any]], object]
) -> Answers:
    """Return the answers in a file, or in the suite's folder of results.

    Args:
        path: File or folder.
        id_name: Field of the id in the official format.
        answer_name: Field of the answer there.
        suite_text: Makes a response of a row of the suite; None where it lacks its fields.

    Raises:
        PredictionsError: no such file, something else in it, or an id twice.
    """
    holds = f"a list of {{{id_name}, {answer_name}}}, or {SUITE_HOLDS}"
    if path.is_dir():
        ranks = (
            sorted(path.glob(RANKS))
            or [path / name for name in COMBINED if (path / name).is_file()][:1]
        )
        if not ranks:
            raise PredictionsError(
                f"{path} holds no {RANKS} and no {COMBINED[0]}; expected {holds}"
            )
        # Processes answer a few questions twice, to be even: the last one counts, as there.
        parts = [_suite_rows(file, read_predictions(file, SUITE_HOLDS)) for file in ranks]
        rows = {key: row for part in parts for key, row in part.items()}
        return Answers(_suite_texts(path, rows, suite_text), from_suite=True)
    data = _lines(path, holds) if path.suffix == ".jsonl" else read_predictions(path, holds)
    if isinstance(data, dict):
        return Answers(_suite_texts(path, _suite_rows(path, data), suite_text), from_suite=True)
    if not isinstance(data, list) or not data:
        raise PredictionsError(f"{path} holds no predictions; expected {holds}")
    return Answers(_official_texts(path, data, id_name, answer_name), from_suite=False)


def _lines(path: Path, holds: str) -> list[Any]:
    try:
        lines = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        raise PredictionsError(f"{path} cannot be read ({error}); expected {holds}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found += [json.loads(line.lstrip("\ufeff"))] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise PredictionsError(
                f"{path}, line {number} is not JSON ({error}); expected {holds}"
            ) from error
    return found


def _official_texts(
    path: Path, rows: list[Any], id_name: str, answer_name: str
) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        fields = row if isinstance(row, dict) else {}
        key, answer = fields.get(id_name), fields.get(answer_name)
        if type(key) not in (int, str) or not isinstance(answer, str):
            raise PredictionsError(
                f"{path}, row {number}: expected {{{id_name}, {answer_name}}}, the answer a text"
            )
        if str(key) in found:
            raise PredictionsError(f"{path}, row {number}: {key!r} was answered further up")
        found[str(key)] = answer
    return found


def _suite_rows(path: Path, data: Any) -> Mapping[str, Any]:
    rows = data.get("examples", data) if isinstance(data, dict) else None
    if not isinstance(rows, dict) or not rows:
        raise PredictionsError(f"{path} holds no predictions; expected {SUITE_HOLDS}")
    return rows


def _suite_texts(
    path: Path, rows: Mapping[str, Any], suite_text: Callable[[Mapping[str, Any]], object]
) -> Mapping[str, str]:
    found = {}
    for key, row in rows.items():
        text = suite_text(row) if isinstance(row, dict) else None
        if not isinstance(text, str):
            raise PredictionsError(f"{path}: the row of {key!r} is none of this task's results")
        found[key] = text
    return found


def most_probable(row: Mapping[str, Any], field: str, words: list[str]) -> str | None:
    """Return the word that a row's probabilities favour; None if it has no such probabilities.

    Args:
        row: A row of the suite's results.
        field: Where the probabilities stand.
        words: What each is of, in order.
    """
    values = row.get(field)
    if not isinstance(values, list) or len(values) != len(words):
        return None
    if not all(type(value) in (int, float) for value in values):
        return None
    return words[max(range(len(words)), key=values.__getitem__)]
