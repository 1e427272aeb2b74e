"""`adem-bench models`: list the model cards, show one, fetch its published adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import (
    HintingGroup,
    complete,
    data_root_option,
    format_option,
    model_set_option,
    warn,
)
from adem_bench.errors import in_shell

if TYPE_CHECKING:
    from adem_bench.schemas import ModelCard


@click.group(cls=HintingGroup, invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List models, show one, or fetch its adapters."""
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@models.command("list")
@format_option("table", "json")
def list_command(form: str) -> None:
    """List every model card; one that cannot be read is listed with the reason."""
    import json

    from adem_bench.cards import known_cards, load_model_card
    from adem_bench.errors import CardError
    from adem_bench.registry import MODEL_KINDS
    from adem_bench.results.console import console, grid

    known, doubled = known_cards("models")
    cards, broken = [], [*doubled.values()]
    for name, path in known.items():
        try:
            cards.append((name, load_model_card(str(path))))
        except CardError as error:
            broken.append(str(error))
    kinds = [kind for kind in MODEL_KINDS.table() if not _needs_card(kind)]
    if form == "json":
        listed = [_listed(name, card) for name, card in cards]
        click.echo(json.dumps({"models": listed, "kinds_without_card": kinds}, indent=2))
    else:
        rows = [
            (name, card.title, card.language_model_name, ", ".join(getattr(card, "adapters", ())))
            for name, card in cards
        ]
        grid(console(), ("model", "title", "language model", "adapters for"), rows)
        click.echo(
            "\nWithout a card, KIND:SOURCE (hf:FOLDER, openai:MODEL@URL); kinds: "
            f"{', '.join(kinds)}"
        )
    warn(broken)


def _listed(name: str, card: ModelCard) -> dict[str, Any]:
    """Return what a program is told of a card."""
    return {
        "name": name,
        "title": card.title,
        "kind": card.kind,
        "language_model": card.language_model_name,
        "adapters": list(getattr(card, "adapters", ())),
        "card": str(card.path),
    }


def _needs_card(kind: str) -> bool:
    """Return whether a source alone does not make a model of this kind."""
    from adem_bench.registry import MODEL_CARDS

    if kind not in MODEL_CARDS.table():
        return False
    fields = MODEL_CARDS.load(kind).model_fields
    return any(field.is_required() for name, field in fields.items() if name != "name")


@models.command("show")
@click.argument("name", shell_complete=complete("models"))
@data_root_option
@model_set_option
def show_command(name: str, data_root: Path | None, overrides: tuple[str, ...]) -> None:
    """Show a model's card and which of its files are on disk."""
    import yaml

    from adem_bench.cards import load_model_card
    from adem_bench.errors import printable
    from adem_bench.results.console import console, grid

    card = load_model_card(name, overrides)
    click.echo(f"# {printable(str(card.path or 'no file'))}")
    fields = card.model_dump(mode="json", exclude_unset=True)
    # Escapes in foreign cards are harmless: YAML quotes control characters itself.
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100)
    click.echo(text)
    files = card.named_files(data_root)
    if files:
        grid(console(), ("file", "path", "on disk"), files)


@models.command("check")
@click.argument("name", shell_complete=complete("models"))
@data_root_option
@model_set_option
def check_command(name: str, data_root: Path | None, overrides: tuple[str, ...]) -> None:
    """Say what a model's adapters on disk are: method, tensors, size, digest.

    What its card says of them is compared; of a published file without a digest, method and number
    of values are all that can be.
    """
    from adem_bench.cards import load_model_card
    from adem_bench.errors import CheckpointError
    from adem_bench.registry import MODEL_KINDS
    from adem_bench.results.console import console, grid

    card = load_model_card(name, overrides)
    kind = MODEL_KINDS.load(card.kind)
    rows = kind.inspect(card, data_root) if hasattr(kind, "inspect") else []
    if not rows:
        click.echo(
            f"no adapter of {name} is on disk; `adem-bench models show {in_shell(name)}` names them"
        )
        return
    said = [(path, facts, problem or "yes") for path, facts, problem in rows]
    grid(console(), ("adapter", "is", "as the card says"), said)
    problems = [f"{path}: {problem}" for path, _, problem in rows if problem]
    if problems:
        raise CheckpointError(f"{'; '.join(problems)}; fetch it anew, or name another file")


@models.command("pull")
@click.argument("name", shell_complete=complete("models"))
@data_root_option
@click.option(
    "--insecure", is_flag=True, help="Fetch over plain http what no digest of the card checks."
)
def pull_command(name: str, data_root: Path | None, insecure: bool) -> None:
    """Fetch a model's files.

    Published adapters go into <data root>/weights, models of the Hugging Face hub into its cache.
    """
    from adem_bench.cards import load_model_card
    from adem_bench.errors import DownloadError
    from adem_bench.results.progress import download_progress

    card = load_model_card(name)
    if not insecure and (urls := card.unprotected()):
        raise DownloadError(
            f"{urls[0]} is plain http, and the card knows no sha256 of the file: anyone on the way "
            "could replace it; give an https address or the sha256, or fetch it all the same with "
            "--insecure"
        )
    for line in card.pull(data_root, download_progress):
        click.echo(line)
