"""Kills `run` and `train` again and again, and checks what is left each time.

    python tools/kill.py --run 1000 --train 40 --folder build/kills

Commands run in processes forked from this one, which has imported what they need. They end at a
random time, or before a call into the file system, whose stage of the command is drawn first: short
stages are hit as often as long ones. After each kill no figure may stand next to records that it
was not made of; every few kills the command is let through, and its run must be valid, without
temporaries, and hold the records of an undisturbed run. A training that was killed must end in the
same adapter, byte for byte. What was done, and where the kills landed, is kept in the folder: the
same command goes on. One distinct fault is printed once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adem_bench.cli import main
from adem_bench.files import TEMPORARY, read_json, sha256, write_json
from adem_bench.results.run_folder import RunFolder
from adem_bench.results.runs import finished_runs
from adem_bench.results.validation.validate import validate_run

STATE = "state.json"
BETWEEN = 4
"""Kills on average before a command is let through."""
ANEW, FRESH = 0.5, 0.15
"""Shares of the kills before which the folder is emptied, or `--fresh` is to do so."""
CALLS = {
    *("open", "write", "flush", "fsync", "close", "__exit__"),
    *("replace", "unlink", "mkdir", "rmdir", "chmod"),
}
FILES = (io.FileIO, io.BufferedWriter, io.BufferedReader, io.TextIOWrapper)
RUN = (
    *("run", "--model", "majority", "--tasks", "mini_mme", "--limit", "80", "--batch-size", "1"),
    "--results",
)
RECIPE = (
    "model: adem-tiny\ndata: [{task: mini_sqa, split: test, limit: 32, max_sequence_length: 96}]\n"
    "epochs: 1\neffective_batch: 4\nbatch_size: 4\nbase_learning_rate: 0.01\nworkers: 0\n"
    "checkpoint_steps: 1\nmethod: {scales: [64, 16], hidden_proj: 16, adapter_dim: 4}\n"
)


class Campaign:
    """Counts and faults of all kills so far, on disk."""

    def __init__(self, folder: Path) -> None:
        """Take up what an earlier call left."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / STATE
        found: Any = read_json(file) if file.exists() else {"counts": {}, "faults": []}
        self.counts: Counter[str] = Counter(found["counts"])
        self.faults: list[str] = found["faults"]

    def save(self) -> None:
        """Keep what is known."""
        write_json(self.folder / STATE, {"counts": dict(self.counts), "faults": self.faults})

    def fault(self, text: str) -> None:
        """Note a fault; print it if it is new."""
        self.counts["faults"] += 1
        if text not in self.faults:
            self.faults.append(text)
            print(f"fault: {text}", flush=True)


@dataclass
class Command:
    """What is killed, and how one that nothing disturbed went."""

    arguments: Sequence[str]
    stage: Callable[[], str]
    """Tells how far it has come, by what is on disk."""
    calls: dict[str, int] = field(default_factory=dict)
    """How often it called the file system, by stage."""
    seconds: float = 0.0
    """Of the processor's time."""

    def undisturbed(self, counts: Path) -> None:
        """Run it and learn `calls` and `seconds`.

        Args:
            counts: File in which the process leaves what it counted.
        """
        found: Counter[str] = Counter()

        def count() -> None:
            found[self.stage()] += 1

        def keep() -> None:
            write_json(counts, {"calls": found, "seconds": time.process_time()})

        if (code := ended(forked(self.arguments, count, at_end=keep))) != 0:
            sys.exit(f"`adem-bench {' '.join(self.arguments)}` ends with {code} undisturbed")
        known = read_json(counts)
        self.calls, self.seconds = known["calls"], known["seconds"]

    def killed(self, draw: random.Random, *options: str) -> str | int:
        """Start it and kill it; return in which stage that was, or how it ended before.

        Args:
            draw: Chooses when.
            options: Further ones.
        """
        given = (*self.arguments, *options)
        if draw.random() < 0.5:
            process = forked(given, after=draw.uniform(0, self.seconds))
        else:
            stage = draw.choice(sorted(self.calls))
            left = draw.randint(1, self.calls[stage])

            def count() -> None:
                nonlocal left
                left -= self.stage() == stage
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            process = forked(given, count)
        code = ended(process)
        return self.stage() if code is None else code


