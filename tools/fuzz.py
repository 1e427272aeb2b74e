"""Feeds damaged and hostile input to every reader and verb, and counts how each ends.

    python tools/fuzz.py --n 20000 --seed 1 --folder build/fuzz

One input is one file of a small world (a card, a run folder, data, predictions, weights of every
layout), one value of it edited or the bytes damaged, given to a verb; or a name, a setting or the
value of any option on its command line. All happens in this process. Exit codes 0 to 2 are fine;
70, an exception, 60 seconds and memory that a file merely asks for are faults, of which each
distinct one is printed once, with the number of the input that showed it. Counts are kept in the
folder: the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from fuzz_options import OddOptions
from fuzz_world import TEXTS, VALUES, World, edited, make_world

from adem_bench.cli import main
from adem_bench.files import is_dir, read_json, write_json

MOST_S = 60
MOST_BYTES = 6 << 30
"""That an input may take beyond what this process has."""
STATE, SAVED_EVERY = "state.json", 50
FINE, INTERRUPTED = (0, 1, 2), 3
FRAME = re.compile(r'File "[^"]*?(adem_bench/[^"]+)", line (\d+), in (\S+)')
"""What of a traceback tells one fault from another."""
SHORT_OF_MEMORY = "not enough memory"
PAGES = ("/", "/leaderboard", "/version")
"""That `view` is asked for where a reading names none."""
NAMED: tuple[Callable[[str], list[str]], ...] = (
    lambda text: ["tasks", "show", text],
    lambda text: ["models", "show", text],
    lambda text: ["models", "check", text],
    lambda text: ["models", "pull", text],
    lambda text: ["recipes", "show", text],
    lambda text: ["tasks", "show", "mini_mme", "--set", text],
    lambda text: ["tasks", "show", "mini_mme", "--set", f"title={text}"],
    lambda text: ["models", "show", "adem-tiny", "--set", f"fusion.alpha={text}"],
    lambda text: ["recipes", "show", "mini", "--set", f"epochs={text}"],
    lambda text: ["leaderboard", "runs", "--tasks", text],
    lambda text: ["leaderboard", "runs", "--sort", text],
    lambda text: ["leaderboard", text],
    lambda text: ["validate", text],
    lambda text: ["compare", text, text],
    lambda text: ["report", text, "--output", "new/page.html"],
    lambda text: ["rerun", text, "--results", "new"],
    lambda text: ["view", text],
    lambda text: ["data", "status", text],
    lambda text: ["data", "verify", text],
    lambda text: ["ask", "--model", text, "hello"],
    lambda text: ["ask", "--model", f"hf:{text}", "hello"],
    lambda text: ["ask", "--model", "constant:a", "--image", text, "hello"],
    lambda text: ["ask", "--model", "models/adem-tiny.yaml", "--adapter", text, "hello"],
    lambda text: ["demo", "--model", text],
    lambda text: ["convert", "adapter", text, "new/o"],
    lambda text: ["train", "--recipe", text, "--output", "new/o"],
    lambda text: ["train", "--recipe", "small.yaml", "--model", text, "--output", "new/o"],
    lambda text: ["run", "--model", f"constant:{text}", "--tasks", "rows_jsonl.yaml",
                  "--data-root", "data", "--results", "new"],
    lambda text: ["run", "--model", "majority", "--name", text, "--tasks", "choice.yaml",
                  "--data-root", "data", "--results", "new"],
    lambda text: ["run", "--model", "majority", "--tasks", text, "--results", "new"],
    lambda text: ["run", "--model", "majority", "--tasks", "choice.yaml", "--data-root", text,
                  "--results", "new"],
    lambda text: ["run", "--config", text, "--results", "new"],
    lambda text: ["score", "--task", "choice.yaml", "--data-root", "data", "--predictions", text],
)  # fmt: skip
"""Command lines with a hostile text in them."""


class Campaign:
    """Counts and faults of all inputs of a seed so far, on disk if a folder is given."""

    def __init__(self, seed: int, folder: Path | None = None) -> None:
        """Take up what an earlier call left.

        Args:
            seed: Chooses the inputs; each has a stream of its own.
            folder: Where counts are kept; None: nowhere.
        """
        self.seed = seed
        self.file = folder / f"{seed}-{STATE}" if folder else None
        found: Any = {"done": 0, "outcomes": {}, "faults": {}}
        if self.file is not None and self.file.exists():
            found = read_json(self.file)
        self.done: int = found["done"]
        self.outcomes: Counter[str] = Counter(found["outcomes"])
        self.faults: dict[str, str] = found["faults"]

    def save(self) -> None:
        """Keep what is known."""
        if self.file is not None:
            state = {"done": self.done, "outcomes": dict(self.outcomes), "faults": self.faults}
            write_json(self.file, state)

    def run(self, number: int, most_s: float = float("inf")) -> None:
        """Go on until so many inputs are done, those of earlier calls included.

        Args:
            number: Of inputs.
            most_s: Seconds after which no further input is begun.
        """
        deadline = time.monotonic() + most_s
        with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), _alone():
            world = make_world(Path(name), call)
            self._odd_options = OddOptions(world)
            with _limited():
                while self.done < number and time.monotonic() < deadline:
                    if not self._feed(world, random.Random(f"{self.seed}/{self.done}")):
                        break
                    self.done += 1
                    if self.done % SAVED_EVERY == 0:
                        self.save()
        self.save()

    def _feed(self, world: World, draw: random.Random) -> bool:
        """Give one input to a verb; return whether to go on."""
        (world.root / "new").mkdir()
        file, before, command = None, b"", []
        kind = draw.random()
        if kind < 0.15:
            command = self._odd_options.draw(draw)
        elif kind < 0.3:
            text = str(draw.choice((*VALUES, *TEXTS))) + draw.choice(("", "x", ".yaml"))
            command = draw.choice(NAMED)(text)
        else:
            reading = draw.choice(world.readings)
            place, command = Path(reading.file), list(reading.command)
            if reading.copied:
                shutil.copytree(world.root / reading.copied, world.root / "new" / reading.copied)
                place = "new" / place
            file = world.root / place
            before = file.read_bytes()
            # Another file in its place: tensors of the old one may still be mapped.
            file.unlink()
            file.write_bytes(edited(before, file.suffix, draw))
        signal.setitimer(signal.ITIMER_PROF, MOST_S)  # of the processor's time
        ended, said = call(command)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if ended == INTERRUPTED:  # whoever watches this wants an end
            return False
        if ended in FINE and SHORT_OF_MEMORY in said:
            ended = SHORT_OF_MEMORY
        self.outcomes[str(ended)] += 1
        if ended not in FINE:
            # Of the input, for whoever mends it.
            kept = file.read_bytes()[:80] if file else b""
            example = f"{self.done}: {command} {file} {kept!r}"[:400]
            self._fault(_fault(ended, said), example)
        if file:
            file.unlink(missing_ok=True)
            file.write_bytes(before)
        shutil.rmtree(world.root / "new")
        return True

    def _fault(self, fault: str, example: str) -> None:
        if fault not in self.faults:
            self.faults[fault] = example.encode("ascii", "backslashreplace").decode()
            print(f"fault: {fault}\n       {self.faults[fault]}", flush=True)

    def report(self) -> str:
        """Return the counts by outcome and the number of faults."""
        counts = [f"{n:7d} ended with {outcome}" for outcome, n in sorted(self.outcomes.items())]
        total = f"{len(self.faults)} distinct faults in {self.done} inputs of seed {self.seed}"
        return "\n".join([*counts, total])


def call(arguments: Sequence[str]) -> tuple[object, str]:
    """Return how a command line ends (exit code, or name of what was raised), and its words."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if arguments[0] == "view" and is_dir(Path(arguments[1])):
                return _viewed(Path(arguments[1]), arguments[2:] or PAGES), said.getvalue()
            main(["--debug", *arguments])
    except SystemExit as end:
        return end.code or 0, said.getvalue()
    except BaseException as error:  # noqa: BLE001 - what is looked for
        import traceback

        return type(error).__name__, said.getvalue() + traceback.format_exc()


