"""The one family of errors that the command line prints as one line, with the exit code of each."""

from __future__ import annotations

import difflib
import errno
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters, direction marks and overrides, invisible ones, and halves of characters."""

MOST_LISTED = 8
"""Names up to which a message lists all that are known."""


FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_USUAL_FILE = (
    errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ESTALE, errno.ENXIO
)  # fmt: skip
NO_MEMORY = (
    "cannot allocate memory", "can't allocate memory", "failed to map segment", "std::bad_alloc",
    "can't start new thread", "not enough memory", "out of memory", "libgomp: thread creation",
    "error return without exception set", "without setting an exception",
    "memory allocation still failed",
)  # fmt: skip
"""What loaders of libraries, allocators and threads say where memory is at its end."""
MOST_SAID = 300
"""Characters of a wrong value, or of another package's message, that a message of ours repeats."""
NO_HOME = "Could not determine home directory"
"""What pathlib says where `~` stands for nothing."""
NO_TEMPORARY = "No usable temporary directory found"
"""What tempfile says, without the file's name."""
HALF_COMPILED = "marshal data"
"""In what Python says of a module that it compiled."""
LINK_LOOP = "Symlink loop from "
"""What it says of a link that leads back to itself."""


class AdemBenchError(Exception):
    """A user's mistake or a missing resource: what was found, what was expected, what to do."""

    exit_code = 2


class CardError(AdemBenchError):
    """A card cannot be found, read or validated."""


class DataError(AdemBenchError):
    """A data set's files are missing or not in their documented layout."""


class MissingDataError(DataError):
    """A data set's files are not there."""


class DownloadError(AdemBenchError):
    """A published file cannot be fetched, or is not what was published."""


class CheckpointError(AdemBenchError):
    """Weights are missing or do not fit the model they are loaded into."""


class DivergedError(AdemBenchError):
    """Training has left the region where its gradients are finite."""


class PredictionsError(AdemBenchError):
    """A predictions file cannot be read or belongs to other samples."""


class ResultsError(AdemBenchError):
    """A run folder cannot be written or read."""


