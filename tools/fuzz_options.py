"""Odd values for the options of every verb, and for the fields of cards.

Their command lines are good without them. None leads out of the campaign's folder, starts processes
or servers, or trains for long.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import get_args, get_origin

import click
from fuzz_world import TEXTS, VALUES, World
from pydantic import BaseModel

from adem_bench.cli import VERBS, group
from adem_bench.models.fused.card import FusedCard
from adem_bench.registry import METHODS
from adem_bench.schemas import RecipeCard, TaskCard
from adem_bench.tasks.mme.task import MmeOptions

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
OF_FIELDS = (
    *(*ODD, "/dev/zero", "/dev/null", "~nobody/x", "4", "64", "1e30", "1e-30", "fix", "tower"),
    *("float16", "eager", "int8-cpu", "[64, 16]", "[q_proj]", "caption", "fused", "hf", "echo"),
    *("{kind: adem}", "{kind: lavin}", "{kind: memvp}", "{kind: llava}", "{default: {path: a}}"),
)
"""What fields of cards are set to, some of which they take."""
FIELDS = 0.4
"""Share of command lines that set a field of a card; the others have an odd option."""
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
        self._fields = _fields_of_cards()

    def draw(self, draw: random.Random) -> list[str]:
        """Return a command line."""
        if draw.random() < FIELDS:
            verb = draw.choice(list(self._fields))
            setting = f"{draw.choice(self._fields[verb])}={draw.choice(OF_FIELDS)}"
            return [*self._commands[verb], "--set", setting]
        verb, option = draw.choice(self._options)
        value = draw.choice(ODD)
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


def _fields_of_cards() -> dict[str, list[str]]:
    """Return the dotted fields that `--set` may name, by the verb whose card has them."""
    methods = [METHODS.load(name).settings for name in METHODS.table()]
    task = [*_dotted(TaskCard), *_dotted(MmeOptions, "options")]
    model = [*_dotted(FusedCard), *(name for one in methods for name in _dotted(one, "fusion"))]
    recipe = [*_dotted(RecipeCard), *(name for one in methods for name in _dotted(one, "method"))]
    recipe.remove("epochs")  # which trains for as long as it is told to
    run = [*_dotted(TaskCard, "task"), *(f"model.{name}" for name in ("title", "options"))]
    return {
        **{"tasks show": task, "models show": model, "recipes show": recipe},
        **{"run": run, "train": recipe, "ask": model},
    }


def _dotted(card: type[BaseModel], *above: str) -> Iterator[str]:
    """Yield the fields of a card, and of what lies in it, under `above`."""
    for name, field in card.model_fields.items():
        yield ".".join([*above, name])
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                of = {tuple: ["0"], dict: ["default"]}.get(get_origin(field.annotation), [])
                yield from _dotted(kind, *above, name, *of)


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
        f"rerun {run} --data-root mini --results new",
        "ask --model models/adem-tiny.yaml --max-new-tokens 2 hello",
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