def forked(
    arguments: Sequence[str],
    before_call: Callable[[], None] | None = None,
    after: float = 0.0,
    at_end: Callable[[], None] = lambda: None,
) -> int:
    """Start a command in a process of its own; return its number.

    Args:
        arguments: The command line.
        before_call: Called before each call into the file system.
        after: Seconds of the processor's time after which the system ends it; 0 for never.
        at_end: Called after the command.
    """
    process = os.fork()
    if process:
        return process
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends a process as SIGKILL does
    signal.setitimer(signal.ITIMER_PROF, after)

    def watch(_: object, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ in CALLS:
            owner = called.__self__
            if isinstance(owner, FILES) or getattr(owner, "__name__", "") in ("posix", "_io"):
                before_call() if before_call else None

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            sys.setprofile(watch if before_call else None)
            main(arguments)
        except SystemExit as end:
            sys.setprofile(None)
            at_end()
            os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(1)


def ended(process: int) -> int | None:
    """Wait for a process; return its exit code, None if it was killed."""
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None


def run_stage(run: Path, whole: Path) -> str:
    """Tell how far a run has come.

    Args:
        run: Its folder.
        whole: That of the same run undisturbed.
    """
    records = run / "samples.jsonl"
    if not records.exists():
        return "start"
    if not (run / "metrics.json").exists():
        left = (whole / records.name).stat().st_size - records.stat().st_size
        return "records" if left > 0 else "scores"
    if not (run / "manifest.json").exists():
        return "metrics"
    exported = {file.name for file in run.glob("eval_tool/*")}
    return "end" if exported >= {file.name for file in whole.glob("eval_tool/*")} else "export"


def train_stage(output: Path) -> str:
    """Tell how far a training has come."""
    if (output / "adapter" / "adapter.safetensors").exists():
        return "end"
    return "steps" if (output / "checkpoints").exists() else "start"


def check_figures(campaign: Campaign, root: Path) -> None:
    """Check that what a leaderboard shows belongs to the records next to it."""
    for run in finished_runs(root)[0]:
        if len(RunFolder(run.folder).records()) != run.result.scored + run.result.failed:
            campaign.fault("a leaderboard shows figures of other records")


def kill_runs(campaign: Campaign, number: int, draw: random.Random) -> None:
    """Kill `run` until so many kills are counted.

    Args:
        campaign: Is added to.
        number: Of kills, those of earlier calls included.
        draw: Chooses when, and whether a run begins anew.
    """
    alone, killed = campaign.folder / "alone", campaign.folder / "killed"
    shutil.rmtree(alone, ignore_errors=True)
    # In this process: those that are forked from it need import nothing.
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main((*RUN, str(alone)))
    (whole,) = (run.folder for run in finished_runs(alone)[0])
    place = killed / whole.relative_to(alone)
    command = Command((*RUN, str(killed)), lambda: run_stage(place, whole))
    shutil.rmtree(killed, ignore_errors=True)
    command.undisturbed(campaign.folder / "calls.json")
    while campaign.counts["run kills"] < number:
        chosen = draw.random()
        if chosen < ANEW:
            shutil.rmtree(killed, ignore_errors=True)
        options = ("--fresh",) if chosen > 1 - FRESH else ()
        options = ("--fresh",) if chosen > 1 - FRESH else ()
        found: str | int | None = command.killed(draw, *options)
        if isinstance(found, str):
            campaign.counts["run kills"] += 1
            campaign.counts[f"run kills: {found}"] += 1
            check_figures(campaign, killed) if killed.exists() else None
        if isinstance(found, str) and draw.random() < 1 / BETWEEN:
            found = ended(forked(command.arguments))
        if found == 0:
            campaign.counts["runs let through"] += 1
            check_run(campaign, place, whole)
        if isinstance(found, int) and found != 0:
            campaign.fault(f"a run ends with {found}")
        campaign.save()


def check_run(campaign: Campaign, run: Path, whole: Path) -> None:
    """Check a run that was let through.

    Args:
        campaign: Is told what is wrong.
        run: Its folder.
        whole: That of the same run undisturbed.
    """
    for issue in validate_run(run).issues:
        campaign.fault(f"invalid: {issue.file.name}: {issue.text}")
    if sha256(run / "samples.jsonl") != sha256(whole / "samples.jsonl"):
        campaign.fault("records differ from those of an undisturbed run")
    if any(TEMPORARY.fullmatch(path.name) for path in run.rglob("*")):
        campaign.fault("temporaries are left")
    if run_stage(run, whole) != "end":
        campaign.fault("the export is not whole")


def kill_trainings(campaign: Campaign, number: int, draw: random.Random) -> None:
    """Kill `train` until so many kills are counted; arguments as for `kill_runs`."""
    import adem_bench.trainers.train  # noqa: F401 - the forked processes need import little

    recipe = campaign.folder / "small.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    output = campaign.folder / "training"
    command = Command(
        ("train", "--recipe", str(recipe), "--log-to", "none", "--output", str(output)),
        lambda: train_stage(output),
    )
    adapter = output / "adapter" / "adapter.safetensors"
    shutil.rmtree(output, ignore_errors=True)
    command.undisturbed(campaign.folder / "calls.json")
    wanted = sha256(adapter)
    shutil.rmtree(output)
    while campaign.counts["train kills"] < number:
        found: str | int | None = command.killed(draw)
        if isinstance(found, str):
            campaign.counts["train kills"] += 1
            campaign.counts[f"train kills: {found}"] += 1
        if isinstance(found, str) and draw.random() < 1 / BETWEEN:
            found = ended(forked(command.arguments))
        if found == 0:
            campaign.counts["trainings let through"] += 1
            if sha256(adapter) != wanted:
                campaign.fault("the adapter differs from that of an undisturbed training")
            shutil.rmtree(output)
        if isinstance(found, int) and found != 0:
            campaign.fault(f"a training ends with {found}")
        campaign.save()


def campaign(arguments: Sequence[str]) -> int:
    """Do what the command line says; return 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=int, default=0, help="kills of `run`")
    parser.add_argument("--train", type=int, default=0, help="kills of `train`")
    parser.add_argument("--seed", type=int, default=0, help="chooses when")
    parser.add_argument("--folder", type=Path, default=Path("build/kills"), help="what is kept")
    given = parser.parse_args(arguments)
    found = Campaign(given.folder)
    draw = random.Random(f"{given.seed}/{sum(found.counts.values())}")
    parts: tuple[tuple[int, Callable[[Campaign, int, random.Random], None]], ...] = (
        (given.run, kill_runs),
        (given.train, kill_trainings),
    )
    for number, kill in parts:
        if number:
            kill(found, number, draw)
    for outcome, count in sorted(found.counts.items()):
        print(f"{count:7d} {outcome}")
    return int(bool(found.faults))


if __name__ == "__main__":
    sys.exit(campaign(sys.argv[1:]))
