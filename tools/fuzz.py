"""Feeds damaged and hostile input to every reader and verb, and counts how each ends.

    python tools/fuzz.py --n 20000 --seed 1

One input is one file of a small world (a card, a run folder, data, predictions, an adapter), one
value of it edited or the bytes damaged, given to a verb; or a name or a setting on its command
line. All happens in this process. Exit codes 0 to 3 are fine; 70, an exception and 60 seconds are
faults, of which each distinct one is printed once, with the number of the input that showed it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adem_bench.cards import packaged_folder
from adem_bench.cli import main

MOST_S = 60
FINE = (0, 1, 2, 3)
FRAME = re.compile(r'File "[^"]*?(adem_bench/[^"]+)", line (\d+), in (\S+)')
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("inf")),
    *(float("nan"), "", " ", "\0", "\n", "\ud800", "\x1b[31m", "a" * 300, "é" * 200, "../../x"),
    *("/dev/zero", "C:\\x", "~", "~nobody/x", "=1+1", "<script>", "2001-99-99", "0x_", "nan"),
    *([], {}, [[]], [None], {"": ""}, [1e999], ["a"], {"a": 1}, "yes", "A", [[[[[]]]]]),
)
TEXTS = (
    *("", "null", "[]", "{}", "0", '"x"', "[" * 3000, '{"a":' * 3000, "a: [" * 100, "- " * 500),
    *(
        "\ufeff{}",
        "\0",
        "\xff\xfe",
        "a: &a [*a]",
        "!!int x",
        "!!timestamp x",
        "%YAML 9",
        "---\n---",
    ),
    *("x\ty\n", '"', "'", "\r", "a,b\n1", "<html>", "version https://git-lfs.github.com/spec/v1\n"),
)
TSV = "index\tquestion\tA\tB\tanswer\timage_path\tcategory\n" + "".join(
    f"{n}\tWhich {n}?\tone\ttwo\t{'AB'[n % 2]}\ta.png\tx\n" for n in range(4)
)
ROWS = "".join(
    json.dumps({"id": n, "image": "a.png", "question": f"Is it {n}?", "answer": "yes"}) + "\n"
    for n in range(4)
)


@dataclass
class World:
    """Files that are as they should be, and which verbs read each."""

    root: Path
    readers: list[tuple[str, Sequence[str]]] = field(default_factory=list)
    """A file below `root`, and a command that reads it."""

    def add(self, file: str, *commands: str) -> None:
        """Note the commands that read a file."""
        self.readers += [(file, command.split()) for command in commands]


def make_world(root: Path) -> World:
    """Write the files and return what reads them."""
    from PIL import Image

    world = World(root)
    data = root / "data"
    data.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(data / "a.png")
    (data / "choice.tsv").write_text(TSV)
    (data / "rows.jsonl").write_text(ROWS)
    (root / "choice.yaml").write_text("kind: tsv_choice\nsplit: test\nheadline: accuracy\n")
    fields = "{question: question, answer: answer, image: image}"
    (root / "rows.yaml").write_text(
        f"kind: jsonl\nsplit: test\nheadline: accuracy\noptions:\n  file: rows.jsonl\n"
        f"  fields: {fields}\n  metric: yes_no\n"
    )
    for kind, name in (("tasks", "mini_mme"), ("models", "adem-tiny"), ("trainers", "mini")):
        (root / kind).mkdir()
        shutil.copy(packaged_folder(kind) / f"{name}.yaml", root / kind)  # type: ignore[arg-type]
    shutil.copytree(packaged_folder("models") / "adem-tiny", root / "models" / "adem-tiny")
    for model, task in (
        ("constant:Yes", "mini_mme"),
        ("random", "mini_mme"),
        ("random", "mini_sqa"),
    ):
        name = f"runs/{model[:3]}_{task}"
        call(["run", "--model", model, "--tasks", task, "--limit", "6", "--results", name])
    for run in sorted(str(path.parent) for path in Path("runs").rglob("manifest.json")):
        for file in ("manifest.json", "metrics.json", "samples.jsonl"):
            others = " ".join(str(p.parent) for p in Path("runs").rglob("manifest.json"))
            world.add(
                f"{run}/{file}",
                *("leaderboard runs", "leaderboard runs --all-metrics --format json"),
                *(f"compare {others.replace(run, '')} {run} --force", f"validate {run}"),
                *("report runs --output page.html", f"score {run}"),
            )
    world.add("tasks/mini_mme.yaml", "tasks show tasks/mini_mme.yaml", "tasks --include .")
    world.add("models/adem-tiny.yaml", "models show models/adem-tiny.yaml", "models --include .")
    world.add("trainers/mini.yaml", "recipes show trainers/mini.yaml", "recipes --include .")
    world.add("models/adem-tiny/adapter/adapter.json", "convert adapter models/adem-tiny/adapter o")
    world.add(
        "models/adem-tiny/adapter/adapter.safetensors",
        "convert adapter models/adem-tiny/adapter o",
    )
    for part in ("language/config.json", "vision.safetensors", "language/tokenizer.model"):
        world.add(f"models/adem-tiny/{part}", "ask --model models/adem-tiny.yaml hello")
    for name in ("choice", "rows"):
        where = f"--tasks {name}.yaml --data-root data"
        data_file = "data/choice.tsv" if name == "choice" else "data/rows.jsonl"
        run = f"run --model majority {where} --results new"
        world.add(f"{name}.yaml", run, f"tasks show {name}.yaml")
        world.add(data_file, run, f"data verify {name}.yaml --data-root data")
    (root / "said.jsonl").write_text('{"question_id": "0", "prediction": "A"}\n')
    (root / "said.json").write_text('{"0": "A", "1": "B"}')
    for said in ("said.jsonl", "said.json"):
        world.add(said, f"score --task choice.yaml --data-root data --predictions {said}")
    return world


def call(arguments: Sequence[str]) -> tuple[object, str]:
    """Return how a command line ends (exit code, or name of what was raised), and its words."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main(["--debug", *arguments])
    except SystemExit as end:
        return end.code or 0, said.getvalue()
    except BaseException as error:  # noqa: BLE001 - what is looked for
        import traceback

        return type(error).__name__, said.getvalue() + traceback.format_exc()


