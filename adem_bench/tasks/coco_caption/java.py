"""The Java programs inside pycocoevalcap, run so that they always end and leave nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

SETTINGS = ("-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US")
"""The same characters and the same decimal points everywhere."""
GET_JAVA = "install a Java runtime (8 or newer; Debian: default-jre-headless) and put it on PATH"
GET_PYCOCOEVALCAP = "pip install --force-reinstall pycocoevalcap"


class UnavailableError(Exception):
    """Why a metric cannot be had, and how to get it."""


def package_file(*parts: str) -> Path:
    """Return a file inside pycocoevalcap.

    Raises:
        UnavailableError: the package or the file is missing.
    """
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError("pycocoevalcap is not installed; pip install pycocoevalcap")
    path = Path(next(iter(spec.submodule_search_locations)), *parts)
    if not path.is_file():
        raise UnavailableError(f"{path.name} is missing; {GET_PYCOCOEVALCAP}")
    return path


def find_java() -> str:
    """Return the path of the Java runtime.

    Raises:
        UnavailableError: there is none.
    """
    java = shutil.which("java")
    if java is None:
        raise UnavailableError(f"Java is missing; {GET_JAVA}")
    return java


def run_java(arguments: Sequence[str], text: str, seconds: float, folder: Path) -> str:
    """Run a Java program on a text; return what it prints.

    Args:
        arguments: After `java`.
        text: For its standard input, as UTF-8.
        seconds: It is killed after that long.
        folder: Working folder.

    Raises:
        UnavailableError: no Java, too slow, or it fails.
    """
    command = [find_java(), *SETTINGS, *arguments]
    try:
        done = subprocess.run(  # noqa: S603 (fixed programs, no shell)
            command,
            input=text.encode("utf-8", errors="replace"),
            capture_output=True,
            timeout=seconds,
            cwd=folder,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{arguments[-1]} took longer than {seconds:.0f} s") from error
    except OSError as error:
        raise UnavailableError(f"Java cannot be started: {error}") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise UnavailableError(f"Java ended with code {done.returncode}: {last[0][:200]}")
    return done.stdout.decode("utf-8", errors="replace")


class LineServer:
    """A Java program that answers each line with lines; killed when its time is over."""

    def __init__(self, arguments: Sequence[str], seconds: float, folder: Path) -> None:
        """Start a program.

        Args:
            arguments: What follows `java`.
            seconds: How long the program may run.
            folder: Its working directory.

        Raises:
            UnavailableError: there is no Java, or it cannot be started.
        """
        try:
            self._process = subprocess.Popen(  # noqa: S603 (fixed programs, no shell)
                [find_java(), *SETTINGS, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Unread error output would fill its pipe and stop the program.
                stderr=subprocess.DEVNULL,
                cwd=folder,
            )
        except OSError as error:
            raise UnavailableError(f"Java cannot be started: {error}") from error
        self._timer = threading.Timer(seconds, self._process.kill)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> LineServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            try:
                if stream:
                    stream.close()
            except OSError:
                continue  # what was still to be flushed has no reader any more
        self._process.wait()

    def send(self, line: str) -> None:
        """Send one line.

        Raises:
            UnavailableError: the program has ended.
        """
        if self._process.stdin is None:
            raise UnavailableError("the program takes no input")
        try:
            self._process.stdin.write(line.encode("utf-8", errors="replace") + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise UnavailableError("the program ended, or ran out of time") from error

    def line(self) -> str:
        """Return the next line of output.

        Raises:
            UnavailableError: the program has ended.
        """
        raw = self._process.stdout.readline() if self._process.stdout else b""
        if not raw.endswith(b"\n"):
            raise UnavailableError("the program ended, or ran out of time")
        return raw.decode("utf-8", errors="replace").strip()