def _viewed(results: Path, pages: Sequence[str]) -> int:
    """Ask for pages that `view` serves, which goes on until it is interrupted."""
    from adem_bench.results.view.following import ResultsFolder
    from adem_bench.results.view.site import Site

    site = Site(ResultsFolder(results))
    for page in pages:
        site.answer(page)
    return 0


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep the inputs off the network and the user's own folders, and `demo` off its port."""
    kept = os.environ.copy()
    os.environ.pop("ADEM_BENCH_DATA", None)
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    stand_in = MagicMock()
    sys.modules.setdefault("gradio", stand_in)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= kept
        if sys.modules["gradio"] is stand_in:
            del sys.modules["gradio"]


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Let no input take much more memory than this process has now, or end it by SIGPROF."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES
    kept = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, kept[1]))
    handler = signal.signal(signal.SIGPROF, _too_long)
    try:
        yield
    finally:
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, kept)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {MOST_S} s")


def _fault(ended: object, said: str) -> str:
    """Return what tells a fault from others: the error, and where in the package it came from."""
    frames = FRAME.findall(said)
    where = ":".join(frames[-1]) if frames else "?"
    last = [line for line in said.strip().splitlines() if line.startswith("error: ")]
    kind = last[-1].removeprefix("error: ").split(":")[0] if last else str(ended)
    return f"{kind} at {where}"


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; return 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--n", type=int, default=300, help="inputs, those of earlier calls included"
    )
    parser.add_argument("--seed", type=int, default=0, help="chooses them")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="ends after so many")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="what is kept")
    given = parser.parse_args(arguments)
    campaign = Campaign(given.seed, given.folder.absolute())
    campaign.run(given.n, given.minutes * 60)
    print(campaign.report())
    return int(bool(campaign.faults))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