def edited(raw: bytes, draw: random.Random) -> bytes:
    """Return a file's content with one value or some bytes changed."""
    kind = draw.randrange(8)
    if kind == 0:
        return draw.choice(TEXTS).encode("utf-8", "surrogatepass")
    if kind == 1:
        return raw[: draw.randrange(len(raw) + 1)]
    if kind == 2 and raw:
        place = draw.randrange(len(raw))
        return raw[:place] + bytes([draw.randrange(256)]) + raw[place + 1 :]
    if kind == 3:
        place = draw.randrange(len(raw) + 1)
        token = draw.choice((*TEXTS, *(str(value) for value in VALUES)))
        return raw[:place] + token.encode("utf-8", "surrogatepass") + raw[place:]
    return _with_a_value(raw, draw)


def _with_a_value(raw: bytes, draw: random.Random) -> bytes:
    """Return JSON, one line of JSON, YAML or a table with one value replaced."""
    value = draw.choice(VALUES)
    text = raw.decode("utf-8", "replace")
    lines = text.splitlines(keepends=True)
    try:
        whole = json.loads(text)
        return json.dumps(_replaced(whole, value, draw)).encode()
    except ValueError:
        pass
    if not lines:
        return b""
    place = draw.randrange(len(lines))
    line = lines[place]
    try:
        lines[place] = json.dumps(_replaced(json.loads(line), value, draw)) + "\n"
    except ValueError:
        shown = json.dumps(value) if draw.random() < 0.5 else str(value)
        for mark in ("\t", ": ", ","):
            cells = line.rstrip("\n").split(mark)
            if len(cells) > 1:
                cells[draw.randrange(len(cells))] = shown
                lines[place] = mark.join(cells) + "\n"
                break
    return "".join(lines).encode("utf-8", "surrogatepass")


