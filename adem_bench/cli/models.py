"""`adem-bench models`: list the model cards, show one, fetch its published adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adem_bench.cli.options import HintingGroup, data_root_option, set_option, warn

if TYPE_CHECKING:
    from adem_bench.schemas import ModelCard

ADEM, HF = "adem", "hf"


@click.group(cls=HintingGroup, invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List models, show one, or fetch its adapters."""
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@models.command("list")
def list_command() -> None:
    """List every model card; one that cannot be read is listed with the reason."""
    from adem_bench.cards import list_cards, load_model_card
    from adem_bench.errors import CardError
    from adem_bench.registry import MODEL_KINDS
    from adem_bench.results.table import console, grid

    rows, broken = [], []
    for name, path in list_cards("models").items():
        try:
            card = load_model_card(str(path))
        except CardError as error:
            broken.append(str(error))
            continue
        adapters = ", ".join(card.adapters)
        rows.append((name, card.title, card.language_model_name, adapters))
    grid(console(), ("model", "title", "language model", "adapters for"), rows)
    kinds = ", ".join(kind for kind in MODEL_KINDS.table() if kind != "adem")
    click.echo(f"\nWithout a card, KIND:SOURCE (hf:FOLDER, openai:MODEL@URL); kinds: {kinds}")
    warn(broken)


@models.command("show")
@click.argument("name")
@data_root_option
@set_option
def show_command(name: str, data_root: Path | None, overrides: tuple[str, ...]) -> None:
    """Show a model's card and which of its files are on disk."""
    import yaml

    from adem_bench.cards import load_model_card
    from adem_bench.errors import printable
    from adem_bench.results.table import console, grid

    card = load_model_card(name, overrides)
    click.echo(f"# {printable(str(card.path or 'no file'))}")
    # Most fields are ADEM-VL's; of another kind those that are set say all.
    fields = card.model_dump(mode="json", exclude_unset=card.kind != ADEM)
    # Escapes in foreign cards are harmless: YAML quotes control characters itself.
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100)
    click.echo(text)
    files = _files(card, data_root)
    if files:
        grid(console(), ("file", "path", "on disk"), files)


@models.command("pull")
@click.argument("name")
@data_root_option
def pull_command(name: str, data_root: Path | None) -> None:
    """Fetch a model's files.

    Published adapters go into <data root>/weights, models of the Hugging Face hub into its cache.
    """
    from adem_bench.cards import load_model_card
    from adem_bench.cli.progress import download_progress
    from adem_bench.data.downloading import fetch
    from adem_bench.errors import DownloadError
    from adem_bench.models.weights import downloads, missing_message, weights_path

    card = load_model_card(name)
    if card.kind != ADEM:
        click.echo(_pulled(card, data_root))
        return
    wanted = downloads(card, data_root)
    failures = []
    for name, download in wanted.items():
        beside = weights_path(name, card, data_root)
        if beside is not None and beside != download.target:
            click.echo(f"{beside}: already there")
            continue
        try:
            with download_progress(download.target.name) as progress:
                outcome = fetch(download, progress)
            click.echo(f"{download.target}: {outcome}")
        except DownloadError as error:
            failures.append(str(error))
    if not wanted:
        click.echo(f"model {card.name} names no adapter with a URL: nothing to fetch")
    path = card.language_model.path
    if not card.language_model.hub and weights_path(path, card, data_root) is None:
        click.echo(f"still needed: {missing_message(path, card, data_root)}")
    if failures:
        raise DownloadError("; ".join(failures))


def _pulled(card: ModelCard, data_root: Path | None) -> str:
    """Fetch the files of a model that is not ADEM-VL; return what became of them."""
    if card.kind != HF:
        return f"model {card.name} is of kind {card.kind}, which has no files to fetch"
    from adem_bench.models.hf.settings import find_files, read_options

    files = find_files(card, read_options(card), data_root)
    state = f"fetched, commit {files.revision}" if files.revision else "already there"
    return f"{files.folder}: {state}"


def _files(card: ModelCard, data_root: Path | None) -> list[tuple[str, str, str]]:
    """Return each file that a card names, with its path and whether it is there."""
    if card.kind == ADEM:
        return _adem_files(card, data_root)
    if card.kind != HF:
        return []
    from adem_bench.models.hf.settings import find_folder, read_options

    source = read_options(card).source
    found = find_folder(card, source, data_root)
    missing = "no: taken from the Hugging Face hub, which keeps it in its own cache"
    return [("model", source, f"yes: {found}" if found else missing)]


def _adem_files(card: ModelCard, data_root: Path | None) -> list[tuple[str, str, str]]:
    from adem_bench.models.weights import NO_ADAPTER, missing_message, weights_path

    named = {
        "language model": card.language_model.path,
        "tokenizer": card.language_model.tokenizer,
        "CLIP tower": card.vision.path,
    }
    named |= {f"adapter {task}": source.path for task, source in card.adapters.items()}
    rows = []
    for what, path in named.items():
        if path and path != NO_ADAPTER:
            found = weights_path(path, card, data_root)
            shown = f"yes: {found}" if found else f"no: {missing_message(path, card, data_root)}"
            rows.append((what, path, shown))
    return rows
