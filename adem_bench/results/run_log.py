"""`run.log` in a run folder: what a run did and when, for people; nothing reads it back.

Every call that asks something adds to it, and so does every process: a line is written whole. A
disk that takes no more lines does not end a run here: the records, which matter, say so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import time
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType

from adem_bench import __version__
from adem_bench.errors import AdemBenchError, in_shell, printable
from adem_bench.files import opened_stream

LOG = "run.log"
LOGGER = logging.getLogger("adem_bench.run")
"""Every line goes through it, so programs can have them elsewhere too."""
LOGGER.setLevel(logging.INFO)
LOGGER.propagate = False  # lines on a terminal are for those who ask for them


class RunLog:
    """The log of one run, open for one process; the first line also writes who begins here."""

    def __init__(self, folder: Path, about: str, process: int = 0, processes: int = 1) -> None:
        """Name the log; nothing is touched before the first line.

        Args:
            folder: The run's.
            about: What is run.
            process: Number of this process.
            processes: How many share the run.
        """
        self._file = _LogFile(folder / LOG)
        who = f"process {process + 1} of {processes}: " if processes > 1 else ""
        self._file.setFormatter(line_format(f"%(asctime)s %(levelname)s {who}%(message)s"))
        self._about = about
        self._began = False

    def info(self, message: str) -> None:
        """Write what happened."""
        self._write(logging.INFO, message)

    def warning(self, message: str) -> None:
        """Write what a reader of the figures should know."""
        self._write(logging.WARNING, message)

    def _write(self, level: int, message: str, error: BaseException | None = None) -> None:
        if not self._began:
            self._began = True
            LOGGER.addHandler(self._file)
            command = " ".join(map(in_shell, [Path(sys.argv[0]).name, *sys.argv[1:]]))
            place = f"{platform.node()}, process id {os.getpid()}"
            LOGGER.info(printable(f"adem-bench {__version__} on {place}: {command}"))
            LOGGER.info(printable(self._about))
        LOGGER.log(level, printable(message), exc_info=error)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, AdemBenchError | OSError):
            self._write(logging.ERROR, f"stopped: {error}")
        elif isinstance(error, Exception):
            self._write(logging.ERROR, "stopped by an error that is not the user's", error)
        elif error is not None:
            self._write(logging.ERROR, "interrupted; the same command resumes here")
        LOGGER.removeHandler(self._file)
        self._file.close()


class _LogFile(logging.FileHandler):
    """Adds lines to a file that is made with the first one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename, "a", encoding="utf-8", errors=self.errors, opener=opened_stream
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line if the disk takes it."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def close(self) -> None:
        """Close the file; what the disk did not take is lost."""
        with contextlib.suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Do nothing: a log that cannot be written ends no run."""


def line_format(line: str) -> logging.Formatter:
    """Return a format of log lines whose times are in UTC."""
    formatter = logging.Formatter(line, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter
