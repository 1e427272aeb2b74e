"""Jobs for another harness, each in a process of its own that ends with it or is ended.

Importing such a harness trusts every HTTPS server, turns gradients off, seeds generators and reads
a `.env`: none of it may reach this process. The harness may live in an environment of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adem_bench.data.paths import cache_root
from adem_bench.errors import MOST_SAID, AdemBenchError, CardError, DataError
from adem_bench.files import MISSING, expand_home, why_missing
from adem_bench.tasks.harnesses import PYTHON_VARIABLE

if TYPE_CHECKING:  # at run time it would bring every schema, and a list needs none
    from adem_bench.tasks.harnesses.judging import JudgeServer

BARE = "import sys; sys.path[:] = [place for place in sys.path if place]\n"
"""Before all else: no package is taken from the current folder, as Python's `-c` would."""
START = BARE + (
    "sys.path.insert(0, sys.argv[1]); from worker.{module} import main; sys.path.pop(0); main()"
)
FIND = BARE + (
    "import importlib.metadata as m, importlib.util as u, json\n"
    "spec = u.find_spec(sys.argv[1])\n"
    "try: version = m.version(sys.argv[2])\n"
    "except m.PackageNotFoundError: version = ''\n"
    "print(json.dumps([spec.origin if spec else None, version]))"
)
JUDGE_PATIENCE_S = 0.1
"""Between two looks at whether a job has ended."""
MOST_DIGITS = 18
"""Of a part of a version."""
LOG_LINES = 3
"""Of what the harness said last, where it ended without an answer."""


@dataclass(frozen=True, slots=True)
class Harness:
    """Another harness: what it is called here and there."""

    kind: str
    """The kind of task, and the scheme of names: `vlmevalkit:NAME`."""
    title: str
    module: str
    """What is imported."""
    package: str
    """What is installed."""
    extra: str
    oldest: tuple[int, ...]


ANSWERS = frozenset({"result", "error"})
"""Fields of an answer, one of which it has."""
VLMEVALKIT = Harness("vlmevalkit", "VLMEvalKit", "vlmeval", "ms-vlmeval", "vlmevalkit", (0, 0, 20))
LMMS_EVAL = Harness("lmms_eval", "lmms-eval", "lmms_eval", "lmms-eval", "lmms-eval", (0, 7, 3))
HARNESSES = {harness.kind: harness for harness in (VLMEVALKIT, LMMS_EVAL)}


@dataclass(frozen=True, slots=True)
class Installed:
    """Where a harness is."""

    python: str
    folder: Path
    version: str
    """Of the package; empty for a checkout."""


def python_of(harness: Harness) -> str:
    """Return the interpreter that runs a harness: the one named for it, else this one.

    Raises:
        CardError: the one named does not exist.
    """
    parts = [part for part in os.environ.get(PYTHON_VARIABLE, "").split(os.pathsep) if part]
    own = (part.partition("=")[2] for part in parts if part.startswith(f"{harness.kind}="))
    chosen = next(own, "") or next((part for part in parts if "=" not in part), "")
    if not chosen:
        return sys.executable
    # Not resolved: the link to an interpreter is what tells its environment.
    python = expand_home(chosen).absolute()
    if not python.is_file():
        found = why_missing(python)
        raise CardError(
            f"--harness-python {chosen}: {'there is no such file' if found == MISSING else found}; "
            f"expected the interpreter of an environment with {harness.package}, for example "
            "ENVIRONMENT/bin/python"
        )
    return str(python)


def find(harness: Harness) -> Installed:
    """Return where a harness is installed; it is not imported.

    Raises:
        CardError: it is not installed, is too old, or its interpreter cannot be run.
    """
    return _find(harness, python_of(harness), os.environ.get("PYTHONPATH", ""))


@lru_cache
def _find(harness: Harness, python: str, places: str) -> Installed:
    """Ask an interpreter; `places` is where it looks besides."""
    origin, version = _asked(harness, python)
    elsewhere = "" if python == sys.executable else f" for {python}"
    remedy = (
        f"`pip install 'adem-bench[{harness.extra}]'`, or name an environment that has it: "
        "--harness-python ENVIRONMENT/bin/python"
    )
    if origin is None:
        raise CardError(f"{harness.title} is not installed{elsewhere}; {remedy}")
    if version and _numbers(version) < harness.oldest:
        oldest = ".".join(map(str, harness.oldest))
        raise CardError(
            f"{harness.package} {version} is too old, {oldest} or later is needed; {remedy}"
        )
    return Installed(python, Path(origin).parent, version)


