"""`adem-bench recipes`: list the training recipes, or explain one field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
from pydantic import BaseModel

from adem_bench.cli.options import HintingGroup, recipe_set_option, warn


@click.group(cls=HintingGroup, invoke_without_command=True)
@click.pass_context
def recipes(context: click.Context) -> None:
    """List training recipes or show one."""
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@recipes.command("list")
def list_command() -> None:
    """List every recipe card; one that cannot be read is named with the reason."""
    from adem_bench.cards import list_cards, outline_recipe
    from adem_bench.errors import CardError
    from adem_bench.results.console import console, grid

    rows, broken = [], []
    for name, path in list_cards("trainers").items():
        try:
            card = outline_recipe(path)
        except CardError as error:
            broken.append(str(error))
            continue
        tasks = ", ".join(f"{source.task} ({source.split})" for source in card.data)
        rows.append((name, card.title, tasks, card.model, str(card.epochs)))
    grid(console(), ("recipe", "title", "data", "model", "epochs"), rows, right=("epochs",))
    warn(broken)


@recipes.command("show")
@click.argument("name")
@recipe_set_option
def show_command(name: str, overrides: tuple[str, ...]) -> None:
    """Explain a recipe: every field, its value and what it does."""
    from adem_bench.cards import load_recipe_card
    from adem_bench.errors import printable
    from adem_bench.results.console import console, grid

    card = load_recipe_card(name, overrides)
    click.echo(f"# {printable(str(card.path))}")
    grid(console(), ("field", "value", "what it is"), list(_explained(card, "")))


def _explained(model: BaseModel, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yield dotted name, value and explanation of every field, nested ones included."""
    for name, field in type(model).model_fields.items():
        value: Any = getattr(model, name)
        if name == "path":
            continue
        parts = enumerate(value) if isinstance(value, tuple) else [("", value)]
        nested = [(key, part) for key, part in parts if isinstance(part, BaseModel)]
        if not nested:
            shown = "" if value is None else _shown(value)
            yield f"{prefix}{name}", shown, " ".join((field.description or "").split())
        for key, part in nested:
            place = f"{prefix}{name}." if key == "" else f"{prefix}{name}.{key}."
            yield from _explained(part, place)


def _shown(value: Any) -> str:
    """Return a value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)
