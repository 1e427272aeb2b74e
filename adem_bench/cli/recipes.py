"""`adem-bench recipes`: list the training recipes, or explain one field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import HintingGroup, complete, format_option, recipe_set_option, warn

if TYPE_CHECKING:
    from pydantic import BaseModel

    from adem_bench.schemas import RecipeCard


@click.group(cls=HintingGroup, invoke_without_command=True)
@click.pass_context
def recipes(context: click.Context) -> None:
    """List training recipes or show one."""
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@recipes.command("list")
@format_option("table", "json")
def list_command(form: str) -> None:
    """List every recipe card; one that cannot be read is named with the reason."""
    from adem_bench.cards import known_cards, outline_recipe
    from adem_bench.errors import CardError
    from adem_bench.results.console import console, grid

    known, doubled = known_cards("trainers")
    cards, broken = [], [*doubled.values()]
    for name, path in known.items():
        try:
            cards.append((name, outline_recipe(path)))
        except CardError as error:
            broken.append(str(error))
    if form == "json":
        listed = [_listed(name, card) for name, card in cards]
        click.echo(json.dumps({"recipes": listed}, indent=2))
    else:
        header = ("recipe", "title", "data", "model", "epochs")
        grid(console(), header, [_row(*pair) for pair in cards], right=("epochs",))
    warn(broken)


def _row(name: str, card: RecipeCard) -> tuple[str, ...]:
    tasks = ", ".join(f"{source.task} ({source.split})" for source in card.data)
    return (name, card.title, tasks, card.model, str(card.epochs))


def _listed(name: str, card: RecipeCard) -> dict[str, Any]:
    """Return what a program is told of a card."""
    return {
        "name": name,
        "title": card.title,
        "model": card.model,
        "data": [{"task": source.task, "split": source.split} for source in card.data],
        "epochs": card.epochs,
        "card": str(card.path),
    }


@recipes.command("show")
@click.argument("name", shell_complete=complete("trainers"))
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
    from pydantic import BaseModel

    texts = _texts_below_fields(type(model))
    for name, field in type(model).model_fields.items():
        value: Any = getattr(model, name)
        if field.exclude:
            continue
        parts = enumerate(value) if isinstance(value, tuple) else [("", value)]
        nested = [(key, part) for key, part in parts if isinstance(part, BaseModel)]
        if not nested:
            shown = "" if value is None else _shown(value)
            text = field.description or texts.get(name, "")
            yield f"{prefix}{name}", shown, " ".join(text.split())
        for key, part in nested:
            place = f"{prefix}{name}." if key == "" else f"{prefix}{name}.{key}."
            yield from _explained(part, place)


def _texts_below_fields(schema: type[BaseModel]) -> dict[str, str]:
    """Return the text that stands below each field in the source of a class and of its bases."""
    import ast
    import inspect
    import textwrap
    from itertools import pairwise

    from pydantic import BaseModel

    found: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if not issubclass(base, BaseModel):
            continue
        try:
            lines, _ = inspect.getsourcelines(base)
        except (OSError, TypeError):  # made by a function, or of a plug-in without sources
            continue
        (node,) = ast.parse(textwrap.dedent("".join(lines))).body
        assert isinstance(node, ast.ClassDef)
        for field, below in pairwise(node.body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                text = below.value
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found[ast.unparse(field.target)] = text.value
    return found


def _shown(value: Any) -> str:
    """Return a value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)