def _replaced(value: Any, new: Any, draw: random.Random) -> Any:
    """Return JSON data with a part of it, at any depth, replaced, doubled or left out."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.1:
        return new
    found = dict(value) if isinstance(value, dict) else list(value)
    key: Any = draw.choice(list(found)) if isinstance(found, dict) else draw.randrange(len(found))
    if draw.random() < 0.1:
        del found[key]
    elif draw.random() < 0.05 and isinstance(found, dict):
        found[str(new)] = found[key]
    else:
        found[key] = _replaced(found[key], new, draw)
    return found


NAMED: tuple[Callable[[str], list[str]], ...] = (
    lambda text: ["tasks", "show", text],
    lambda text: ["models", "show", text],
    lambda text: ["models", "check", text],
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
    lambda text: ["data", "status", text],
    lambda text: ["run", "--model", f"constant:{text}", "--tasks", "rows.yaml", "--data-root",
                  "data", "--results", "new"],
    lambda text: ["run", "--model", "majority", "--tasks", text, "--results", "new"],
    lambda text: ["score", "--task", "choice.yaml", "--data-root", "data", "--predictions", text],
)  # fmt: skip


def fuzz(
    number: int, seed: int, first: int = 0, most_s: float = float("inf")
) -> tuple[Counter[str], dict[str, str]]:
    """Return the counts of outcomes, and the first input of every distinct fault.

    Args:
        number: Of inputs.
        seed: Chooses them; each input has a stream of its own.
        first: Number of the first one.
        most_s: Seconds after which no further input is begun.
    """
    deadline = time.monotonic() + most_s
    outcomes: Counter[str] = Counter()
    faults: dict[str, str] = {}
    signal.signal(signal.SIGPROF, _too_long)
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        world = make_world(Path(name))
        for index in range(first, first + number):
            if time.monotonic() > deadline:
                break
            draw = random.Random(f"{seed}/{index}")
            file, before = None, b""
            if draw.random() < 0.2:
                text = str(draw.choice((*VALUES, *TEXTS))) + draw.choice(("", "x", ".yaml"))
                arguments = draw.choice(NAMED)(text)
            else:
                place, command = draw.choice(world.readers)
                file, arguments = world.root / place, list(command)
                before = file.read_bytes()
                file.write_bytes(edited(before, draw))
            signal.setitimer(signal.ITIMER_PROF, MOST_S)  # of the processor's time
            ended, said = call(arguments)
            signal.setitimer(signal.ITIMER_PROF, 0)
            shutil.rmtree(world.root / "new", ignore_errors=True)
            outcomes[str(ended)] += 1
            if ended not in FINE:
                # Of the input, for whoever mends it.
                kept = file.read_bytes()[:80] if file else b""
                fault, example = _fault(ended, said), f"{index}: {arguments} {kept!r}"[:300]
                if fault not in faults:
                    faults[fault] = example.encode("ascii", "backslashreplace").decode()
                    print(f"fault: {fault}\n       {faults[fault]}", flush=True)
            if file:
                file.write_bytes(before)
    return outcomes, faults


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
    parser.add_argument("--n", type=int, default=300, help="inputs")
    parser.add_argument("--seed", type=int, default=0, help="chooses them")
    parser.add_argument("--first", type=int, default=0, help="number of the first, to go on")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="ends after so many")
    given = parser.parse_args(arguments)
    os.environ.pop("ADEM_BENCH_DATA", None)
    outcomes, faults = fuzz(given.n, given.seed, given.first, given.minutes * 60)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:7d} ended with {outcome}")
    print(f"{len(faults)} distinct faults in {outcomes.total()} inputs of seed {given.seed}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