class UnknownNameError(AdemBenchError, KeyError):
    """Something is asked for by a name that there is not; a KeyError whose text can be read."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class SeveralErrors(AdemBenchError):  # noqa: N818 - it is not one
    """Mistakes that are reported together, because each can be put right by itself."""

    def __init__(self, errors: Iterable[AdemBenchError]) -> None:
        """Keep the errors, several as those that they are made of, and equal ones once."""
        parts = [one for error in errors for one in getattr(error, "errors", (error,))]
        self.errors: tuple[AdemBenchError, ...] = tuple({str(one): one for one in parts}.values())
        super().__init__("; also: ".join(map(str, self.errors)))


class Noted(list[AdemBenchError]):
    """Collects errors: each `with` block adds the one that it ends with."""

    def __enter__(self) -> Noted:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, AdemBenchError):
            self.append(error)
            return True
        return False

    def raise_all(self) -> None:
        """Raise what was collected: one error as it is, several together.

        Raises:
            AdemBenchError: there is any.
        """
        several = SeveralErrors(self)
        if len(several.errors) == 1:
            raise several.errors[0]
        if several.errors:
            raise several


class OutOfMemoryError(Exception):
    """A batch did not fit in memory; the scheduler answers by halving its batches."""


def explain_system(error: BaseException) -> str:
    """Return what about this machine is at fault, and the remedy; empty if it is something else."""
    if isinstance(error, EOFError | ValueError) and HALF_COMPILED in str(error):
        return (
            "Python has kept a module half compiled, as on a full disk; delete the folders "
            f"__pycache__ below {sys.prefix}"
        )
    if isinstance(error, ValueError):
        return _explain_name(error)
    if isinstance(error, RuntimeError) and NO_HOME in str(error):
        return "there is no home folder; set HOME, or write whole paths and set ADEM_BENCH_CACHE"
    if isinstance(error, RuntimeError) and str(error).startswith(LINK_LOOP):
        link = str(error).removeprefix(LINK_LOOP)
        return f"{link} is a link that leads back to itself; name another place, or see to it"
    if lacks_memory(error):
        return (
            "not enough memory: a limit (ulimit, cgroup, job) or this machine has too little; "
            "raise the limit, or choose a smaller model, --dtype or --batch-size"
        )
    return _explain_os(error) if isinstance(error, OSError) else ""


def _explain_os(error: OSError) -> str:
    if NO_TEMPORARY in str(error):
        return "no folder for temporary files can be written to; set TMPDIR to one with free space"
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in FULL_DISK:
        return (
            f"no space left on the disk{where}; free some and run the same command again: "
            "what was already written is kept"
        )
    if error.errno == errno.ENAMETOOLONG:
        return f"a name is longer than the file system takes{where}; give a shorter one"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many files are open{where}; raise the limit (ulimit -n)"
    if error.errno in NOT_ALLOWED:
        return f"{(error.strerror or 'not allowed').lower()}{where}; check its permissions"
    if error.errno in NO_USUAL_FILE or (error.errno == errno.EINVAL and error.filename):
        return f"{(error.strerror or 'cannot be used').lower()}{where}; check it"
    return ""


def why_unread(error: Exception) -> str:
    """Return why a file cannot be read, for a message that names the file."""
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror.lower() if strerror else str(error)


def _explain_name(error: ValueError) -> str:
    """Return why no file can have a name; empty if the error is about something else."""
    if isinstance(error, UnicodeEncodeError) and (remedy := locale_remedy(error)):
        return f"{error}; {remedy}"
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        half = error.object[error.start : error.end]
        return f"a name holds half of a character ({half!a}), which no file's name can; change it"
    if "embedded null" in str(error):
        return "a name holds a NUL, which no file's name can; change it"
    return ""


def lacks_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory, of any kind, has run out."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error).lower()
    # SystemError: an extension has failed without saying why, which it does for want of memory.
    kinds = (ImportError, RuntimeError, OSError, SystemError)
    return isinstance(error, kinds) and any(words in said for words in NO_MEMORY)


@contextmanager
def system_errors() -> Iterator[None]:
    """Turn what the machine refuses (a full disk, a file's name, memory) into an error of ours.

    Raises:
        ResultsError: it refused something.
    """
    try:
        yield
    except (OSError, MemoryError, RuntimeError, ImportError, SystemError, ValueError) as error:
        explained = explain_system(error)
        if not explained:
            raise
        raise ResultsError(explained) from error


def locale_remedy(error: UnicodeEncodeError) -> str:
    """Return what to do about a name that this process's locale cannot write; empty if it can."""
    if error.encoding.replace("-", "").lower() == "utf8":
        return ""
    return (
        f"the locale writes {error.encoding}, which lacks that character: set PYTHONUTF8=1, or a "
        "locale in UTF-8 (LC_ALL=C.UTF-8)"
    )


def nearest_hint(name: str, known: Iterable[str], listing: str = "") -> str:
    """Return what to write instead of an unknown name, for the end of a message.

    Names that are close are proposed. Where none is, a few known names are listed; of many, the
    nearest, and what lists them all.

    Args:
        name: As it was written.
        known: What it may be.
        listing: A command that lists what is known.
    """
    names = sorted(known)
    close = _nearest(name, names, 0.5)
    if close:
        return f"; did you mean: {', '.join(close)}?"
    if len(names) <= MOST_LISTED:
        return f"; known: {', '.join(names)}" if names else ""
    nearest = ", ".join(_nearest(name, names, 0.0))
    if listing:
        return f"; the nearest: {nearest}; `{listing}` lists all {len(names)}"
    return f"; the nearest of {len(names)}: {nearest}"


def _nearest(name: str, names: Iterable[str], cutoff: float) -> list[str]:
    """Return up to three names that resemble one, the nearest first; case does not count."""
    matcher = difflib.SequenceMatcher(b=name.casefold())  # which looks into `b` once
    scored = []
    for known in names:
        matcher.set_seq1(known.casefold())
        scored.append((-matcher.ratio(), known))
    return [known for score, known in sorted(scored)[:3] if -score >= cutoff]


def in_shell(name: str | Path) -> str:
    """Return a path or a name as a command takes it: in quotes if there is a space in it, say."""
    return shlex.quote(str(name))


def printable(text: str) -> str:
    r"""Return text as one line that a terminal only shows: no escape sequence in it can act.

    Answers of models, rows of data sets and cards of strangers end up on terminals; control
    characters and direction overrides are shown as `\x1b`, line breaks as spaces.
    """
    return _harmless(" ".join(text.split()))


def printable_lines(text: str) -> str:
    """Return text for a terminal as `printable` does, its lines and their indentation kept."""
    return "\n".join(_harmless(line) for line in text.expandtabs().split("\n"))


def _harmless(line: str) -> str:
    return UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), line)
