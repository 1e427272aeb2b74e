"""Kills `run` and `train` again and again, and checks what is left each time.

    python tools/kill.py --run 1000 --train 40 --folder build/kills

Commands run in processes forked from this one, which has imported everything, and are ended by
SIGKILL after a random time. After each kill no figure may stand next to records that it was not
made of; every few kills the command is let through, and its run must be valid, without temporaries,
and hold the records of an undisturbed run. A training that was killed must end in the same adapter,
byte for byte. What was done is kept in the folder: the same command goes on. One distinct fault is
printed once.
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
from pathlib import Path
from typing import Any

import adem_bench.api  # noqa: F401 - forked processes begin with everything imported
from adem_bench.cli import main
from adem_bench.files import TEMPORARY, read_json, sha256, write_json
from adem_bench.results.run_folder import RunFolder
from adem_bench.results.runs import finished_runs
from adem_bench.results.validation.validate import validate_run

STATE = "state.json"
BETWEEN = 4
"""Kills on average before a command is let through."""
RUN = ("run", "--model", "majority", "--tasks", "mini_mme", "--batch-size", "4", "--results")
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


def forked(arguments: Sequence[str]) -> int:
    """Start a command in a process of its own; return its number."""
    process = os.fork()
    if process:
        return process
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(arguments)
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(1)


def ended(process: int, after: float | None) -> int | None:
    """Kill a process after some seconds, or wait for it; return its exit code, None if killed."""
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None


def let_through(arguments: Sequence[str]) -> float:
    """Run a command undisturbed; return its seconds."""
    began = time.monotonic()
    code = ended(forked(arguments), None)
    if code != 0:
        sys.exit(f"`adem-bench {' '.join(arguments)}` ends with {code} undisturbed")
    return time.monotonic() - began


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
    command = (*RUN, str(killed), "--no-reuse")
    seconds = let_through((*RUN, str(alone), "--no-reuse"))
    (reference,) = (run.folder for run in finished_runs(alone)[0])
    wanted = (reference / "samples.jsonl").read_bytes()
    while campaign.counts["run kills"] < number:
        anew = ("--fresh",) if draw.random() < 0.3 else ()
        code = ended(forked((*command, *anew)), draw.uniform(0, 1.2 * seconds))
        campaign.counts["run kills" if code is None else f"run ended with {code}"] += 1
        check_figures(campaign, killed) if killed.exists() else None
        if draw.random() < 1 / BETWEEN:
            code = ended(forked(command), None)
            campaign.counts["runs let through"] += 1
            if code != 0:
                campaign.fault(f"a resumed run ends with {code}")
                continue
            (run,) = (run.folder for run in finished_runs(killed)[0])
            for issue in validate_run(run).issues:
                campaign.fault(f"invalid: {issue.file.name}: {issue.text}")
            if (run / "samples.jsonl").read_bytes() != wanted:
                campaign.fault("records differ from those of an undisturbed run")
            if any(TEMPORARY.fullmatch(path.name) for path in run.rglob("*")):
                campaign.fault("temporaries are left")
        campaign.save()


def kill_trainings(campaign: Campaign, number: int, draw: random.Random) -> None:
    """Kill `train` until so many kills are counted; arguments as for `kill_runs`."""
    recipe = campaign.folder / "small.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    command = ("train", "--recipe", str(recipe), "--log-to", "none", "--output")
    alone, killed = campaign.folder / "trained", campaign.folder / "training"
    seconds = let_through((*command, str(alone), "--overwrite"))
    wanted = sha256(alone / "adapter" / "adapter.safetensors")
    while campaign.counts["train kills"] < number:
        code = ended(forked((*command, str(killed))), draw.uniform(0, 1.1 * seconds))
        campaign.counts["train kills" if code is None else f"train ended with {code}"] += 1
        if draw.random() < 1 / BETWEEN:
            code = ended(forked((*command, str(killed))), None)
            campaign.counts["trainings let through"] += 1
            if code != 0:
                campaign.fault(f"a resumed training ends with {code}")
            elif sha256(killed / "adapter" / "adapter.safetensors") != wanted:
                campaign.fault("the adapter differs from that of an undisturbed training")
            shutil.rmtree(killed, ignore_errors=True)
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
