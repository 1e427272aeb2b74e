"""Odd values for the options of every verb, in command lines that are good without them.

None leads out of the campaign's folder, starts processes or servers, or trains for long.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import click
from fuzz_world import TEXTS, VALUES, World

from adem_bench.cli import VERBS, group

OWN = (
    *("9" * 5000, "-1", "+1", "1_000", "1e5", "1e999", "-0", "\u0661\u0662", "\u00b2", "0x1"),
    *("1/0", "0/1", "2/1", "1/" + "9" * 40, "/", "=", "a=", "=b", "a=b=c", "a.b.c=1", ".=1"),
    *(",", ",,", "A,,B", "a,a", "*", "?", "[", "[!", "**/*", "*" * 200, "mini_*", "none", "auto"),
    *("0", "1", "2", "cuda:999", "cpu:x", "bfloat16", "html,html", "x.csv", "x.json", "x.html"),
)
ODD = tuple(
    value
    for value in dict.fromkeys((*map(str, (*VALUES, *TEXTS)), *OWN))
    if not value.startswith(("/", "~")) and ".." not in value.split("=")[0].split("/")
)
SET = {
    "tasks show": "title split headline columns expected options kind options.check_md5 group",
    "models show": "title kind fusion fusion.alpha fusion.scales language vision options adapters",
    "recipes show": "title epochs data data.0 data.0.limit workers batch_size method model",
    "run": "headline columns expected options options.check_md5 model.title task.title",
}
"""Fields that `--set` is tried with, of verbs whose cards have some."""
SKIPPED = ("--harness-python", "--port")
"""Options whose value is started, or listened at."""
UNTRIED = ("view", "demo", "data fetch", "data mini")
"""Verbs that serve until they are ended, fetch, or write where they are told to."""


class OddOptions:
    """Draws command lines in which an option has an odd value."""

    def __init__(self, world: World) -> None:
        """Collect the options of every verb, and a command line of each that ends well."""
        self._options = list(_options())
        self._commands = _good_commands(world)

    def draw(self, draw: random.Random) -> list[str]:
        """Return a command line."""
        verb, option = draw.choice(self._options)
        value = draw.choice(ODD)
        if option.name == "overrides" and verb in SET and draw.random() < 0.8:
            value = f"{draw.choice(SET[verb].split())}={value}"
        if isinstance(option.type, click.Path):
            value = f"new/{value}"
        return [*self._commands[verb], option.opts[-1], value]


def _options() -> Iterator[tuple[str, click.Option]]:
    """Yield each option that takes a value, after the name of its verb."""
    for verb in VERBS:
        command = _command(verb)
        inner = command.commands if isinstance(command, click.Group) else {"": command}
        for name, one in inner.items():
            whole = f"{verb} {name}".strip()
            for option in one.params if whole not in UNTRIED else ():
                is_tried = isinstance(option, click.Option) and not option.is_flag
                if is_tried and not set(SKIPPED) & set(option.opts):
                    yield whole, option


def _command(verb: str) -> click.Command:
    found = group.get_command(click.Context(group), verb)
    if found is None:
        raise LookupError(verb)
    return found


def _good_commands(world: World) -> dict[str, list[str]]:
    """Return a command line of each verb that ends well in the world, by the verb's name."""
    scores = [list(one.command) for one in world.readings if one.command[0] == "score"]
    # Of baselines, which follow the model's: they cost least.
    *_, run, other = sorted({words[1] for words in scores if "/mini_mme/" in words[1]})
    from_file = next(words for words in scores if "--predictions" in words)
    lines = (
        "run --model majority --tasks choice.yaml --data-root data --results new",
        "train --recipe small.yaml --data-root mini --log-to none --output new/o",
        *("leaderboard runs", f"compare {run} {other} --force"),
        *(f"report {run} --output new/page.html", f"validate {run} --data-root mini"),
        *(f"rerun {run} --data-root mini --results new", "ask --model constant:a hello"),
        *(f"models {verb} models/adem-tiny.yaml" for verb in ("show", "check", "pull")),
        *("models list", "tasks list", "tasks show mini_mme", "recipes list"),
        *("recipes show small.yaml", "convert adapter models/adem-tiny/adapter new/o.pth"),
        "convert llama llama/consolidated new/o",
        *(f"data {verb} mini_mme --data-root mini" for verb in ("status", "verify")),
    )
    found = {"score": [*from_file, "--results", "new"]}
    for words in map(str.split, lines):
        has_verbs = isinstance(_command(words[0]), click.Group)
        found[" ".join(words[: 1 + has_verbs])] = words
    return found
