"""The one family of errors that the command line prints in a line, with the exit code of each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdemBenchError(Exception):
    """A user's mistake or a missing resource: what was found, what was expected, what to do."""

    exit_code = 2


class CardError(AdemBenchError):
    """A card cannot be found, read or validated."""


class DataError(AdemBenchError):
    """A data set's files are missing or not in their documented layout."""


class CheckpointError(AdemBenchError):
    """Weights are missing or do not fit the model they are loaded into."""


class PredictionsError(AdemBenchError):
    """A predictions file cannot be read or belongs to other samples."""


class ResultsError(AdemBenchError):
    """A run folder cannot be written or read."""


class OutOfMemoryError(Exception):
    """A batch did not fit in memory; the scheduler answers by halving its batches."""


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean: a, b" for names close to `name`, else the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean: {', '.join(close)}?"
    return f"; known: {', '.join(names)}" if names else ""