def _asked(harness: Harness, python: str) -> tuple[str | None, str]:
    """Return the file of a harness's package, None without one, and its version.

    Raises:
        CardError: the interpreter does not say them.
    """
    cannot = f"{python} cannot be asked for {harness.title}"
    asked = [python, "-c", FIND, harness.module, harness.package]
    try:
        done = subprocess.run(asked, capture_output=True, timeout=60)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CardError(f"{cannot}: {error}") from error
    try:
        origin, version = json.loads(done.stdout)
        if not isinstance(version, str) or not (origin is None or Path(origin).parent.is_dir()):
            raise ValueError("it is not Python that says so")
    except (ValueError, TypeError, RecursionError) as error:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-LOG_LINES:]
        raise CardError(
            f"{cannot}: it ended with code {done.returncode} and no answer: "
            f"{' / '.join(said)[-MOST_SAID:] or 'it said nothing'}; is it Python?"
        ) from error
    return origin, version


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")
    return tuple(int("".join(filter(str.isdecimal, part[:MOST_DIGITS])) or 0) for part in parts)


def run_job(
    harness: Harness,
    job: Mapping[str, Any],
    log: Path,
    time_limit: float,
    doing: str,
    judge: JudgeServer | None = None,
) -> Any:
    """Run one job of a harness, and return its answer.

    Args:
        harness: Which.
        job: `do`, `name` and what the job needs; `network` lets it download.
        log: What the harness prints is added there.
        time_limit: Seconds until it is ended; each question to the judge begins them anew.
        doing: For messages: `scoring MMStar`.
        judge: Answers what the job asks models on servers; `judge` of the job is then its socket.

    Raises:
        DataError: the harness failed; its words are in the message.
        CardError: it cannot be run.
    """
    installed = find(harness)
    code = START.format(module=harness.kind)
    command = [installed.python, "-c", code, str(Path(__file__).parent)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        start = stream.tell()
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            env=environment(job),
            start_new_session=True,
        )
        try:
            said = _answer_of(process, job, time_limit, judge)
        except subprocess.TimeoutExpired as error:
            raise DataError(
                f"{harness.title}, {doing}: ended after {time_limit:g} seconds without an answer "
                f"(options.time_limit); what it said is in {log}"
            ) from error
        finally:
            _end(process)
    try:
        answer = json.loads(said.splitlines()[-1])
        if not isinstance(answer, dict) or not ANSWERS & set(answer):
            raise ValueError("its last line is not an answer")  # but what a library said at its end
    except (ValueError, IndexError, RecursionError) as error:
        with log.open("rb") as stream:
            stream.seek(start)
            last = stream.read().decode(errors="replace").strip().splitlines()[-LOG_LINES:]
        raise DataError(
            f"{harness.title}, {doing}: it ended with code {process.returncode} and no answer: "
            f"{' / '.join(last) or 'it said nothing'} ({log})"
        ) from error
    if "error" in answer:
        raise DataError(
            f"{harness.title}, {doing}: {answer['error']} ({answer.get('at')}; more in {log})"
        )
    return answer["result"]


def _answer_of(
    process: subprocess.Popen[bytes],
    job: Mapping[str, Any],
    time_limit: float,
    judge: JudgeServer | None,
) -> bytes:
    """Return what a job wrote, once it has ended; arguments as for `run_job`.

    Raises:
        subprocess.TimeoutExpired: it took too long.
    """
    if judge is None:
        return process.communicate(json.dumps(job).encode(), timeout=time_limit)[0]
    said: list[bytes] = []
    with judge.listening() as socket:
        given = json.dumps({**job, "judge": socket, "judge_at_once": judge.at_once}).encode()
        waiting = threading.Thread(
            target=lambda: said.append(process.communicate(given)[0]), daemon=True
        )
        waiting.start()
        deadline = time.monotonic() + time_limit
        # A judge may be a network, which is not to be asked from another thread.
        while waiting.is_alive():
            if judge.answer(JUDGE_PATIENCE_S):
                deadline = time.monotonic() + time_limit
            elif time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, time_limit)
    return b"".join(said)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment(job: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of a job: offline unless it may download, and no folder made at home."""
    chosen = dict(os.environ)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        chosen.pop(name, None)  # it is one process, whatever this one belongs to
    chosen["CUDA_VISIBLE_DEVICES"] = ""
    # VLMEvalKit lists the splits of a table as a set gives them, and its headline is of the first.
    chosen["PYTHONHASHSEED"] = "0"
    chosen["LMUData"] = str(data_folder())
    if not job.get("network"):
        offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
        chosen |= dict.fromkeys(offline, "1")
    if "folder" in job:
        temporary = Path(job["folder"]) / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        chosen["TMPDIR"] = str(temporary)
    return chosen


def data_folder() -> Path:
    """Return VLMEvalKit's folder of data: `$LMUData` or `~/LMUData` if there is one, else ours.

    Raises:
        AdemBenchError: the cache cannot be written.
    """
    named = os.environ.get("LMUData")  # noqa: SIM112 - theirs
    if named and Path(named).is_dir():
        return Path(named).absolute()
    try:
        at_home = Path("~/LMUData").expanduser()
    except RuntimeError:
        at_home = None
    if at_home is not None and at_home.is_dir():
        return at_home
    own = cache_root() / "harnesses" / "LMUData"
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AdemBenchError(
            f"{own} cannot be made ({error.strerror}); set ADEM_BENCH_CACHE to a folder that can "
            "be written"
        ) from error
    return own
